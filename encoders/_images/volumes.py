"""Reads one 3-D volume, NIfTI, a folder of DICOM slices or multi-frame DICOM, with its position in the patient.

MONAI's `PydicomReader` stacks slices by instance number instead of position, drops those without one, does not notice
missing slices, and ignores the positions of multi-frame files; its `NibabelReader` ignores the units of space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.encoders._images import files
from multimodn.encoders._images.files import Floats, PictureError, PixelData, check_affine, is_dicom, reading
from multimodn.errors import shown

MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
MAX_UNEVEN = 0.1  # largest difference of distances of slices, and of shifts in the plane, as a share of the distance
NOT_SLICES = {"dicomdir", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Slice:
    """One plane of a DICOM volume, in the patient's coordinates (mm; left, posterior, superior)."""

    pixels: Floats  # ``(rows, columns)``
    position: NDArray[np.float64]  # centre of the first pixel, ``(3,)``
    directions: NDArray[np.float64]  # unit vectors along a row and down a column, ``(2, 3)``
    spacing: tuple[float, float]  # distance between rows, and between columns


def read_volume(path: str) -> PixelData:
    """Reads a volume: pixels ``(1, x, y, z)`` as the file orders them, and its affine.

    Raises a PictureError if it cannot be read, is not a 3-D volume, does not state where its voxels lie, or has slices
    missing; see `check_pixels` too.
    """
    if not Path(path).is_dir() and not is_dicom(path) and not files.is_nifti(path):
        raise PictureError("is not a volume; expected NIfTI (.nii, .nii.gz), a DICOM file or a folder of DICOM slices.")
    read = _series if Path(path).is_dir() else _frames if is_dicom(path) else _nifti
    return files.check_pixels(read(path))


def slice_files(folder: Path) -> list[Path]:
    """Returns the files of a series folder without hidden ones and the indexes of file managers."""
    seen = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    return sorted(file for file in seen if file.name.lower() not in NOT_SLICES)


def _nifti(path: str) -> PixelData:
    with reading("NIfTI", "nibabel"):
        import nibabel

        image: Any = nibabel.load(path)
        shape = image.shape
        if len(shape) > 3 and set(shape[3:]) == {1}:
            image, shape = image.slicer[(..., *(0,) * (len(shape) - 3))], shape[:3]
        if len(shape) != 3:
            fix = "Save one of its volumes as a file." if len(shape) > 3 else "Use kind `image`."
            raise PictureError(f"has shape {shape}, expected three dimensions. {fix}")
        if 1 in shape:
            raise PictureError(f"has shape {shape}: a single slice. Use kind `image`.")
        header = image.header
        if not header["sform_code"] and not header["qform_code"]:
            problem = "does not state where its voxels lie: sform and qform are not set."
            raise PictureError(f"{problem} Convert it again from its source.")
        affine = np.array(image.affine, dtype=np.float64)
        affine[:3] *= MILLIMETRES[header.get_xyzt_units()[0]]
        return PixelData(files.nifti_values(image)[None], affine=check_affine(affine))


def _series(path: str) -> PixelData:
    with reading("a DICOM series", "pydicom"):
        paths = slice_files(Path(path))
        others = [slice_path.name for slice_path in paths if not is_dicom(slice_path)]
        if others:
            raise PictureError(f"holds files that are not DICOM slices: {shown(others)}. Move them elsewhere.")
        if len(paths) == 1:
            return _frames(str(paths[0]))
        datasets = {slice_path.name: files.read_dicom(slice_path) for slice_path in paths}
        if len(datasets) < 2:
            raise PictureError("holds no DICOM slices. Correct the path.")
        series = {str(dataset.get("SeriesInstanceUID")) for dataset in datasets.values()}
        if len(series) > 1:
            raise PictureError(f"holds {len(series)} series. Give each its own folder and name one of them.")
        places = {name: [dataset.get(tag) for _, tag in _PLACE] for name, dataset in datasets.items()}
        slices = {name: _slice(name, _grey(name, dataset, 2), places[name]) for name, dataset in datasets.items()}
    return _stack(slices)


def _grey(name: str, dataset: Any, n_axes: int) -> Floats:
    pixels, _ = files.dicom_pixels(dataset)
    if dataset.SamplesPerPixel != 1 or pixels.ndim != n_axes:
        expected = "one grey frame" if n_axes == 2 else "several grey frames"
        raise PictureError(f"{name} has pixels of shape {pixels.shape}, expected {expected}.")
    return pixels


def _slice(name: str, pixels: Floats, place: list[Any]) -> Slice:
    """Returns a slice from position, orientation and spacing as DICOM gives them."""
    names = ("position", "orientation", "pixel spacing")
    missing = [what for what, value in zip(names, place, strict=True) if not value]
    if missing:
        raise PictureError(f"{name} does not give its {' and '.join(missing)} in mm. Export the original series.")
    position, directions, spacing = (np.array([float(number) for number in value]) for value in place)
    if len(position) != 3 or len(directions) != 6 or len(spacing) != 2 or (spacing <= 0).any():
        raise PictureError(f"{name} has position {position}, orientation {directions} and pixel spacing {spacing}.")
    return Slice(pixels, position, directions.reshape(2, 3), (float(spacing[0]), float(spacing[1])))


def _frames(path: str) -> PixelData:
    """Reads a multi-frame file; the position of a frame is in its own functional groups or in the shared ones."""
    with reading("DICOM", "pydicom"):
        dataset = files.read_dicom(path)
        n_frames = int(dataset.get("NumberOfFrames") or 1)
        if n_frames < 2:
            raise PictureError("is a single slice. Name the folder of its series, or use kind `image`.")
        own = dataset.get("PerFrameFunctionalGroupsSequence") or [{}] * n_frames
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
        pixels = _grey("the file", dataset, 3)
        slices = {}
        for number, (frame, group) in enumerate(zip(pixels, own, strict=True), 1):
            place = [_tag(group, shared, *tag) for tag in _PLACE]
            slope, intercept = (_tag(group, shared, "PixelValueTransformationSequence", tag) for tag in _RESCALE)
            frame = frame * np.float32(1 if slope is None else slope) + np.float32(intercept or 0)
            slices[f"frame {number}"] = _slice(f"frame {number}", frame, place)
    return _stack(slices)


_PLACE = (
    ("PlanePositionSequence", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing"),
)
_RESCALE = ("RescaleSlope", "RescaleIntercept")


def _tag(own: Any, shared: Any, sequence: str, tag: str) -> Any:
    for group in (own, shared):
        items = group.get(sequence)
        if items and items[0].get(tag) is not None:
            return items[0].get(tag)
    return None


def _stack(slices: dict[str, Slice]) -> PixelData:
    """Joins slices along their normal, or raises a PictureError if they are not alike and evenly spaced."""
    names, planes = list(slices), list(slices.values())
    first = planes[0]
    odd = [name for name, plane in slices.items() if not _is_alike(plane, first)]
    if odd:
        raise PictureError(
            f"has slices whose size, spacing or orientation differs from that of {names[0]}: {shown(odd)}. "
            f"Move localisers and other series elsewhere."
        )
    positions = np.stack([plane.position for plane in planes])
    along = positions @ np.cross(*first.directions)
    order = np.argsort(along, kind="stable")
    steps = np.diff(positions[order], axis=0)
    distances = np.diff(along[order])
    usual = float(np.median(distances))
    if usual < 1e-3 or distances.min() < 1e-3:
        pair = [names[i] for i in order[int(distances.argmin()) :][:2]]
        raise PictureError(f"has several slices at one place ({' and '.join(pair)}). Keep one phase of the series.")
    uneven = np.abs(distances - usual) > MAX_UNEVEN * usual
    if uneven.any():
        gap = int(np.abs(distances - usual).argmax())
        raise PictureError(
            f"has slices at uneven distances: mostly {usual:.3g} mm, but {distances[gap]:.3g} mm between "
            f"{names[order[gap]]} and {names[order[gap + 1]]}. Add the missing slices."
        )
    step = steps.mean(0)
    if np.abs(steps - step).max() > MAX_UNEVEN * usual:  # a tilted gantry shifts all of them equally
        raise PictureError("has slices whose corners do not lie on a line. Export the original series.")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.directions[0] * first.spacing[1], first.directions[1] * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, positions[order[0]]
    affine[:2] *= -1  # DICOM's axes point left and posterior
    return PixelData(np.stack([planes[i].pixels.T for i in order], axis=2)[None], affine=check_affine(affine))


def _is_alike(one: Slice, other: Slice) -> bool:
    return (
        one.pixels.shape == other.pixels.shape
        and np.allclose(one.spacing, other.spacing, rtol=1e-3)
        and np.allclose(one.directions, other.directions, atol=1e-3)
    )
