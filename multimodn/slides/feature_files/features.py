"""Feature files: the feature vectors of a slide's tiles, their positions and how they were made."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import DataError, did_you_mean, did_you_mean_file, import_extra
from multimodn.files import replacing
from multimodn.slides.feature_files import metadata
from multimodn.slides.feature_files.hdf5_file import Sink
from multimodn.slides.feature_files.metadata import FeatureMeta

__all__ = ["FeatureFile", "FeatureMeta", "SlideFeatures", "open_features", "read_features", "write_features"]

Features = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class SlideFeatures:
    """The tiles of a slide."""

    features: Features  # float16 or float32 ``(n, F)``, as they were stored
    coords: NDArray[np.int64] | None  # upper left corners ``(n, 2)``, x and y in level-0 pixels; None if not stated
    meta: FeatureMeta  # how they were made


class FeatureFile:
    """An open feature file of ``n`` tiles, made as ``meta`` states, whose rows are read on request."""

    def __init__(self, path: Path, features: Any, coords: Any, meta: FeatureMeta, handle: Any = None) -> None:
        self.path, self.meta, self._handle = path, meta, handle
        self._features, self._coords = features, coords
        self.n, self.feature_size = (int(size) for size in features.shape[-2:])

    def rows(self, start: int = 0, stop: int | None = None) -> Features:
        """Returns the features of some consecutive tiles, float16 or float32 ``(stop - start, F)``.

        Raises a DataError if one is not finite, or the file is damaged there.
        """
        stop = self.n if stop is None else min(stop, self.n)
        features = self._read(self._features, slice(start, stop))
        if features.dtype not in (np.float16, np.float32):
            features = features.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(bad):
            tile, coords = int(bad[0]) + start, self.coords()
            corner = "" if coords is None else " at ({}, {})".format(*coords[tile])
            problem = f"features that are not finite in {len(bad)} tiles, first in tile {tile}{corner}."
            hint = " Write them as float32: float16 ends at 65,504." if features.dtype == np.float16 else ""
            raise DataError(f"{self.path}: {problem} Make the file again.{hint}")
        return features

    def coords(self) -> NDArray[np.int64] | None:
        """Returns the upper left corners ``(n, 2)`` in level-0 pixels; None if the file has none."""
        if self._coords is None:
            return None
        coords = self._read(self._coords, slice(None))
        if coords.dtype.kind not in "iuf":
            raise DataError(f"{self.path}: `coords` is {coords.dtype}, expected level-0 pixels, whole numbers.")
        return coords.astype(np.int64)

    def close(self) -> None:
        """Closes the file."""
        if self._handle is not None:
            self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self, stored: Any, rows: slice) -> NDArray[Any]:
        try:
            return np.asarray(stored[0, rows] if len(stored.shape) == 3 else stored[rows])
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise DataError(f"{self.path} is damaged or truncated; make it again. ({error})") from None


def write_features(
    file: Path | str, features: Features | Iterable[Features], coords: NDArray[np.int64], meta: FeatureMeta
) -> None:
    """Writes a feature file; the same content gives the same bytes.

    Datasets are ``features`` ``(n, F)`` and ``coords`` ``(n, 2)``, as in files of CLAM and TRIDENT, so that programs
    for those read these; all of `FeatureMeta` are attributes of the file.

    Args:
        file: Where; ends in ``.h5``.
        features: Float16 or float32 ``(n, F)``, whole or as blocks of rows.
        coords: Upper left corners ``(n, 2)``, level-0 pixels.
        meta: How they were made.

    Raises:
        DataError: If there are no tiles, or not as many features as corners.
        OSError: If the file cannot be written, as on a full disk.
    """
    file = Path(file)
    blocks = iter([features] if isinstance(features, np.ndarray) else features)
    block = next(blocks, None)
    if block is None or not len(coords):
        raise DataError(f"{file}: there are no tiles to write.")
    with replacing(file) as temporary, Sink(temporary) as sink:
        start = 0
        with _h5py().File(sink, "w") as written:
            metadata.write_meta(written, coords, meta)
            # contiguous and without times: bytes that depend on the content alone, and rows that are read directly
            stored = written.create_dataset("features", (len(coords), block.shape[1]), block.dtype, track_times=False)
            for each in itertools.chain([block], blocks):
                if start + len(each) <= len(coords):
                    stored[start : start + len(each)] = each
                start += len(each)
            if start != len(coords):
                raise DataError(f"{file}: features of {start} tiles, but corners of {len(coords)}.")
        sink.check()


def open_features(path: Path | str) -> FeatureFile:
    """Opens a feature file of this package, CLAM or TRIDENT, without reading the features.

    Metadata that a file does not state are None. By the code of the other programs,

    - CLAM writes ``features`` and ``coords`` without attributes (``save_hdf5``, called by `extract_features_fp.py
      <https://github.com/mahmoodlab/CLAM/blob/14fbcc4/extract_features_fp.py>`_), and the features alone as a tensor
      in a ``.pt`` file. Its files of patches have ``patch_size``, ``patch_level`` and ``downsample`` at ``coords``,
      which give `extent`.
    - TRIDENT writes the same datasets, with ``patch_size``, ``patch_size_level0``, ``overlap``, ``level0_width``,
      ``level0_height`` and ``name`` at ``coords``, and ``encoder`` at ``features`` (``coords_to_h5`` in `IO.py
      <https://github.com/mahmoodlab/TRIDENT/blob/0408667/trident/IO.py>`_, ``extract_patch_features`` in `WSI.py
      <https://github.com/mahmoodlab/TRIDENT/blob/ac5f46e/trident/wsi_objects/WSI.py>`_). A magnification is no
      resolution, so `mpp` stays None.

    Raises:
        DataError: If it does not exist, is damaged, has no features, no tiles, or not as many corners as tiles.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"the file {path} does not exist.{did_you_mean_file(path)}")
    if path.suffix.lower() == ".pt":
        return FeatureFile(path, _checked(path, metadata.read_tensor(path), None), None, FeatureMeta())
    try:
        handle = _h5py().File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is truncated, or not an HDF5 file: {error}. Make or copy it again.") from None
    try:
        return _opened(path, handle)
    except BaseException as error:
        handle.close()
        if isinstance(error, DataError) or not isinstance(error, Exception):
            raise
        text = f"{path} is damaged, or no feature file; make it again. ({type(error).__name__}: {error})"
        raise DataError(text) from None


def read_features(
    path: Path | str, expect_encoder: str | None = None, expect_name: str | None = None, expect_size: int | None = None
) -> SlideFeatures:
    """Reads a whole feature file of a form that `open_features` reads.

    Args:
        path: The file.
        expect_encoder: Hash of the expected tile encoder, and ``expect_name`` its name for the message; None = any.
        expect_name: See there.
        expect_size: Expected width of the features; None = any.

    Raises:
        DataError: If it is damaged, a feature is not finite, or it is not as expected.
    """
    with open_features(path) as opened:
        meta = opened.meta
        if expect_encoder is not None and meta.encoder_hash != expect_encoder:
            made = f"'{meta.encoder}' (hash {meta.encoder_hash[:12]})" if meta.encoder_hash else "an unnamed encoder"
            raise DataError(
                f"{path}: its features were made by {made}, expected '{expect_name or 'the encoder'}' (hash "
                f"{expect_encoder[:12]}). Features of different encoders cannot be mixed: embed this slide again."
            )
        if expect_size is not None and opened.feature_size != expect_size:
            sizes = f"{opened.feature_size} features a tile, expected {expect_size}"
            raise DataError(f"{path}: {sizes}; it comes from another encoder.")
        return SlideFeatures(opened.rows(), opened.coords(), meta)


def _opened(path: Path, handle: Any) -> FeatureFile:
    if "features" not in handle:
        hint = did_you_mean("features", list(handle)) or " It is empty."
        raise DataError(f"{path} has no dataset 'features'.{hint}")
    schema, newest = handle.attrs.get("multimodn_schema"), metadata.SCHEMA
    if schema is not None and schema > newest:
        raise DataError(f"{path} has schema {schema}, and this version reads up to {newest}: update multimodn.")
    stored, coords = handle["features"], handle.get("coords")
    meta = metadata.foreign_meta(stored, coords) if schema is None else metadata.read_meta(handle.attrs)
    return FeatureFile(path, _checked(path, stored, coords), coords, meta, handle)


def _checked(path: Path, stored: Any, coords: Any) -> Any:
    shape, kind = tuple(getattr(stored, "shape", ())), np.dtype(getattr(stored, "dtype", "O")).kind
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1) or kind != "f":
        found = f"{getattr(stored, 'dtype', type(stored).__name__)} {shape}"
        raise DataError(f"{path}: `features` is {found}, expected floats (n, F) or (1, n, F).")
    n = shape[-2]
    if n == 0 or shape[-1] == 0:
        raise DataError(f"{path} has no tiles: `features` is {shape}. Leave the slide out, or embed it again.")
    corners = None if coords is None else tuple(getattr(coords, "shape", ()))
    if corners is not None and corners not in ((n, 2), (1, n, 2)):
        raise DataError(f"{path}: `coords` is {corners}, but there are {n} tiles; expected ({n}, 2).")
    return stored


def _h5py() -> Any:
    return import_extra("h5py", "A feature file", "slides")
