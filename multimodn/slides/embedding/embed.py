"""Embeds one slide: tissue, tiles, their features, a feature file; an interrupted run is resumed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from multimodn.base.cache import content_hash
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.slides.embedding.spool import Spool, spool_path
from multimodn.slides.embedding.tile_encoders import TileEncoder
from multimodn.slides.feature_files.features import Features, open_features, write_features
from multimodn.slides.feature_files.metadata import FeatureMeta, canonical
from multimodn.slides.reader.open import BACKENDS, open_slide
from multimodn.slides.reader.slide import Slide, SlideError
from multimodn.slides.tiles.stain import normaliser
from multimodn.slides.tiles.tiling import Tiling, tile_extent, tile_grid
from multimodn.slides.tiles.tissue import TissueOptions, draw_tissue, find_tissue

NOT_DECIDING = ("batch_size", "device", "parameters", "version")  # stated by a file, but they decide no feature


@dataclass(frozen=True)
class EmbedOptions:
    """How slides are embedded.

    Attributes:
        mpp: Microns per level-0 pixel, where a slide states none or a wrong one.
        tile_mpp: Microns per pixel of a tile; 0.5 is called 20x.
        tile_size: Side of a tile, pixels; None = the tile encoder's.
        overlap: Share of its side that a tile has in common with its neighbour, from 0 to below 1.
        tissue: Least share of a tile that must be tissue.
        search: How tissue is found.
        stain: Stain normalisation, such as ``macenko``; None = none.
        batch_size: Tiles read, and saved when done, at a time; features do not depend on it.
        dtype: Of the features; the rounding of float16 (a relative 2^-11) is far below what a second scan changes.
        backend: The library that reads slides; None = by format.
        on_no_tissue: A slide without tiles is an ``error``, or recorded as ``absent``.
        threads: Batches that one process runs through the network at the same time; a further one is read ahead.
        device: Of the network; ``auto`` = a GPU if there is one.
        thumbnails: Whether a small picture of each slide with its tissue outlined is written.
        overwrite: Whether feature files made with other options are replaced.
    """

    mpp: float | None = None
    tile_mpp: float = 0.5
    tile_size: int | None = None
    overlap: float = 0.0
    tissue: float = 0.5
    search: TissueOptions = field(default_factory=TissueOptions)
    stain: str | None = None
    batch_size: int = 16
    dtype: Literal["float16", "float32"] = "float16"
    backend: str | None = None
    on_no_tissue: Literal["error", "absent"] = "error"
    threads: int = 1
    device: str = "auto"
    thumbnails: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        normaliser(self.stain)
        if self.backend is not None and self.backend not in BACKENDS:
            raise StudyError(f"Unknown slide backend '{self.backend}'.{did_you_mean(self.backend, BACKENDS)}")
        Tiling(self.tile_size or 224, self.tile_mpp, self.overlap, self.tissue)
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise StudyError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name, valid in (("dtype", ("float16", "float32")), ("on_no_tissue", ("error", "absent"))):
            if getattr(self, name) not in valid:
                raise StudyError(f"{name} is '{getattr(self, name)}'; expected {' or '.join(valid)}.")


@dataclass(frozen=True)
class SlideResult:
    """The outcome of embedding a slide."""

    slide: Path  # the slide file
    file: Path  # the feature file
    status: Literal["embedded", "kept", "absent", "failed"]  # now, from before, for lack of tissue, or for a problem
    n_tiles: int = 0  # tiles of the feature file
    n_resumed: int = 0  # tiles of it that an interrupted run had done
    problem: str = ""  # why it is absent or failed


def embed_slide(
    path: Path | str,
    file: Path | str,
    encoder: TileEncoder,
    options: EmbedOptions | None = None,
    on_batch: Callable[[int, int], None] = lambda done, of: None,
) -> SlideResult:
    """Embeds one slide.

    Finished batches are saved beside ``file`` as ``.<its name>.partial``; after an interruption the next call resumes
    after the last whole batch, and writes the same bytes as an uninterrupted call. The bytes depend on slide, encoder,
    options and kind of processor, not on threads, processes or machines; the memory on ``batch_size`` and ``threads``.
    ``on_batch`` is called after each batch with the tiles done and the tiles in all.

    Raises:
        SlideError: If the slide cannot be read, or has no tiles and ``on_no_tissue`` is ``error``.
        DataError: If ``file`` was made with other options, a feature is not finite, or another process writes it.
        OSError: If a file cannot be written, as on a full disk; the next call resumes.
    """
    path, file, options = Path(path), Path(file), options or EmbedOptions()
    tiling = Tiling(options.tile_size or encoder.tile_size, options.tile_mpp, options.overlap, options.tissue)
    if tiling.size != encoder.tile_size:
        encoder.check_size(tiling.size)
    with _one_thread(), open_slide(path, options.mpp, options.backend) as slide:
        meta = describe(slide, encoder, tiling, options)
        n_kept = _check_kept(file, meta, options.overwrite)
        if n_kept:
            spool_path(file).unlink(missing_ok=True)
            return SlideResult(path, file, "kept", n_kept)
        tissue = find_tissue(slide, options.search)
        coords = tile_grid(slide, tissue, tiling)
        if options.thumbnails:
            draw_tissue(slide, tissue, file.parent / "thumbnails" / f"{file.stem}.png")
        if not len(coords):
            problem = f"no tile has {tiling.tissue:.0%} of tissue ({tissue.fraction:.1%} of the slide is tissue)"
            if options.on_no_tissue == "absent":
                spool_path(file).unlink(missing_ok=True)
                return SlideResult(path, file, "absent", problem=problem)
            advice = "Check the slide, lower the share of tissue, or record such slides as absent."
            raise SlideError(f"{path}: {problem}. {advice}")
        key = content_hash(str(meta.parameters), str(meta.version), str(meta.device), coords.tobytes())
        with Spool(file, key, len(coords), encoder.feature_size, options.batch_size, options.dtype) as spool:
            n_resumed = spool.n_rows
            _fill(spool, slide, coords, encoder, tiling, options, on_batch)
            write_features(file, spool.blocks(), coords, meta)
            spool.remove()
    return SlideResult(path, file, "embedded", len(coords), n_resumed)


def describe(slide: Slide, encoder: TileEncoder, tiling: Tiling, options: EmbedOptions) -> FeatureMeta:
    """Returns the metadata of a slide's feature file."""
    meta = FeatureMeta(
        slide=slide.path.name,
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        slide_bytes=slide.path.stat().st_size,
        tile_size=tiling.size,
        tile_mpp=tiling.mpp,
        extent=tile_extent(slide, tiling),
        overlap=tiling.overlap,
        tissue=canonical(asdict(options.search)),
        tissue_share=tiling.tissue,
        encoder=encoder.name,
        encoder_hash=encoder.hash,
        stain=options.stain or "none",
        batch_size=options.batch_size,
        device=encoder.device,
        version=version("multimodn"),
    )
    deciding = {name: value for name, value in asdict(meta).items() if name not in NOT_DECIDING}
    return replace(meta, parameters=content_hash(canonical(deciding | {"dtype": options.dtype})))


def _check_kept(file: Path, meta: FeatureMeta, overwrite: bool) -> int:
    """Returns the number of tiles of a finished file; 0 if there is none, or it is overwritten.

    Raises a DataError if it was made with other options, from another slide, or by another program.
    """
    if not file.exists():
        return 0
    with open_features(file) as opened:
        stored, n = opened.meta, opened.n
    if stored.parameters == meta.parameters:
        return n
    if overwrite:
        return 0
    pairs = [(one.name, getattr(stored, one.name), getattr(meta, one.name)) for one in fields(meta)]
    differ = [(name, old, new) for name, old, new in pairs if name not in NOT_DECIDING and old != new]
    shown = ", ".join(f"{name} {_short(old)}, now {_short(new)}" for name, old, new in differ)
    raise DataError(
        f"{file} exists and was made with other options ({shown or 'another type of the features'}). Write into "
        f"another folder, or overwrite it."
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _fill(
    spool: Spool, slide: Slide, coords: NDArray[np.int64], encoder: TileEncoder, tiling: Tiling, options: EmbedOptions,
    on_batch: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Embeds the missing batches of the spool, a few at a time, and appends them in order."""
    stain, size, network = normaliser(options.stain), options.batch_size, threading.Semaphore(options.threads)

    def embed(start: int) -> NDArray[np.float32]:
        tiles = stain(slide.read_tiles(coords[start : start + size], tiling.size, tiling.mpp))
        with network:  # what waits here was read ahead
            return encoder(tiles)

    def keep(done: Future[NDArray[np.float32]]) -> None:
        start = spool.n_rows
        spool.append(_stored(done.result(), coords[start : start + size], slide, options.dtype))
        on_batch(spool.n_rows, len(coords))

    waiting = deque[Future[NDArray[np.float32]]]()
    with ThreadPoolExecutor(options.threads + 1) as pool:
        try:
            on_batch(spool.n_rows, len(coords))
            for start in range(spool.n_rows, len(coords), size):
                waiting.append(pool.submit(embed, start))
                if len(waiting) > options.threads + 1:  # bounds the memory
                    keep(waiting.popleft())
            while waiting:
                keep(waiting.popleft())
        finally:
            for one in waiting:
                one.cancel()


def _stored(features: NDArray[np.float32], coords: NDArray[np.int64], slide: Slide, dtype: str) -> Features:
    with np.errstate(over="ignore"):  # checked below
        stored: Features = features.astype(dtype)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(bad):
        x, y = coords[bad[0]].tolist()
        hint = " They are too large for float16: write float32." if np.isfinite(features).all() else ""
        raise DataError(f"{slide.path}: the features of the tile at ({x}, {y}) are not all finite.{hint}")
    return stored


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets torch and BLAS use one thread: the split of a sum over threads decides its last bits.

    So any number of workers writes the same bytes; more processors compute more batches at a time.
    """
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
