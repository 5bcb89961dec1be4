"""Networks that turn a tile of a slide into a vector of features, behind one protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multimodn.base.cache import content_hash
from multimodn.errors import DataError, did_you_mean, did_you_mean_file
from multimodn.slides.embedding.networks import DEFAULT, LOADERS, Colour, Preprocessing, efficientnet, first_line

FORMS = (DEFAULT, "torchscript:FILE", "timm:FOLDER", "monai:FOLDER")
TILES_ON_ACCELERATOR = 64


class TileEncoder(Protocol):
    """Embeds tiles."""

    spec: str  # argument of `load_tile_encoder` that loads it again, in another process or on another machine
    name: str  # a short name; the same on every machine
    hash: str  # SHA-256 over weights, preprocessing and name
    feature_size: int  # width F of a feature vector
    tile_size: int  # side of a tile that it was made for, pixels
    mean: Colour  # of the three colours, in 0 to 1; subtracted first
    std: Colour  # of the three colours; divided by next
    device: str  # ``cpu``, or the kind of accelerator that it runs on

    def check_size(self, tile_size: int) -> int:
        """Returns F, or raises a DataError if it does not take tiles of this size."""
        ...

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the features ``(n, F)`` of RGB tiles ``(n, h, w, 3)``; no bit depends on the other tiles."""
        ...


class NetworkEncoder:
    """A `TileEncoder` of a torch module that maps ``(n, 3, h, w)`` to ``(n, F)``; ``weights`` is a hash of them."""

    def __init__(
        self, network: nn.Module, weights: str, preprocessing: Preprocessing, spec: str, name: str, device: str = "cpu"
    ) -> None:
        self.spec, self.name, self.tile_size = spec, name, preprocessing.tile_size
        self.mean, self.std = preprocessing.mean, preprocessing.std
        self.device = torch.device(device).type
        self._device = torch.device(device)
        # A kernel, and so the order of its sums, depends on the shape of its input: only a fixed shape gives a tile
        # the same bits in every batch. On a CPU one tile at a time is also the fastest (EfficientNet-Lite0: 51 tiles/s
        # against 31 by eight, one thread), as its activations stay in the processor's cache.
        self.n_at_once = 1 if self.device == "cpu" else TILES_ON_ACCELERATOR
        module: Any = network.eval().requires_grad_(False).to(self._device)
        self._network = module.to(memory_format=torch.channels_last)
        colours = json.dumps([self.tile_size, self.mean, self.std])
        self.hash = content_hash("tile encoder", name, weights, colours)
        self._scale = (1 / (255 * torch.tensor(self.std, dtype=torch.float32))).view(3, 1, 1).to(self._device)
        self._shift = (torch.tensor(self.mean) / torch.tensor(self.std)).view(3, 1, 1).to(self._device)
        self.feature_size = 0
        self.feature_size = self.check_size(self.tile_size)

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeds tiles; see `TileEncoder`. Raises a DataError if these are not RGB tiles."""
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3:
            problem = f"tiles of shape {tiles.shape} and type {tiles.dtype}; expected uint8 (n, height, width, 3)."
            raise DataError(f"Tile encoder '{self.name}': {problem}")
        features = np.empty((len(tiles), self.feature_size), dtype=np.float32)
        for start in range(0, len(tiles), self.n_at_once):
            part = torch.from_numpy(tiles[start : start + self.n_at_once])
            features[start : start + len(part)] = self._run(part)[: len(part)].numpy()
        return features

    def check_size(self, tile_size: int) -> int:
        """Returns the width of the features of a tile of this size, or raises a DataError if there is no vector."""
        try:
            features = self._run(torch.zeros(1, tile_size, tile_size, 3, dtype=torch.uint8))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            problem = f"does not take tiles of {tile_size} x {tile_size} pixels: {first_line(error)}"
            raise DataError(f"Tile encoder '{self.name}' {problem}") from None
        if features.ndim != 2 or (self.feature_size and features.shape[1] != self.feature_size):
            n, width = len(features), self.feature_size or "F"
            raise DataError(
                f"Tile encoder '{self.name}' returns shape {tuple(features.shape)} for {n} tile(s), expected "
                f"({n}, {width}): one vector a tile. Pool its output, for instance by "
                f"`nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten())`; of a timm transformer write "
                f'"model_args": {{"global_pool": "token"}}.'
            )
        return int(features.shape[1])

    @torch.inference_mode()
    def _run(self, tiles: Tensor) -> Tensor:
        n_missing = self.n_at_once - len(tiles)
        if n_missing:
            tiles = nn.functional.pad(tiles, (0, 0, 0, 0, 0, 0, 0, n_missing))
        # (n, h, w, 3) seen as (n, 3, h, w) is already in the layout `channels_last`
        pixels = tiles.to(self._device).permute(0, 3, 1, 2).to(torch.float32) * self._scale - self._shift
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features: Any = self._network(pixels)
        if not isinstance(features, Tensor):
            raise TypeError(f"it returns {type(features).__name__}, expected a tensor (n, F)")
        return features.to("cpu", torch.float32)


def load_tile_encoder(spec: str = DEFAULT, device: str = "cpu") -> NetworkEncoder:
    """Loads a tile encoder.

    Args:
        spec: One of

            - ``efficientnet-lite0``: 1,280 features of a network trained on ImageNet, from the packages of the extra
              ``slides``, without a download.
            - ``torchscript:FILE``: a network that `torch.jit.save` wrote, with `Preprocessing` in a JSON file of the
              same name. Such a file holds code: load only files that you trust.
            - ``timm:FOLDER``: ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``) as timm keeps them
              on the Hugging Face hub, such as UNI or Virchow, once downloaded. Needs timm.
            - ``monai:FOLDER``: ``config.json`` (`MonaiConfig`) and ``model.safetensors`` of a MONAI network.
        device: A torch device; ``auto`` = a GPU if there is one.

    Raises:
        DataError: If there is no such encoder, a file is missing or damaged, or the network gives no vector for a tile.
        MissingExtraError: If its library is not installed.

    References:
        Tan & Le (2019), EfficientNet, https://arxiv.org/abs/1905.11946; the Lite variant leaves out squeeze-and-
        excitation and has ReLU6: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if spec == DEFAULT:
        return NetworkEncoder(*efficientnet(), DEFAULT, DEFAULT, device)
    kind, _, where = spec.partition(":")
    if kind not in LOADERS or not where:
        raise DataError(f"Unknown tile encoder '{spec}'.{did_you_mean(spec, FORMS)}")
    path = Path(where).expanduser().resolve()
    if not path.exists():
        raise DataError(f"Tile encoder '{spec}': {path} does not exist.{did_you_mean_file(path)}")
    return NetworkEncoder(*LOADERS[kind](path), f"{kind}:{path}", f"{kind}:{path.stem}", device)
