"""Brings pictures to the size, orientation and range of values that networks expect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.encoders._images.files import Floats, PictureError, PixelData

Window = tuple[float, float]
PERCENTILES = (0.5, 99.5)  # percentiles of a picture that become 0 and 1 if it has neither bytes nor a window
LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601)
MAX_LENGTH = 2500.0  # largest length of a volume in mm; a longer one comes from a wrong unit


def scale(picture: PixelData, window: Window | None) -> Floats:
    """Maps pixels to 0 to 1: the window's ends, 0 and 255 of bytes, else the picture's own percentiles.

    Raises a PictureError if all pixels lie on one side of the window.
    """
    pixels = picture.pixels
    if window is not None or picture.is_byte:
        low, high = window or (0.0, 255.0)
    else:
        low, high = np.percentile(pixels, PERCENTILES).tolist()
        if low == high:  # an object so small that it lies beyond the percentiles
            low, high = float(pixels.min()), float(pixels.max())
    scaled: Floats = np.clip((pixels - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)
    if scaled.min() == scaled.max():
        raise PictureError(
            f"has values from {pixels.min():g} to {pixels.max():g}, all on one side of the window [{low:g}, {high:g}]. "
            f"Correct `window`, or the file's units."
        )
    return scaled


def finish_image(picture: PixelData, size: tuple[int, int], channels: int, window: Window | None) -> Tensor:
    """Scales an image to 0 to 1, fits it into ``size`` with 0 around it: float16 ``(channels, *size)``."""
    from monai.transforms.croppad.array import ResizeWithPadOrCrop

    pixels = torch.from_numpy(scale(picture, window))
    if len(pixels) > channels:
        pixels = (pixels * torch.tensor(LUMINANCE)[:, None, None]).sum(0, keepdim=True)
    ratio = min(size[0] / pixels.shape[1], size[1] / pixels.shape[2])
    fitted = [max(1, min(size[axis], round(ratio * pixels.shape[1 + axis]))) for axis in (0, 1)]
    resized = F.interpolate(pixels[None], fitted, mode="bilinear", antialias=True)[0]
    return _plain(ResizeWithPadOrCrop(size, mode="constant")(resized.expand(channels, -1, -1)))


def finish_volume(
    picture: PixelData, spacing: tuple[float, float, float], size: tuple[int, int, int], window: Window | None
) -> Tensor:
    """Scales a volume, turns its axes right, anterior, superior, and resamples it to a grid around its centre.

    Axes are only swapped and flipped, so that an oblique acquisition keeps its planes. Voxels of less than half the
    spacing are averaged first, so that fine details do not become noise: MONAI's `Spacing` does not, and differs by up
    to .06 on 1 mm voxels; its own grid may also be a voxel short.

    Returns float16 ``(1, *size)`` in 0 to 1, with 0 outside the volume, or raises a PictureError if the volume is
    larger than a person or smaller than a voxel of the spacing.
    """
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import Orientation, SpatialResample

    affine = picture.affine
    assert affine is not None
    lengths = np.linalg.norm(affine[:3, :3], axis=0) * picture.pixels.shape[1:]
    if lengths.max() > MAX_LENGTH or lengths.max() < max(spacing):
        measures = " x ".join(f"{length:.4g}" for length in lengths)
        raise PictureError(f"measures {measures} mm, which is no part of a person. Correct the units of its voxels.")
    volume: Any = MetaTensor(torch.from_numpy(scale(picture, window)), affine=torch.from_numpy(affine))
    # the labels are MONAI's default; unnamed, they make it warn
    volume = Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(volume)
    turned = volume.affine.numpy()
    goal = _grid(turned, np.array(volume.shape[1:]), np.array(spacing), np.array(size))
    voxel = np.linalg.norm(turned[:3, :3], axis=0)
    factors = np.clip(np.floor(np.array(spacing) / voxel + 1e-3).astype(int), 1, volume.shape[1:])
    coarse = F.avg_pool3d(volume.as_tensor(), factors.tolist(), ceil_mode=True)
    pooled = turned @ np.diag([*factors, 1.0])
    pooled[:3, 3] = turned[:3, :3] @ ((factors - 1) / 2) + turned[:3, 3]
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", dtype=np.float32)
    coarse = MetaTensor(coarse, affine=torch.from_numpy(pooled))
    return _plain(resample(coarse, dst_affine=torch.from_numpy(goal), spatial_size=size))


def _grid(
    affine: NDArray[np.float64], shape: NDArray[np.int64], spacing: NDArray[np.float64], size: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the affine of a grid around the same centre, along the axes of ``affine`` made orthogonal."""
    axes, lengths = np.linalg.qr(affine[:3, :3])  # slices of a tilted gantry keep their plane, not their shift
    goal = np.eye(4)
    goal[:3, :3] = axes * np.sign(np.diag(lengths)) * spacing
    centre = affine[:3, :3] @ ((shape - 1) / 2) + affine[:3, 3]
    goal[:3, 3] = centre - goal[:3, :3] @ ((size - 1) / 2)
    return goal


def _plain(pixels: Any) -> Tensor:
    return torch.as_tensor(getattr(pixels, "array", pixels)).clamp(0, 1).half().contiguous()


def standardised(items: Tensor) -> Tensor:
    """Subtracts from each picture ``(n, C, *space)`` its own mean and divides by its own standard deviation."""
    axes = tuple(range(1, items.dim()))
    mean = items.mean(axes, keepdim=True)
    return (items - mean) / items.std(axes, correction=0, keepdim=True).clamp(min=1e-4)


class FixedScale(nn.Module):
    """Standardises pictures by the given statistics of each channel, or by their own; has no state."""

    def __init__(self, mean: Sequence[float] | None, deviation: Sequence[float] = ()) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, items: Tensor) -> Tensor:
        """Returns pictures of the same shape ``(n, C, *space)``."""
        if self.mean is None:
            return standardised(items)
        shape = (1, -1, *[1] * (items.dim() - 2))
        return (items - items.new_tensor(self.mean).view(shape)) / items.new_tensor(self.deviation).view(shape)


def augmented(items: Tensor, left_right: int) -> Tensor:
    """Rotates, shifts, zooms and mirrors pictures ``(n, C, *space)``, each by its own draw from torch's generator.

    By up to 10 degrees about every axis, 5 % and 10 %; one in two is mirrored along ``left_right``, 0 = the first axis
    of space. All is one resampling of the batch.
    """
    n, n_axes = len(items), items.dim() - 2

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(n, *shape, dtype=items.dtype, device=items.device) - 1

    turn = uniform(n_axes, n_axes) * math.radians(10)
    turn = torch.linalg.matrix_exp(turn.triu(1) - turn.triu(1).mT)
    lengths = items.new_tensor(items.shape[:1:-1])  # affine_grid counts axes from the last one
    linear = turn * (lengths / lengths[:, None]) * (1 + 0.1 * uniform(1, 1))
    signs = torch.ones(n, n_axes, dtype=items.dtype, device=items.device)
    signs[:, n_axes - 1 - left_right] = torch.where(uniform() < 0, -1.0, 1.0).to(items.dtype)
    theta = torch.cat([linear * signs[:, None], 0.1 * uniform(n_axes, 1)], dim=2)
    grid = F.affine_grid(theta, list(items.shape), align_corners=False)
    return F.grid_sample(items, grid, padding_mode="border", align_corners=False)
