"""MONAI networks that map pictures to feature vectors, independently of the batch, and their weights."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from multimodn.errors import DataWarning, StudyError, import_extra, shown

N_GROUPS = 8
SMALL_WIDTHS = (8, 16, 32, 64)
FEATURE_SIZES = {"small": 2 * sum(SMALL_WIDTHS), "resnet10": 512, "resnet18": 512, "densenet121": 1024, "swin": 768}
MIN_SIZES = {"small": 16, "resnet10": 16, "resnet18": 16, "densenet121": 32, "swin": 32}  # pixels along every axis
# layers of published weights that follow the features
HEADS = ("fc", "class_layers", "classifier", "conv_seg", "rotation_head", "contrastive_head", "convTrans3d", "norm")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Architecture:
    """The layers of a network."""

    name: str  # `small`, `resnet10`, `resnet18`, `densenet121` or `swin`
    spatial_dims: int  # 2 or 3
    channels: int  # channels of a picture
    is_pretrained: bool  # whether weights are given; without them, batch norms become group norms


class ImageNetwork(nn.Module):
    """Maps pictures ``(n, C, *space)`` to features ``(n, feature_size)``, each independently of the others.

    Networks without pretrained weights have group norms (Wu and He, 2018, https://arxiv.org/abs/1803.08494) in place of
    batch norms; batch norms of pretrained networks always use the statistics that came with the weights.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.body, self.feature_size = _BUILDERS[architecture.name](architecture), FEATURE_SIZES[architecture.name]
        if not architecture.is_pretrained:
            _replace_batch_norms(self.body)

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns ``(n, feature_size)``."""
        if not len(pictures):
            return pictures.new_zeros(0, self.feature_size)
        features: Any = self.body(pictures)
        if isinstance(features, list):  # of a transformer: a grid of features for each depth
            features = features[-1].flatten(2).mean(2)
        return torch.as_tensor(features)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self

    def load(self, path: str, header: str) -> None:
        """Loads a weights file into the layers; raises a StudyError if it cannot be read, or does not fit them.

        Names may be MONAI's, torchvision's of `densenet121` and of the 2-D `resnet18`, or MedicalNet's.
        """
        wanted = self.body.state_dict()
        given = {_own_name(name): tensor for name, tensor in read_weights(path, header).items()}
        counters = {name for name in wanted if name.endswith("num_batches_tracked")}
        missing = [name for name in wanted if name not in given and name not in counters]
        problems = [f"{len(missing)} of {len(wanted)} tensors are missing: {shown(missing, 4)}"] if missing else []
        problems += [
            f"{name} has shape {tuple(given[name].shape)}, expected {tuple(wanted[name].shape)}"
            for name in wanted
            if name in given and given[name].shape != wanted[name].shape
        ]
        if problems:
            raise StudyError(
                f"{header}: the weights {path} do not fit the network: {shown(problems, 4)}. Correct `network`, or "
                f"`channels` if the first layer differs."
            )
        spare = sorted({name.split(".")[0] for name in given.keys() - wanted.keys()} - set(HEADS))
        if spare:
            warnings.warn(f"{header}: layers of {path} that are not used: {shown(spare)}.", DataWarning, stacklevel=3)
        self.body.load_state_dict({name: given.get(name, tensor) for name, tensor in wanted.items()})


class _Small(nn.Module):
    """Four strided convolutions; the mean and the maximum of every depth are features.

    So a linear layer can read brightness and texture, which small cohorts learn first; the first depth has no norm,
    which would remove brightness.
    """

    def __init__(self, architecture: Architecture) -> None:
        from monai.networks.blocks.convolutions import Convolution

        super().__init__()
        options: Any = {"strides": 2, "act": ("relu", {"inplace": False}), "adn_ordering": "NA"}
        norms = [None, *[("group", {"num_groups": N_GROUPS // 2})] * (len(SMALL_WIDTHS) - 1)]
        sizes = pairwise([architecture.channels, *SMALL_WIDTHS])
        self.depths = nn.ModuleList(
            Convolution(architecture.spatial_dims, before, width, norm=norm, **options)
            for norm, (before, width) in zip(norms, sizes, strict=True)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        pooled = []
        for convolution in self.depths:
            pictures = convolution(pictures)
            places = pictures.flatten(2)
            pooled += [places.mean(2), places.amax(2)]
        return torch.cat(pooled, dim=1)


def _resnet(architecture: Architecture) -> Any:
    from monai.networks.nets.resnet import resnet10, resnet18

    build = resnet10 if architecture.name == "resnet10" else resnet18
    options: Any = {"conv1_t_stride": 2, "bias_downsample": False, "feed_forward": False}
    return build(spatial_dims=architecture.spatial_dims, n_input_channels=architecture.channels, **options)


def _densenet(architecture: Architecture) -> Any:
    from monai.networks.nets.densenet import DenseNet121

    network: Any = DenseNet121(architecture.spatial_dims, architecture.channels, out_channels=1)
    network.class_layers.out = nn.Identity()
    return network


def _swin(architecture: Architecture) -> Any:
    import_extra("einops", "Network 'swin'", "images")  # MONAI's transformer would import it only when it runs
    from monai.networks.nets.swin_unetr import SwinTransformer

    dims = architecture.spatial_dims
    options: Any = {"embed_dim": 48, "depths": (2, 2, 2, 2), "num_heads": (3, 6, 12, 24), "spatial_dims": dims}
    return SwinTransformer(architecture.channels, window_size=(7,) * dims, patch_size=(2,) * dims, **options)


_BUILDERS: Mapping[str, Callable[[Architecture], nn.Module]]
_BUILDERS = {"small": _Small, "resnet10": _resnet, "resnet18": _resnet, "densenet121": _densenet, "swin": _swin}


def _replace_batch_norms(module: nn.Module) -> None:
    # MONAI's ResNet takes `norm`, but does not pass it on to its blocks (1.6.1); replacing them serves every network
    for name, child in module.named_children():
        if isinstance(child, BATCH_NORMS):
            setattr(module, name, nn.GroupNorm(math.gcd(N_GROUPS, child.num_features), child.num_features))
        else:
            _replace_batch_norms(child)


def read_weights(path: str, header: str) -> dict[str, Tensor]:
    """Reads the tensors of a .safetensors file, or of a state dict saved by `torch.save`; else raises a StudyError."""
    if not Path(path).is_file():
        raise StudyError(f"{header}: `weights` names the file {path}, which does not exist.")
    try:
        if path.lower().endswith(".safetensors"):
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise anything on a file of another kind
        lines = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise StudyError(f"{header}: the weights {path} cannot be read: {lines[0]}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {name: x for name, x in content.items() if isinstance(x, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise StudyError(f"{header}: {path} holds no named tensors. Save the network's `state_dict`.")
    return tensors


def _own_name(name: str) -> str:
    """Translates a tensor's name to MONAI's."""
    name = re.sub(r"^(module\.|swinViT\.|body\.)+", "", name)
    name = re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", name)
    return re.sub(r"(denselayer\d+)\.(norm|conv)\.?([12])\.", r"\1.layers.\2\3.", name)
