"""The tiles of each patient, in memory or read from their files when needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.ragged import Ragged
from multimodn.slides.feature_files.features import open_features

BLOCK_TILES = 16_384  # tiles that are checked, or encoded, at once


@dataclass(frozen=True, eq=False)
class TileStore:
    """All tiles of some files, file by file, patient by patient."""

    patients: pd.Index  # the patients, in their order
    paths: tuple[str, ...]  # the files
    owners: Tensor  # long ``(n_files,)``: the patient of each file, ascending
    lengths: Tensor  # long ``(n_files,)``: tiles of each file
    coords: Tensor  # float32 ``(n_tiles, 2)``: upper left corners x, y, level-0 pixels; NaN where a file has none
    features: Tensor | None  # ``(n_tiles, feature_size)``, float16 if all files hold that, else 32; None = in the files
    feature_size: int  # features of a tile

    @cached_property
    def ends(self) -> Tensor:
        """The number after that of each file's last tile, long ``(n_files,)``."""
        return self.lengths.cumsum(0)

    def files(self, tiles: Tensor) -> Tensor:
        """Returns the file number of each tile, long ``(n,)``."""
        return torch.searchsorted(self.ends, tiles, right=True)

    def read(self, tiles: Tensor) -> Tensor:
        """Returns features of tiles, ``(n, feature_size)``; grouped by file in ``tiles``."""
        if self.features is not None:
            return self.features[tiles]
        if not len(tiles):
            return torch.empty(0, self.feature_size)
        starts = self.ends - self.lengths
        numbers, counts = torch.unique_consecutive(self.files(tiles), return_counts=True)
        parts = []
        for number, inside in zip(numbers.tolist(), torch.split(tiles, counts.tolist()), strict=True):
            inside = inside - starts[number]
            first, last = int(inside.min()), int(inside.max())
            # a range and then a choice: HDF5 reads scattered rows one by one
            parts.append(read_rows(self.paths[number], first, last + 1)[inside - first])
        return torch.cat(parts)

    @cached_property
    def boxes(self) -> tuple[Tensor, Tensor]:
        """The lowest corner and the extent of the tiles of each file, ``(n_files, 2)`` each."""
        place = self.files(torch.arange(len(self.coords))).unsqueeze(1).expand(-1, 2)
        start = torch.zeros(len(self.lengths), 2)
        low = start.scatter_reduce(0, place, self.coords, "amin", include_self=False)
        high = start.scatter_reduce(0, place, self.coords, "amax", include_self=False)
        return low, high - low


@dataclass(frozen=True, eq=False)
class Bags:
    """The tiles of n patients, the prepared values of the slide encoder; a slice of it is a batch.

    A slice holds the numbers of its tiles, and `features` reads a part of them on demand: so a batch takes no more
    memory than the encoder uses at once.
    """

    store: TileStore  # the tiles of all files
    rows: Tensor  # long ``(n,)``: the patient of each row in ``store.patients``
    tiles: Ragged  # the tiles of each row: their numbers in the store

    @classmethod
    def of(cls, store: TileStore) -> Bags:
        """Returns the bags of all patients of a store."""
        rows = torch.arange(len(store.patients))
        n_tiles = torch.zeros_like(rows).index_add(0, store.owners, store.lengths)
        return cls(store, rows, Ragged(torch.arange(len(store.coords)), n_tiles))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> Bags:
        """Takes the patients at long ``rows``, in their order, any of them several times."""
        return replace(self, rows=self.rows[rows.cpu()], tiles=self.tiles[rows.cpu()])

    def to(self, device: torch.device) -> Bags:
        """Returns the bags unchanged: features go to the encoder's device block by block, when they are read."""
        return self

    @property
    def n_tiles(self) -> int:
        """Tiles of all rows together."""
        return len(self.tiles.items)

    def keep(self, numbers: Tensor, lengths: Tensor) -> Bags:
        """Returns the same rows with some of their tiles: those at ``numbers``, ascending, ``lengths`` of each row."""
        return replace(self, tiles=Ragged(self.tiles.items[numbers.cpu()], lengths.cpu()))

    def features(self, start: int, stop: int) -> Tensor:
        """Reads the features of tiles ``start`` to ``stop``, ``(stop - start, feature_size)``."""
        return self.store.read(self.tiles.items[start:stop])

    def positions(self, start: int, stop: int) -> Tensor:
        """Returns where tiles lie in their slide, ``(stop - start, 2)``: 0 to 1 over the extent of its tiles."""
        tiles, (low, extent) = self.tiles.items[start:stop], self.store.boxes
        files = self.store.files(tiles)
        return (self.store.coords[tiles] - low[files]) / extent[files].clamp(min=1.0)

    def places(self) -> pd.DataFrame:
        """Returns where each tile comes from, in the order of `SlideEncoder.attention`.

        Columns are ``patient``, ``file`` (the feature file) and ``x``, ``y``, the tile's upper left corner in level-0
        pixels (NaN where a file has no coordinates, as a ``.pt`` of CLAM).
        """
        tiles = self.tiles.items
        files = self.store.files(tiles)
        codes, paths = pd.factorize(np.array(self.store.paths, dtype=object))
        x, y = self.store.coords[tiles].numpy().T
        patient = pd.Categorical.from_codes(self.store.owners[files].numpy(), self.store.patients)
        file = pd.Categorical.from_codes(codes[files.numpy()], pd.Index(paths))
        return pd.DataFrame({"patient": patient, "file": file, "x": x, "y": y})


def read_rows(path: str, start: int, stop: int) -> Tensor:
    """Reads tiles of a file, ``(stop - start, feature_size)``, float16 or 32; see `FeatureFile.rows` for the errors."""
    with open_features(path) as file:
        return torch.from_numpy(file.rows(start, stop))
