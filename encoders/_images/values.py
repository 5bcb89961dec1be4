"""Prepared pictures, in memory or on disk, and the threads that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

N_THREADS = 4  # files that are read at once; each may take several times the memory of a volume
N_TOGETHER = 16  # pictures that pass a frozen network together


@dataclass(frozen=True)
class Recipe:
    """How a file becomes a picture."""

    key: str  # a hash of all that decides it
    shape: tuple[int, ...]  # shape of a picture, ``(C, *space)``
    keeps_on_disk: bool  # whether every picture is cached on disk, even if it is in memory
    prepare: Callable[[str], Tensor]  # reads a file to float16 ``shape``, or raises a `PictureError`


@dataclass(frozen=True)
class FileList:
    """The files of some patients, patient by patient."""

    header: str  # begins a message
    files: list[str]  # paths; empty where the cell is
    owners: list[str]  # the patient of each file
    lengths: Tensor  # long ``(n,)``: number of files of each patient

    @classmethod
    def of(cls, frame: pd.DataFrame, column: str, header: str) -> FileList:
        """Lists the files that a column names, patients in the order of ``frame.index.unique()``."""
        codes, patients = pd.factorize(frame.index)
        cells = frame[column].iloc[np.argsort(codes, kind="stable")]
        files = ["" if pd.isna(cell) else str(cell).strip() for cell in cells.tolist()]
        lengths = torch.from_numpy(np.bincount(codes, minlength=len(patients)).astype(np.int64))
        return cls(f"{header}, column '{column}'", files, [str(owner) for owner in cells.index], lengths)

    def attempt(self, places: Iterable[int], work: Callable[[int, str], object]) -> dict[int, str]:
        """Does ``work(place, file)`` for some files, in threads; returns the problems of those that failed."""

        def problem_of(place: int) -> str | None:
            try:
                if not self.files[place]:
                    raise PictureError("(an empty cell) names no file. Name one, or remove the row.")
                work(place, self.files[place])
            except PictureError as error:
                return str(error)
            return None

        listed = list(places)
        with quiet_libraries(), ThreadPoolExecutor(N_THREADS) as pool:
            problems = zip(listed, pool.map(problem_of, listed), strict=True)
            return {place: problem for place, problem in problems if problem is not None}

    def report(self, problems: dict[int, str]) -> None:
        """Raises one UnreadableError that names every patient and file with a problem, if there is any."""
        of_patient: dict[str, list[str]] = {}
        for place in sorted(problems):
            of_patient.setdefault(self.owners[place], []).append(f"{self.files[place]} {problems[place]}".strip())
        if of_patient:
            raise UnreadableError(self.header, {patient: "; ".join(texts) for patient, texts in of_patient.items()})


@dataclass(frozen=True)
class CachedPictures:
    """Pictures of one shape in a cache on disk, by the content hash of each file, read on request."""

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
            arrays = [array for array in pool.map(self.cache.get, wanted) if array is not None]
        if len(arrays) < len(wanted):
            raise DataError(
                f"prepared pictures have been deleted from {self.cache.folder}. Start again, or raise `memory_gb`."
            )
        return torch.from_numpy(np.stack(arrays))


@dataclass(frozen=True)
class Pictures:
    """The pictures of n rows; those on disk are read by `stacked`."""

    store: Tensor | CachedPictures  # float16 pictures ``(N, *shape)``, in memory or on disk, shared by all slices
    files: Ragged  # for each row the positions of its pictures in ``store``
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # where `stacked` puts them

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Tensor) -> Pictures:
        """Takes the rows at long ``rows``, in their order."""
        return replace(self, files=self.files[rows.cpu()])

    def to(self, device: torch.device) -> Pictures:
        """Returns the same rows, to be put on ``device`` by `stacked`."""
        return replace(self, device=torch.device(device))

    def stacked(self) -> Ragged:
        """Returns the pictures, float16 ``(n_pictures, *shape)``, row by row."""
        return Ragged(self.store[self.files.items], self.files.lengths).to(self.device)


def load_pictures(listing: FileList, recipe: Recipe, memory_gb: float) -> Pictures:
    """Reads and prepares pictures; raises an UnreadableError that names all files that cannot be read."""
    n_files = len(listing.files)
    in_memory = 2 * n_files * int(np.prod(recipe.shape)) <= memory_gb * 1e9
    memory = torch.zeros(n_files if in_memory else 0, *recipe.shape, dtype=torch.half)
    cache, contents = OutputCache(recipe.key), [""] * n_files

    def load(place: int, path: str) -> None:
        if in_memory and not recipe.keeps_on_disk:
            memory[place] = recipe.prepare(path)
            return
        contents[place] = content_key(path)
        array: NDArray[Any] | None = cache.get(contents[place])
        if array is None:
            array = recipe.prepare(path).numpy()
            cache.put(contents[place], array)
        if in_memory:
            memory[place] = torch.from_numpy(array)

    listing.report(listing.attempt(range(n_files), load))
    store = memory if in_memory else CachedPictures(cache, contents, recipe.shape)
    return Pictures(store, Ragged(torch.arange(n_files), listing.lengths))


def frozen_features(
    listing: FileList, recipe: Recipe, cache: OutputCache, build: Callable[[], nn.Module], feature_size: int
) -> Tensor:
    """Returns a network's features of each file, float32 ``(n_files, feature_size)``, if possible from the cache.

    Raises an UnreadableError that names all files that cannot be read.
    """
    contents = [""] * len(listing.files)
    problems = listing.attempt(range(len(contents)), lambda place, path: contents.__setitem__(place, content_key(path)))
    outputs = {content: cache.get(content) for content in set(contents) - {""}}
    places = sorted({content: i for i, content in enumerate(contents) if content and outputs[content] is None}.values())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: nn.Module | None = None
    for start in range(0, len(places), N_TOGETHER):
        pictures: dict[int, Tensor] = {}
        prepare = partial(_prepare_into, pictures, recipe)
        problems |= listing.attempt(places[start : start + N_TOGETHER], prepare)
        if pictures:
            network = network or build().to(device)
            done = sorted(pictures)  # threads may finish in another order
            with torch.no_grad():
                batch = torch.stack([pictures[place] for place in done]).to(device).float()
                features = network(batch).cpu().numpy()
            for place, output in zip(done, features, strict=True):
                cache.put(contents[place], output)
                outputs[contents[place]] = output
    failed = {contents[place]: problem for place, problem in problems.items() if contents[place]}
    problems |= {place: failed[content] for place, content in enumerate(contents) if content in failed}
    listing.report(problems)
    rows = [torch.as_tensor(outputs[content]) for content in contents]
    return torch.stack(rows).float() if rows else torch.zeros(0, feature_size)


def _prepare_into(pictures: dict[int, Tensor], recipe: Recipe, place: int, path: str) -> None:
    pictures[place] = recipe.prepare(path)


def content_key(path: str) -> str:
    """Returns a hash of a file, or of the files of a series folder; a PictureError if it cannot be opened."""
    try:
        return folder_hash(slice_files(Path(path))) if Path(path).is_dir() else file_hash(path)
    except OSError as error:
        raise PictureError(f"cannot be opened ({error.strerror}). Correct the path.") from None
