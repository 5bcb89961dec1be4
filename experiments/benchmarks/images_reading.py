"""Compares the pixel values that this package reads from images and volumes with those of MONAI's `LoadImage`.

Reads the DICOM files that come with pydicom, and small PNG, JPEG, TIFF and NIfTI files of every kind that it writes to
a temporary folder. Writes `IMAGES.md` beside this file.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai
import nibabel
import numpy as np
import pydicom
from monai.data.image_reader import NibabelReader, PILReader, PydicomReader
from monai.transforms import LoadImage
from PIL import Image

from multimodn.encoders._images.files import PictureError, quiet_libraries, read_image
from multimodn.encoders._images.volumes import read_volume

READERS = {
    "Pillow": PILReader(reverse_indexing=False),
    "pydicom": PydicomReader(swap_ij=False),
    "NIfTI": NibabelReader(),
}


def with_monai(path: Path, reader: str) -> np.ndarray:
    """Returns what MONAI reads, in our order of axes."""
    pixels = np.asarray(LoadImage(READERS[reader], image_only=True)(path)).astype(np.float32)
    is_colour = reader != "NIfTI" and pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    return np.moveaxis(pixels, 2, 0) if is_colour else pixels[None]


def compare(path: Path, reader: str, ours: Callable[[str], Any]) -> str:
    """Returns one phrase: what differs between both readers."""
    with quiet_libraries():
        try:
            mine = ours(str(path)).pixels
        except PictureError:
            mine = None
        try:
            theirs = with_monai(path, reader)
        except Exception:  # of many kinds
            theirs = None
    if mine is None or theirs is None:
        return {(True, True): "both refuse", (True, False): "only we refuse"}.get(
            (mine is None, theirs is None), "only MONAI refuses"
        )
    if mine.shape != theirs.shape:
        return f"shapes {mine.shape} and {theirs.shape}"
    return "equal" if np.array_equal(mine, theirs) else f"differ by up to {np.abs(mine - theirs).max():.4g}"


def pillow_files(folder: Path) -> list[Path]:
    """Writes an image in every mode."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    grey, deep = rgb.convert("L"), Image.fromarray(rng.integers(0, 60_000, (20, 24)).astype(np.uint16))
    images = {"rgb.png": rgb, "grey.png": grey, "deep.png": deep, "rgb.jpg": rgb, "rgb.tif": rgb}
    images |= {"palette.png": rgb.quantize(16), "bit.png": grey.convert("1"), "rgba.png": rgb.convert("RGBA")}
    images |= {"cmyk.jpg": rgb.convert("CMYK"), "ycbcr.tif": rgb.convert("YCbCr")}
    for name, image in images.items():
        image.save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    rgb.save(folder / "exif.jpg", exif=exif)
    return [*(folder / name for name in images), folder / "exif.jpg"]


def nifti_files(folder: Path) -> list[Path]:
    """Writes a volume in several types."""
    values = np.random.default_rng(1).uniform(0, 255, (8, 9, 10))
    files = []
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        image: Any = nibabel.Nifti1Image(values.astype(dtype), np.diag([2.0, 2.0, 2.0, 1.0]))
        if dtype == np.int16:
            image.header.set_slope_inter(0.0137, -3.3)
        files.append(folder / f"{np.dtype(dtype)}.nii.gz")
        nibabel.save(image, files[-1])
    return files


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [(f"`{path.name}`", compare(path, "Pillow", read_image)) for path in pillow_files(folder)]
        rows += [(f"`{path.name}`", compare(path, "NIfTI", read_volume)) for path in nifti_files(folder)]
    dicom = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    results = {path.name: compare(path, "pydicom", read_image) for path in dicom}
    counts = Counter(results.values())
    rows += [(f"{counts[result]} DICOM files", result) for result in ("equal", "both refuse")]
    rows += [(f"`{name}`", result) for name, result in results.items() if result not in ("equal", "both refuse")]
    table = "\n".join(f"| {name} | {result} |" for name, result in rows)
    text = f"""# Reading images: this package and MONAI

Written by `python experiments/benchmarks/images_reading.py`; do not edit. MONAI {monai.__version__}, `LoadImage` with
`PILReader`, `PydicomReader`, `NibabelReader`; DICOM files are those of pydicom {pydicom.__version__}.

| file | pixel values |
|---|---|
{table}
"""
    (Path(__file__).parent / "IMAGES.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
