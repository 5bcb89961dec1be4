"""Reads the feature files of slides, and checks that they were made in the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.encoders._reading import Series, check_columns, is_empty
from multimodn.encoders._slides.bags import BLOCK_TILES, Bags, TileStore, read_rows
from multimodn.errors import DataError, UnreadableError, raise_all
from multimodn.slides.feature_files.features import FeatureMeta, open_features

HEADER = "Encoder 'slide'"
SAME_RESOLUTION = 0.01  # largest share by which equal resolutions differ


@dataclass(frozen=True)
class TileSource:
    """How the features of a study were made; None = not stated by its files."""

    feature_size: int  # features of a tile
    encoder: str | None = None  # name of the tile encoder
    encoder_hash: str | None = None  # its hash
    tile_mpp: float | None = None  # microns per pixel of a tile
    stain: str | None = None  # name of the stain normaliser

    @classmethod
    def of(cls, feature_size: int, meta: FeatureMeta) -> TileSource:
        """Takes from a file's metadata what must be the same in all files."""
        return cls(feature_size, meta.encoder, meta.encoder_hash, meta.tile_mpp, meta.stain)

    def difference(self, other: TileSource) -> str | None:
        """Returns in what ``other`` differs from this source, of what both state; None = nothing."""
        if other.feature_size != self.feature_size:
            return f"{other.feature_size} features a tile, expected {self.feature_size}"
        hashes, names = (self.encoder_hash, other.encoder_hash), (self.encoder, other.encoder)
        if all(hashes):
            differs = hashes[0] != hashes[1]
        else:  # programs name encoders in their own ways: only names of files without a hash can be compared
            differs = not any(hashes) and None not in names and names[0] != names[1]
        if differs:
            return f"features from encoder {_named(other)}, expected {_named(self)}"
        if self.tile_mpp and other.tile_mpp and abs(other.tile_mpp / self.tile_mpp - 1) > SAME_RESOLUTION:
            return f"tiles at {other.tile_mpp:g} microns per pixel, expected {self.tile_mpp:g}"
        if self.stain and other.stain and self.stain != other.stain:
            return f"tiles with stain normaliser '{other.stain}', expected '{self.stain}'"
        return None


def _named(source: TileSource) -> str:
    return f"'{source.encoder}'" + (f" (hash {source.encoder_hash[:12]})" if source.encoder_hash else "")


@dataclass(frozen=True)
class _OpenedFile:
    path: str
    patient: str
    source: TileSource
    is_half: bool
    coords: Tensor


def load_bags(
    frame: pd.DataFrame, column: str, memory_gb: float, source: TileSource | None = None, *, needs_coords: bool = False
) -> tuple[Bags, TileSource]:
    """Reads the feature files of patients, in the order of ``frame.index.unique()``, and how they were made.

    All files are read and checked once, even if their features, because of more than ``memory_gb``, stay on disk.
    Without ``source`` they must only have been made in the same way. With ``needs_coords`` a file without coordinates
    is unreadable.

    Raises:
        DataError: If the column is missing, a patient has a file twice, or files come from different encoders.
        UnreadableError: If files are missing, damaged, without a tile, or hold numbers that are not finite.
    """
    check_columns(frame, [column], HEADER)
    patients = frame.index.unique()
    cells = frame[column].iloc[np.argsort(patients.get_indexer(frame.index), kind="stable")]
    pairs = pd.MultiIndex.from_arrays([cells.index, cells])
    repeated = pairs[pairs.duplicated() & ~is_empty(cells)].unique()
    twice = [f"patient '{patient}' has the file {path} twice; keep one row." for patient, path in repeated]
    raise_all(twice, DataError, HEADER)
    problems: dict[str, list[str]] = {}
    files = _open_all(cells, problems, needs_coords)
    source = _check_sources(files, source) if files or source is not None else TileSource(0)
    lengths = [len(file.coords) for file in files]
    dtype = torch.float16 if all(file.is_half for file in files) else torch.float32
    features = None
    if sum(lengths) * source.feature_size * dtype.itemsize <= memory_gb * 1e9:
        features = torch.empty(sum(lengths), source.feature_size, dtype=dtype)
    _read_all(files, features, problems)
    if problems:
        raise UnreadableError(HEADER, {patient: " ".join(texts) for patient, texts in problems.items()})
    paths, owners = tuple(file.path for file in files), torch.from_numpy(patients.get_indexer(cells.index))
    coords = torch.cat([torch.empty(0, 2), *(file.coords for file in files)])
    n_tiles = torch.tensor(lengths, dtype=torch.long)
    return Bags.of(TileStore(patients, paths, owners, n_tiles, coords, features, source.feature_size)), source


def _open_all(cells: Series, problems: dict[str, list[str]], needs_coords: bool) -> list[_OpenedFile]:
    files = list[_OpenedFile]()
    for patient, path, has_none in zip(cells.index, cells, is_empty(cells).tolist(), strict=True):
        try:
            if has_none:
                raise DataError(f"column '{cells.name}' is empty in one of the patient's rows.")
            with open_features(path) as file:
                coords, half = file.coords(), file.rows(0, 1).dtype == np.float16
                if coords is None and needs_coords:
                    raise DataError(f"{path} has no coordinates; make it again, or leave `coordinates` out.")
                corners = torch.full((file.n, 2), torch.nan) if coords is None else torch.from_numpy(coords).float()
                files.append(_OpenedFile(path, patient, TileSource.of(file.feature_size, file.meta), half, corners))
        except DataError as error:
            problems.setdefault(patient, []).append(str(error))
    return files


def _check_sources(files: list[_OpenedFile], source: TileSource | None) -> TileSource:
    """Checks that all files were made as ``source``, else the first file with a hash, states; returns it."""
    if source is None:
        first = next((file for file in files if file.source.encoder_hash), files[0])
        source, reference = first.source, f"as in {first.path}"
    else:
        reference = "as in the training files"
    differences = [(file, source.difference(file.source)) for file in files]
    problems = [
        f"{file.path} (patient '{file.patient}') holds {difference}, {reference}: features of different origin cannot "
        f"be mixed. Embed the slide again in the same way."
        for file, difference in differences
        if difference is not None
    ]
    raise_all(problems, DataError, HEADER)
    return source


def _read_all(files: list[_OpenedFile], features: Tensor | None, problems: dict[str, list[str]]) -> None:
    """Reads, and so checks, the features of all files, into ``features`` unless that is None."""
    first = 0
    for file in files:
        try:
            for start in range(0, len(file.coords), BLOCK_TILES):
                part = read_rows(file.path, start, start + BLOCK_TILES)
                if features is not None:
                    features[first + start : first + start + len(part)] = part
        except DataError as error:
            problems.setdefault(file.patient, []).append(str(error))
        first += len(file.coords)
