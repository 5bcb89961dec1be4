"""Three-dimensional volumes: CT, MRI, PET."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from multimodn.base.encoder import Options
from multimodn.encoders._images.encoder import PictureEncoder
from multimodn.encoders._images.files import PixelData
from multimodn.encoders._images.options import PictureOptions
from multimodn.encoders._images.scaling import finish_volume
from multimodn.encoders._images.volumes import read_volume

Millimetres = Annotated[float, Field(gt=0.0)]
Length = Annotated[int, Field(ge=1)]


class VolumeOptions(PictureOptions):
    """Options of a volume modality; see `PictureOptions` for the others.

    Without a ``window``, a volume's own percentiles .5 and 99.5 become 0 and 1, as MRI needs it; CT is better given one
    in Hounsfield units, such as ``[-160, 240]``.

    Attributes:
        spacing: Voxel size in mm, right to left, front to back, head to foot, that every volume is resampled to.
        size: Voxels along the same axes. What lies outside the central ``size * spacing`` mm is cut off; what is
            missing there becomes 0.
        network: `small` for up to some hundred volumes, one of MONAI's, or the encoder of its Swin UNETR (`swin`).
    """

    spacing: tuple[Millimetres, Millimetres, Millimetres] = (2.0, 2.0, 2.0)
    size: tuple[Length, Length, Length] = (64, 64, 64)
    network: Literal["small", "resnet10", "resnet18", "densenet121", "swin"] = "small"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a prepared volume, ``(1, x, y, z)``."""
        return (1, *self.size)


class VolumeEncoder(PictureEncoder):
    """Encodes 3-D volumes: NIfTI, a folder of DICOM slices, or a multi-frame DICOM file.

    Prepared volumes are kept in the cache on disk: resampling takes longer than reading.
    """

    Options: ClassVar[type[Options]] = VolumeOptions
    header = "Encoder 'volume'"
    spatial_dims = 3
    left_right = 0
    keeps_on_disk = True

    @classmethod
    def read(cls, path: str) -> PixelData:
        """Reads a volume; see `read_volume`."""
        return read_volume(path)

    @classmethod
    def finish(cls, picture: PixelData, options: VolumeOptions) -> Tensor:
        """Scales, turns, resamples and crops a volume, float16 ``(1, x, y, z)``."""
        return finish_volume(picture, options.spacing, options.size, options.window)
