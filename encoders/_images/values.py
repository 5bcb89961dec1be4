"""Prepared pictures, in memory or on the disk, and the threads that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multimodn.base.cache import OutputCache, file_hash, folder_hash
from multimodn.base.ragged import Ragged
from multimodn.encoders._images.files import PictureError, quiet_libraries
from multimodn.encoders._images.volumes import slice_files
from multimodn.errors import DataError, UnreadableError

N_THREADS = 4
"""Files that are read at once; each may take several times a volume's size of memory."""

N_TOGETHER = 16
"""Pictures that pass a frozen network together."""


@dataclass(frozen=True)
class Recipe:
    """How a file becomes a picture.

    Attributes:
        key: A hash of all that decides it.
        shape: Shape of a picture, ``(C, *space)``.
        keeps_on_disk: Whether every picture is kept in the cache, in memory or not.
        prepare: Reads a file to float16 ``shape``; a problem with the file is a `PictureError`.
    """

    key: str
    shape: tuple[int, ...]
    keeps_on_disk: bool
    prepare: Callable[[str], Tensor]


@dataclass(frozen=True)
class Listing:
    """The files of some patients, those of a patient one after another.

    Attributes:
        header: Begins a message.
        files: Paths; empty where the cell is.
        owners: The patient of each file.
        lengths: Long ``(n,)``: how many files each patient has.
    """

    header: str
    files: list[str]
    owners: list[str]
    lengths: Tensor

    @classmethod
    def of(cls, frame: pd.DataFrame, column: str, header: str) -> Listing:
        """Lists the files that a column names, patients in the order of ``frame.index.unique()``."""
        codes, patients = pd.factorize(frame.index)
        order = np.argsort(codes, kind="stable")
        cells = frame[column].iloc[order]
        files = ["" if pd.isna(cell) else str(cell).strip() for cell in cells.tolist()]
        lengths = torch.from_numpy(np.bincount(codes, minlength=len(patients)).astype(np.int64))
        return cls(f"{header}, column '{column}'", files, [str(owner) for owner in cells.index], lengths)

    def attempt(self, places: Iterable[int], work: Callable[[int, str], object]) -> dict[int, str]:
        """Does ``work(place, file)`` for some files, in threads; returns what is wrong with those that failed."""

        def tried(place: int) -> str | None:
            try:
                if not self.files[place]:
                    raise PictureError("(an empty cell) names no file. Name one, or remove the row.")
                work(place, self.files[place])
            except PictureError as error:
                return str(error)
            return None

        listed = list(places)
        with quiet_libraries(), ThreadPoolExecutor(N_THREADS) as pool:
            found = zip(listed, pool.map(tried, listed), strict=True)
            return {place: problem for place, problem in found if problem is not None}

    def report(self, problems: dict[int, str]) -> None:
        """Raises one error for all problems; does nothing if there is none.

        Raises:
            UnreadableError: Naming every patient and file.
        """
        of_patient: dict[str, list[str]] = {}
        for place in sorted(problems):
            of_patient.setdefault(self.owners[place], []).append(f"{self.files[place]} {problems[place]}".strip())
        if of_patient:
            raise UnreadableError(self.header, {patient: "; ".join(found) for patient, found in of_patient.items()})


@dataclass(frozen=True)
class Kept:
    """Pictures on the disk, read when they are asked for.

    Attributes:
        cache: Where they are.
        contents: The content hash of each file.
        shape: Shape of a picture.
    """

    cache: OutputCache
    contents: list[str]
    shape: tuple[int, ...]

    def __getitem__(self, places: Tensor) -> Tensor:
        """Reads pictures, float16 ``(n, *shape)``.

        Raises:
            DataError: If one has been deleted since.
        """
        wanted = [self.contents[place] for place in places.tolist()]
        if not wanted:
            return torch.zeros(0, *self.shape, dtype=torch.half)
        with ThreadPoolExecutor(N_THREADS) as pool:
            found = list(pool.map(self.cache.get, wanted))
        arrays = [array for array in found if array is not None]
        if len(arrays) < len(found):
            raise DataError(
                f"prepared pictures have been deleted from {self.cache.folder}. Start again, or raise `memory_gb`."
            )
        return torch.from_numpy(np.stack(arrays))


@dataclass(frozen=True)
class Pictures:
    """The pictures of n rows; those that are not in memory are read only when `stacked` asks for them.

    Attributes:
        store: Float16 pictures ``(N, *shape)``, in memory or on the disk, shared by all slices.
        files: For each row the places of its pictures in ``store``.
        device: Where `stacked` puts them.
    """

    store: Tensor | Kept
    files: Ragged
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Tensor) -> Pictures:
        """Takes the rows at long ``rows``, in their order."""
        return replace(self, files=self.files[rows.cpu()])

    def to(self, device: torch.device) -> Pictures:
        """Returns the same rows, which `stacked` will put on ``device``."""
        return replace(self, device=torch.device(device))

    def stacked(self) -> Ragged:
        """Returns the pictures, float16 ``(n_pictures, *shape)``, those of a row one after another."""
        return Ragged(self.store[self.files.items], self.files.lengths).to(self.device)


def load_pictures(listing: Listing, recipe: Recipe, memory_gb: float) -> Pictures:
    """Reads and prepares pictures.

    Raises:
        UnreadableError: If files cannot be read; all of them are named.
    """
    n_files = len(listing.files)
    in_memory = 2 * n_files * int(np.prod(recipe.shape)) <= memory_gb * 1e9
    memory = torch.zeros(n_files if in_memory else 0, *recipe.shape, dtype=torch.half)
    cache, contents = OutputCache(recipe.key), [""] * n_files

    def load(place: int, path: str) -> None:
        if in_memory and not recipe.keeps_on_disk:
            memory[place] = recipe.prepare(path)
            return
        contents[place] = content_of(path)
        array: NDArray[Any] | None = cache.get(contents[place])
        if array is None:
            array = recipe.prepare(path).numpy()
            cache.put(contents[place], array)
        if in_memory:
            memory[place] = torch.from_numpy(array)

    listing.report(listing.attempt(range(n_files), load))
    store = memory if in_memory else Kept(cache, contents, recipe.shape)
    return Pictures(store, Ragged(torch.arange(n_files), listing.lengths))


def frozen_features(
    listing: Listing, recipe: Recipe, cache: OutputCache, build: Callable[[], nn.Module], feature_size: int
) -> Tensor:
    """Returns a network's features of each file, float32 ``(n_files, feature_size)``.

    The network is built only if a file's features are not in the cache.

    Raises:
        UnreadableError: If files cannot be read; all of them are named.
    """
    contents = [""] * len(listing.files)
    problems = listing.attempt(range(len(contents)), lambda place, path: contents.__setitem__(place, content_of(path)))
    found = {content: cache.get(content) for content in set(contents) - {""}}
    places = {content: place for place, content in enumerate(contents) if content and found[content] is None}
    network: nn.Module | None = None
    for part in _parts(sorted(places.values())):
        pictures: dict[int, Tensor] = {}
        problems |= listing.attempt(part, partial(_prepare_into, pictures, recipe))
        if pictures:
            network = network or build().to("cuda" if torch.cuda.is_available() else "cpu")
            places_done = sorted(pictures)  # threads may finish in another order
            outputs = _run(network, [pictures[place] for place in places_done])
            for place, features in zip(places_done, outputs, strict=True):
                cache.put(contents[place], features)
                found[contents[place]] = features
    failed = {contents[place]: problem for place, problem in problems.items() if contents[place]}
    problems |= {place: failed[content] for place, content in enumerate(contents) if content in failed}
    listing.report(problems)
    table = torch.zeros(len(contents), feature_size)
    for place, content in enumerate(contents):
        table[place] = torch.as_tensor(found[content])
    return table


def _prepare_into(pictures: dict[int, Tensor], recipe: Recipe, place: int, path: str) -> None:
    pictures[place] = recipe.prepare(path)


def _parts(places: list[int]) -> Iterable[list[int]]:
    return (places[start : start + N_TOGETHER] for start in range(0, len(places), N_TOGETHER))


@torch.no_grad()
def _run(network: nn.Module, pictures: Sequence[Tensor]) -> NDArray[np.float32]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    features: NDArray[np.float32] = network(torch.stack(list(pictures)).to(device).float()).cpu().numpy()
    return features


def content_of(path: str) -> str:
    """Returns a hash of a file, or of the files of a series' folder.

    Raises:
        PictureError: If it cannot be opened.
    """
    try:
        return folder_hash(slice_files(Path(path))) if Path(path).is_dir() else file_hash(path)
    except OSError as error:
        raise PictureError(f"cannot be opened ({error.strerror}). Correct the path.") from None
