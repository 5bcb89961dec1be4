"""Runs the embedding of many slides: one after another, or in several processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from multimodn.errors import DataError, MultiModNError
from multimodn.slides.embedding.embed import EmbedOptions, SlideResult, embed_slide
from multimodn.slides.embedding.spool import spooled_tiles
from multimodn.slides.embedding.tile_encoders import NetworkEncoder, load_tile_encoder

TICK = 0.5
"""Seconds between two looks at what is done."""


@dataclass(frozen=True)
class Work:
    """What is the same for every slide, as it is sent to other processes.

    Attributes:
        spec: Of the tile encoder.
        encoder_hash: That it must have there too.
        options: See `EmbedOptions`.
    """

    spec: str
    encoder_hash: str
    options: EmbedOptions


@dataclass(frozen=True)
class Job:
    """One slide and the feature file to write."""

    slide: Path
    file: Path


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        n_slides: Slides that are through, whatever became of them.
        of_slides: Slides in all.
        n_tiles: Tiles that are done.
        of_tiles: Tiles in all of the slides that were begun; of the others nobody knows yet.
    """

    n_slides: int
    of_slides: int
    n_tiles: int
    of_tiles: int


@dataclass
class Tracker:
    """Collects results, and tells from time to time how far the run is; it reads this from the unfinished files."""

    jobs: Sequence[Job]
    on_progress: Callable[[Progress], None]
    results: dict[int, SlideResult] = field(default_factory=dict)
    _last: float = 0.0

    def done(self, i: int, result: SlideResult) -> None:
        """Takes the result of job ``i``."""
        self.results[i] = result
        self.tick(force=True)

    def tick(self, force: bool = False) -> None:
        """Tells how far the run is, if it did not just do so."""
        if not force and time.monotonic() - self._last < TICK:
            return
        self._last = time.monotonic()
        through = {self.jobs[i].file.name for i in self.results}
        spooled = spooled_tiles(self.jobs[0].file.parent) if self.jobs else {}
        mine = {job.file.name for job in self.jobs} - through
        begun = [tiles for name, tiles in spooled.items() if name in mine]
        finished = sum(result.n_tiles for result in self.results.values())
        n, of = (finished + sum(tiles[k] for tiles in begun) for k in (0, 1))
        self.on_progress(Progress(len(self.results), len(self.jobs), n, of))


def run_job(job: Job, work: Work, on_batch: Callable[[int, int], None] = lambda done, of: None) -> SlideResult:
    """Embeds one slide; what goes wrong with it is its result, so that the others go on."""
    try:
        encoder = _encoder(work.spec, work.options.device)
        if encoder.hash != work.encoder_hash:
            raise DataError(f"The tile encoder '{work.spec}' has other weights here than where this run was started.")
        return embed_slide(job.slide, job.file, encoder, work.options, on_batch)
    except MultiModNError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{job.slide}: {error}. Repair this and run again; it goes on after the last whole batch."
    except Exception as error:  # whatever a library makes of a damaged file
        problem = f"{job.slide}: {type(error).__name__}: {error}"
    return SlideResult(job.slide, job.file, "failed", problem=problem)


def run_serial(jobs: Sequence[Job], work: Work, tracker: Tracker) -> None:
    """Embeds slides in this process, one after another."""
    for i, job in enumerate(jobs):
        tracker.done(i, run_job(job, work, lambda done, of: tracker.tick()))


def run_processes(jobs: Sequence[Job], work: Work, tracker: Tracker, n_workers: int) -> None:
    """Embeds slides in ``n_workers`` fresh processes, the largest file first.

    A KeyboardInterrupt lets each finish its batch.
    """
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start_worker, initargs=(stop,))
    with pool:
        futures = {pool.submit(_run_in_worker, jobs[i], work): i for i in largest_first(jobs)}
        pending = set(futures)
        try:
            while pending:
                finished, pending = wait(pending, timeout=TICK, return_when=FIRST_COMPLETED)
                for future in finished:
                    tracker.done(futures[future], _outcome(future, jobs[futures[future]]))
                tracker.tick()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def largest_first(jobs: Sequence[Job]) -> list[int]:
    """Returns an order of jobs in which no large slide is left for the end, when the other workers are idle."""
    return sorted(range(len(jobs)), key=lambda i: -jobs[i].slide.stat().st_size if jobs[i].slide.exists() else 0)


def _outcome(future: Future[SlideResult], job: Job) -> SlideResult:
    try:
        return future.result()
    except BrokenProcessPool:
        problem = (
            f"{job.slide}: a worker process was killed, for instance for want of memory. Run again, with fewer "
            f"workers; it goes on after the last whole batch."
        )
        return SlideResult(job.slide, job.file, "failed", problem=problem)


@lru_cache(maxsize=1)
def _encoder(spec: str, device: str) -> NetworkEncoder:
    return load_tile_encoder(spec, device)


_STOP: list[Any] = []


def _start_worker(stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the first process decides
    _STOP[:] = [stop]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process if the first one is killed: it would hold its slide's file, and none would read its result."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: Job, work: Work) -> SlideResult:
    def check(done: int, of: int) -> None:
        if _STOP[0].is_set():
            raise KeyboardInterrupt

    return run_job(job, work, check)
