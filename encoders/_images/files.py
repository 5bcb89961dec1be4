"""Reads one image file, PNG, JPEG, TIFF, DICOM or NIfTI, to pixel values.

MONAI's `LoadImage` was compared (1.6.1; `experiments/benchmarks/images_reading.py`). Its values are the same for grey
and RGB files of Pillow, single grey or RGB frames of DICOM and NIfTI in mm. They are others for palettes, 1-bit, YCbCr
and transparent images, Exif orientations, DICOM palettes, MONOCHROME1, modality lookup tables and series, and NIfTI in
other units; and it reads several pages, frames and CMYK as one image. So the libraries below it are used directly.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import MissingExtraError

Floats = NDArray[np.float32]
MAX_VALUE = 1e30  # largest pixel value; larger ones come from a damaged header


class PictureError(ValueError):
    """A file cannot be read as the expected image or volume; the message gives the reason and the repair."""


@dataclass(frozen=True)
class PixelData:
    """An image or a volume as a file stores it."""

    pixels: Floats  # ``(C, *space)`` in the file's units; space is (rows, columns) of an image, (x, y, z) of a volume
    is_byte: bool = False  # whether the pixels are display values from 0 to 255
    affine: NDArray[np.float64] | None = None  # of a volume, ``(4, 4)``: voxel index to mm right, anterior, superior


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppresses warnings of the libraries about harmless flaws of files, and makes errors of the others.

    Filters of warnings belong to the whole process, so this encloses a pool of threads, and is not used inside one.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "nibabel", "PIL")]  # which repeat every warning
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # padded pixel data, values that deviate from the standard: the pixels are complete, or an error follows; odd
        # tags of a TIFF or Exif block, which do not affect the pixels
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|PIL)(\.|$)")
        # pixels are missing, or too many
        warnings.filterwarnings("error", message=r"Truncated File Read", category=UserWarning)
        warnings.filterwarnings("error", message=r"Image size .* exceeds limit", category=RuntimeWarning)
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def reading(what: str, library: str) -> Iterator[None]:
    """Turns errors of a library on a broken file into `PictureError`, a missing library into `MissingExtraError`."""
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # infinite and NaN are refused later
            yield
    except (PictureError, MissingExtraError):
        raise
    except ImportError as error:
        raise MissingExtraError(f"Reading {what} files", "images", error) from None
    except Exception as error:  # these libraries raise anything, from KeyError to struct.error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        text = " ".join(line.strip() for line in lines[:2])[:200]
        raise PictureError(f"cannot be read as {what} ({library}: {text}). Export it again.") from error


def check_pixels(picture: PixelData) -> PixelData:
    """Returns the picture; raises a PictureError if pixels are not finite, or all the same (a failed export)."""
    pixels = picture.pixels
    if not pixels.size:
        raise PictureError(f"has no pixels (shape {pixels.shape}). Export it again.")
    n_wrong = int((~(np.abs(pixels) <= MAX_VALUE)).sum())
    if n_wrong:
        raise PictureError(
            f"has {n_wrong} of {pixels.size} pixels that are NaN, infinite or beyond {MAX_VALUE:g}. Give the "
            f"background a number, such as the lowest, and save it again."
        )
    if pixels.min() == pixels.max():
        raise PictureError(f"has the value {pixels.min():g} in every pixel: it is empty. Export it again.")
    return picture


def read_image(path: str) -> PixelData:
    """Reads a 2-D image, ``(1 or 3, rows, columns)``.

    Exif orientations are applied. DICOM pixels are rescaled, MONOCHROME1 is inverted, and colours become RGB. A NIfTI
    slice with an orientation is turned so that its rows run from anterior (or superior) down and its columns from the
    patient's left to right. Raises a PictureError if the file cannot be read as one 2-D image; see `check_pixels` too.
    """
    if Path(path).is_dir():
        raise PictureError("is a folder, expected an image file. Use kind `volume` for a DICOM series.")
    read = _dicom_image if is_dicom(path) else _nifti_image if is_nifti(path) else _pillow_image
    return check_pixels(read(path))


def is_nifti(path: str) -> bool:
    """Returns whether the name is that of a NIfTI file."""
    return path.lower().endswith((".nii", ".nii.gz"))


def is_dicom(path: str | Path) -> bool:
    """Returns whether a file is DICOM by its name or first bytes; raises a PictureError if there is no such file."""
    try:
        with Path(path).open("rb") as file:
            return file.read(132)[128:] == b"DICM" or str(path).lower().endswith((".dcm", ".dicom"))
    except OSError as error:
        raise PictureError(f"cannot be opened ({error.strerror}). Correct the path.") from None


def _pillow_image(path: str) -> PixelData:
    with reading("a PNG, JPEG, TIFF, DICOM or NIfTI image", "Pillow"):
        from PIL import Image, ImageOps

        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            n_pages = getattr(image, "n_frames", 1)
            if n_pages > 1 and image.format != "MPO":  # a camera's MPO is a JPEG followed by previews
                raise PictureError(f"has {n_pages} pages, expected one. Save the right page as a file.")
            image.load()
            return _pillow_picture(ImageOps.exif_transpose(image))


def _pillow_picture(image: Any) -> PixelData:
    mode = image.mode
    if mode in {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}:
        return PixelData(np.asarray(image).astype(np.float32)[None])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise PictureError("has transparent pixels, whose colour is undefined. Flatten it and save it again.")
    elif mode not in {"1", "L", "P", "RGB", "YCbCr"}:
        raise PictureError(f"has colour mode {mode}, expected grey or RGB. Convert it and save it again.")
    pixels = np.asarray(image.convert("L" if mode in {"L", "LA"} or image.mode == "1" else "RGB")).astype(np.float32)
    return PixelData(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0), is_byte=True)


def _dicom_image(path: str) -> PixelData:
    with reading("DICOM", "pydicom"):
        pixels, is_byte = dicom_pixels(read_dicom(path))
    is_colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim != 2 and not is_colour:
        raise PictureError(f"has {pixels.shape[0]} frames, expected one. Use kind `volume`, or save the frame.")
    return PixelData(np.moveaxis(pixels, 2, 0) if is_colour else pixels[None], is_byte)


def read_dicom(path: str | Path) -> Any:
    """Reads a DICOM file with its pixels; raises a PictureError if it holds none, such as a report."""
    import pydicom

    dataset = pydicom.dcmread(path)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise PictureError(f"is a DICOM file of modality {dataset.get('Modality', '?')} without pixels. Remove it.")
    return dataset


def dicom_pixels(dataset: Any) -> tuple[Floats, bool]:
    """Decodes DICOM pixels: grey values in their units ``([frames,] rows, columns)``, or RGB with a last axis of 3.

    Also returns whether they are 8-bit colours.
    """
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    stored = pixel_array(dataset)  # YBR becomes RGB
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if photometric == "PALETTE COLOR" or dataset.SamplesPerPixel == 3:
        return stored.astype(np.float32), stored.dtype == np.uint8
    if photometric == "MONOCHROME1":  # the lowest value is white; the sum of the ends of the stored range stays
        ends = -1 if dataset.get("PixelRepresentation", 0) else 2 ** int(dataset.get("BitsStored", 0)) - 1
        stored = ends - stored.astype(np.float64 if stored.dtype.kind == "f" else np.int64)
    return apply_modality_lut(stored, dataset).astype(np.float32), False


def _nifti_image(path: str) -> PixelData:
    with reading("NIfTI", "nibabel"):
        import nibabel

        image: Any = nibabel.load(path)
        shape = image.shape
        if len(shape) > 3 or sum(length > 1 for length in shape) > 2:
            raise PictureError(f"has shape {shape}, expected a 2-D image. Use kind `volume`, or save one slice.")
        if len(shape) == 3 and (image.header["sform_code"] or image.header["qform_code"]):
            check_affine(image.affine)
            turn: Any = nibabel.as_closest_canonical  # untyped
            image = turn(image)
        pixels = nifti_values(image)
        if pixels.ndim == 3:
            pixels = pixels.squeeze(max(axis for axis in range(3) if pixels.shape[axis] == 1))
    if pixels.ndim != 2:
        raise PictureError(f"has shape {shape}, expected a 2-D image.")
    return PixelData(np.ascontiguousarray(pixels.T[::-1])[None])


def nifti_values(image: Any) -> Floats:
    """Returns the scaled values of a NIfTI image, or raises a PictureError if they are colours or complex numbers."""
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        raise PictureError(f"has values of type {kind}, expected real numbers. Save one channel.")
    values: Floats = image.get_fdata(dtype=np.float32, caching="unchanged")
    return values


def check_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns an affine ``(4, 4)`` in mm, or raises a PictureError if its voxels have no volume."""
    if not np.isfinite(affine).all() or (np.linalg.norm(affine[:3, :3], axis=0) < 1e-4).any():
        sizes = np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist()
        raise PictureError(f"has voxels of {sizes} mm, expected three positive lengths. Convert it again.")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise PictureError("has axes that lie in one plane. Convert it again from its source.")
    return affine
