"""The base of the kinds `image` and `volume`: an encoder around a network."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from multimodn.base.cache import OutputCache, content_hash, file_hash
from multimodn.base.encoder import JSON, Encoder
from multimodn.base.feature_groups import Parts
from multimodn.base.ragged import total
from multimodn.encoders._images.files import PixelData
from multimodn.encoders._images.networks import FEATURE_SIZES, Architecture, ImageNetwork
from multimodn.encoders._images.options import PictureOptions
from multimodn.encoders._images.patches import cut_patches, gated
from multimodn.encoders._images.scaling import FixedScale, augmented, standardised
from multimodn.encoders._images.values import FileList, Pictures, Recipe, frozen_features, load_pictures
from multimodn.encoders._layers import Layers
from multimodn.encoders._reading import check_columns
from multimodn.errors import DataError, StudyError, UnreadableError

HIDDEN_SIZE = 64
N_SAMPLED = 256  # training pictures, evenly spaced, for the mean and standard deviation of pixels
N_AT_ONCE = 64  # pictures in a batch of the network without gradients
VERSION = "pictures 1"  # part of the cache's key; to be changed with anything that changes the prepared pictures
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of the colours in ImageNet


class PictureEncoder(Encoder):
    """Encodes the pictures of a patient by one network; the features of several pictures are averaged.

    A frozen network runs in `prepare`: its features, cached on disk by the content of the files, are standardised by
    the training patients' mean and standard deviation; its weights stay in their file, whose hash is in the
    configuration. The weights of a trained network, ``network`` (else None), are in the state.
    """

    several_rows: ClassVar[bool] = True
    header: ClassVar[str]
    spatial_dims: ClassVar[int]
    left_right: ClassVar[int]  # the axis of a prepared picture from left to right
    keeps_on_disk: ClassVar[bool] = False  # always, because preparing pictures takes longer than reading them from disk
    mean: Tensor
    rate: Tensor

    def __init__(self, options: Any, weights_hash: str | None) -> None:
        super().__init__()
        self.options, self.weights_hash = options, weights_hash
        self.columns, self.embedding_size = [options.column], options.embedding_size
        self.on_error = options.on_error
        self.feature_size = FEATURE_SIZES[options.network]
        self.network = None if options.frozen else ImageNetwork(self._architecture())
        n_layers = 1 if options.frozen else 0
        self.layers = Layers(self.feature_size, HIDDEN_SIZE, n_layers, self.embedding_size, options.dropout)
        n_scaled = self.feature_size if options.frozen else options.shape[0]
        self.vector_size = self.feature_size if options.frozen else 0  # a network that learns has no fixed vector
        self.register_buffer("mean", torch.zeros(n_scaled))
        self.register_buffer("rate", torch.ones(n_scaled))

    @staticmethod
    def file_columns(options: PictureOptions) -> list[str]:
        """Returns the column of file paths."""
        return [options.column]

    @classmethod
    @abstractmethod
    def read(cls, path: str) -> PixelData:
        """Reads a file, or raises a `PictureError`."""

    @classmethod
    @abstractmethod
    def finish(cls, picture: PixelData, options: Any) -> Tensor:
        """Scales and resizes a picture to float16 ``options.shape``, values in 0 to 1."""

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: Any) -> Self:
        """Builds the encoder from training rows; see `Encoder.fit`.

        Pixel statistics come from at most 256 training pictures, evenly spaced; a frozen network reads all. Raises a
        StudyError if the weights cannot be read, or do not fit the network.
        """
        check_columns(frame, [options.column], cls.header)
        if not len(frame):
            raise DataError(f"{cls.header}: there are no training rows.")
        weights_hash = cls._weights_hash(options)
        encoder = cls(options, weights_hash)
        if options.frozen:
            features = encoder._frozen(frame)
            encoder.mean, deviation = features.mean(0), features.std(0, correction=0)
            encoder.rate = torch.where(deviation > 1e-6, 1 / deviation, 0)  # 0: dead on the training rows
            return encoder
        assert encoder.network is not None
        if weights_hash is not None:
            encoder.network.load(options.weights, cls.header)
        sampled = np.unique(np.linspace(0, len(frame) - 1, min(N_SAMPLED, len(frame))).round().astype(int))
        try:
            encoder._fit_pixels(cast(Pictures, encoder.prepare(frame.iloc[sampled])))
        except UnreadableError:
            encoder.prepare(frame)  # names all of them, not only those of the sample
            raise
        return encoder

    def _fit_pixels(self, pictures: Pictures) -> None:
        if self._normalise() == "imagenet":
            self.mean, self.rate = torch.tensor(IMAGENET[0]), 1 / torch.tensor(IMAGENET[1])
        if self._normalise() != "training":
            return
        sums = torch.zeros(2, len(self.mean), dtype=torch.float64)
        for rows in torch.split(torch.arange(len(pictures)), N_AT_ONCE):
            items = pictures[rows].stacked().items.double().flatten(2)
            sums += torch.stack([items.mean(2), items.square().mean(2)]).sum(1)
        mean, square = sums / int(pictures.files.lengths.sum())
        self.mean, self.rate = mean.float(), (square - mean.square()).clamp(min=1e-8).rsqrt().float()

    def prepare(self, frame: pd.DataFrame) -> Tensor | Pictures:
        """Reads pictures, or of a frozen network standardised features, float32 ``(n, feature_size)``.

        Raises a StudyError if the weights of a frozen network are missing or changed; else see `Encoder.prepare`.
        """
        check_columns(frame, self.columns, self.header)
        if self.network is None:
            return (self._frozen(frame) - self.mean.cpu().float()) * self.rate.cpu().float()
        return load_pictures(self._listing(frame), self._recipe(), self.options.memory_gb)

    def forward(self, values: Tensor | Pictures) -> Tensor:
        """Encodes prepared rows to ``(n, embedding_size)``, each independently of the others."""
        if isinstance(values, Tensor):
            features = values.to(self.layers.straight.weight.dtype)
        elif torch.is_grad_enabled() or len(values) <= N_AT_ONCE:
            features = self._features(values)
        else:  # the activations of a whole cohort would fill the memory
            parts = torch.split(torch.arange(len(values)), N_AT_ONCE)
            features = torch.cat([self._features(values[rows]) for rows in parts])
        return self.layers(features)

    def vector(self, values: Tensor | Pictures) -> Tensor:
        """Returns the standardised features of a frozen network; see `Encoder.vector`."""
        return values if isinstance(values, Tensor) else super().vector(values)

    def parts(self, frame: pd.DataFrame, values: Tensor | Pictures, patch: int) -> Parts:
        """Makes each patch of each picture a part, of its pixels; see `Encoder.parts`, and `prepare` for the errors."""
        listing, network = self._listing(frame), None
        if not isinstance(values, Pictures):
            values = load_pictures(listing, self._recipe(), self.options.memory_gb)
            network = cast(nn.Sequential, self._frozen_network().requires_grad_(False))
        return cut_patches(values, listing, patch, self._normalise(), network)

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Encodes pictures with their normalised pixels behind gates; see `Encoder.encode_parts`."""
        items, which, shaped, q = parts.content.items(rows, gates)
        frozen = parts.content.frozen
        if frozen is None:
            assert self.network is not None
            shown = gated(self._normalised(items.to(self.mean)), which, shaped, q)
            return self.layers(self.network(shown).view(len(rows), q, -1).mean(1))
        return self.layers(self.vector_parts(parts, rows, gates))

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns features of a frozen network with pixels behind gates; see `Encoder.vector_parts`."""
        items, which, shaped, q = parts.content.items(rows, gates)
        frozen = parts.content.frozen
        made = parts.content.once(gates, lambda: frozen[1](gated(frozen[0](items.float()), which, shaped, q)))
        features: Tensor = (made.view(len(rows), q, -1).mean(1).to(self.mean) - self.mean) * self.rate
        return features

    def _features(self, values: Pictures) -> Tensor:
        assert self.network is not None
        pictures = values.stacked()
        items = self._normalised(pictures.items.to(self.layers.straight.weight.dtype))
        if self.training and self.options.augment == "light":
            items = augmented(items, self.left_right)
        features: Tensor = self.network(items)
        return total(features, pictures.rows, len(pictures)) / pictures.lengths[:, None].to(features.dtype)

    def _normalised(self, items: Tensor) -> Tensor:
        if self._normalise() == "picture":
            return standardised(items)
        shape = (1, -1, *[1] * self.spatial_dims)
        return (items - self.mean.view(shape)) * self.rate.view(shape)

    def _normalise(self) -> str:
        if self.options.normalise != "auto":
            return str(self.options.normalise)
        with_weights = "imagenet" if self.options.shape[0] == 3 else "picture"
        return "training" if self.options.weights is None else with_weights

    def _frozen(self, frame: pd.DataFrame) -> Tensor:
        """Returns the mean features of each patient's pictures, float32 ``(n, feature_size)``."""
        key = [VERSION, self._recipe().key, self.options.network, str(self.weights_hash), self._normalise()]
        cache, listing = OutputCache(content_hash(*key)), self._listing(frame)
        features = frozen_features(listing, self._recipe(), cache, self._frozen_network, self.feature_size)
        rows = torch.arange(len(listing.lengths)).repeat_interleave(listing.lengths)
        return total(features, rows, len(listing.lengths)) / listing.lengths[:, None]

    def _listing(self, frame: pd.DataFrame) -> FileList:
        return FileList.of(frame, self.options.column, self.header)

    def _frozen_network(self) -> nn.Module:
        if self._weights_hash(self.options) != self.weights_hash:
            raise StudyError(
                f"{self.header}: the weights {self.options.weights} are not those that the encoder was fitted with. "
                f"Restore the file."
            )
        network = ImageNetwork(self._architecture())
        network.load(self.options.weights, self.header)
        normalise = FixedScale(*IMAGENET) if self._normalise() == "imagenet" else FixedScale(None)
        return nn.Sequential(normalise, network).eval()

    def _architecture(self) -> Architecture:
        options = self.options
        return Architecture(options.network, self.spatial_dims, options.shape[0], options.weights is not None)

    def _recipe(self) -> Recipe:
        """Returns how files become pictures; only options that matter for that are in its key."""
        options = self.options
        dumped = options.model_dump(mode="json")
        decisive = {name: dumped.get(name) for name in ("size", "channels", "spacing", "window")}
        key = content_hash(json.dumps([VERSION, self.header, decisive]))
        return Recipe(key, options.shape, self.keeps_on_disk, lambda path: self.finish(self.read(path), options))

    @classmethod
    def _weights_hash(cls, options: PictureOptions) -> str | None:
        if options.weights is None:
            return None
        try:
            return file_hash(options.weights)
        except OSError as error:
            raise StudyError(
                f"{cls.header}: `weights` names the file {options.weights}, which cannot be opened ({error.strerror})."
            ) from None

    def config(self) -> dict[str, JSON]:
        """Returns the options and the hash of the weights file."""
        return {"options": self.options.model_dump(mode="json"), "weights_hash": self.weights_hash}

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``; the weights file is not opened."""
        return cls(cls.Options.model_validate(config["options"]), config["weights_hash"])
