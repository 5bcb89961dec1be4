"""Two-dimensional images: radiographs, fundus photographs, ultrasound frames, photographs of skin."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from torch import Tensor

from multimodn.base.encoder import Options
from multimodn.encoders._images.encoder import PictureEncoder
from multimodn.encoders._images.files import PixelData, read_image
from multimodn.encoders._images.options import PictureOptions
from multimodn.encoders._images.scaling import finish_image

Length = Annotated[int, Field(ge=1)]


class ImageOptions(PictureOptions):
    """Options of an image modality; see `PictureOptions` for the others.

    Without a ``window``, 0 and 255 of 8-bit PNG, JPEG, TIFF and of colours in DICOM become 0 and 1; of 16-bit, grey
    DICOM and NIfTI images, the image's own percentiles .5 and 99.5 do.

    Attributes:
        size: Rows and columns that an image is fitted into, its proportions kept, the rest 0; one number = a square.
        channels: 3 = colour, where a grey image is repeated; 1 = grey, where a colour image becomes its luminance.
        network: `small` for up to some thousand images, or one of MONAI's.
    """

    size: tuple[Length, Length] = (128, 128)
    channels: Literal[1, 3] = 3
    network: Literal["small", "resnet10", "resnet18", "densenet121"] = "small"

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, size: Any) -> Any:
        return (size, size) if isinstance(size, int) else size

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a prepared image, ``(channels, rows, columns)``."""
        return (self.channels, *self.size)


class ImageEncoder(PictureEncoder):
    """Encodes 2-D images: PNG, JPEG, one page of TIFF, one frame of DICOM, one slice of NIfTI."""

    Options: ClassVar[type[Options]] = ImageOptions
    header = "Encoder 'image'"
    spatial_dims = 2
    left_right = 1

    @classmethod
    def read(cls, path: str) -> PixelData:
        """Reads an image; see `read_image`."""
        return read_image(path)

    @classmethod
    def finish(cls, picture: PixelData, options: ImageOptions) -> Tensor:
        """Scales and resizes an image, float16 ``(channels, rows, columns)``."""
        return finish_image(picture, options.size, options.channels, options.window)
