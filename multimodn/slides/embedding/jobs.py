"""Runs the embedding of many slides: one after another, or in several processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from multimodn.errors import DataError, MultiModNError
from multimodn.slides.embedding.embed import EmbedOptions, SlideResult, embed_slide
from multimodn.slides.embedding.spool import spooled_tiles
from multimodn.slides.embedding.tile_encoders import NetworkEncoder, load_tile_encoder

TICK = 0.5  # seconds between two reports of progress


@dataclass(frozen=True)
class Work:
    """What all slides share, as sent to other processes: tile encoder, its hash, options."""

    spec: str
    encoder_hash: str
    options: EmbedOptions


@dataclass(frozen=True)
class SlideJob:
    """One slide and the feature file to write."""

    slide: Path
    file: Path
    mpp: float | None = None  # microns per level-0 pixel, of this slide alone; None = by the options

    def failed(self, problem: str) -> SlideResult:
        """Returns the result of a failed job."""
        return SlideResult(self.slide, self.file, "failed", problem=problem)


@dataclass(frozen=True)
class Progress:
    """Progress of a run."""

    n_slides: int  # slides that are finished, with whatever outcome
    of_slides: int  # all slides
    n_tiles: int  # tiles that are finished
    of_tiles: int  # tiles of all slides that were begun; those of the others are not known yet


@dataclass
class Tracker:
    """Collects results, and reports progress from time to time, as read from the unfinished files."""

    jobs: Sequence[SlideJob]
    on_progress: Callable[[Progress], None]
    results: dict[int, SlideResult] = field(default_factory=dict)
    _last: float = 0.0

    def done(self, i: int, result: SlideResult) -> None:
        """Stores the result of job ``i``."""
        self.results[i] = result
        self.tick(force=True)

    def tick(self, force: bool = False) -> None:
        """Reports progress, unless it was just reported."""
        if not force and time.monotonic() - self._last < TICK:
            return
        self._last = time.monotonic()
        spooled = spooled_tiles(self.jobs[0].file.parent) if self.jobs else {}
        unfinished = {job.file.name for i, job in enumerate(self.jobs) if i not in self.results}
        begun = [tiles for name, tiles in spooled.items() if name in unfinished]
        finished = sum(result.n_tiles for result in self.results.values())
        n, of = (finished + sum(tiles[k] for tiles in begun) for k in (0, 1))
        self.on_progress(Progress(len(self.results), len(self.jobs), n, of))


def run_job(job: SlideJob, work: Work, on_batch: Callable[[int, int], None] = lambda done, of: None) -> SlideResult:
    """Embeds one slide; an error becomes its result, so that the other slides go on."""
    try:
        encoder = _encoder(work.spec, work.options.device)
        if encoder.hash != work.encoder_hash:
            raise DataError(f"The tile encoder '{work.spec}' has other weights here than where this run was started.")
        options = work.options if job.mpp is None else replace(work.options, mpp=job.mpp)
        return embed_slide(job.slide, job.file, encoder, options, on_batch)
    except MultiModNError as error:
        return job.failed(str(error))
    except OSError as error:
        return job.failed(f"{job.slide}: {error}. Repair this and run again; it resumes after the last whole batch.")
    except Exception as error:  # libraries raise anything on a damaged file
        return job.failed(f"{job.slide}: {type(error).__name__}: {error}")


def run_serial(jobs: Sequence[SlideJob], work: Work, tracker: Tracker) -> None:
    """Embeds slides in this process, one after another."""
    for i, job in enumerate(jobs):
        tracker.done(i, run_job(job, work, lambda done, of: tracker.tick()))


def run_processes(jobs: Sequence[SlideJob], work: Work, tracker: Tracker, n_workers: int) -> None:
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
                    i = futures[future]
                    tracker.done(i, _outcome(future, jobs[i]))
                tracker.tick()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def largest_first(jobs: Sequence[SlideJob]) -> list[int]:
    """Returns the order of jobs, the largest slide first, so that none is left to one worker at the end."""
    return sorted(range(len(jobs)), key=lambda i: -jobs[i].slide.stat().st_size if jobs[i].slide.exists() else 0)


def _outcome(future: Future[SlideResult], job: SlideJob) -> SlideResult:
    try:
        return future.result()
    except BrokenProcessPool:
        advice = "Run again, with fewer workers; it resumes after the last whole batch."
        return job.failed(f"{job.slide}: a worker process was killed, for instance for lack of memory. {advice}")


@lru_cache(maxsize=1)
def _encoder(spec: str, device: str) -> NetworkEncoder:
    return load_tile_encoder(spec, device)


_STOP: list[Any] = []


def _start_worker(stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all processes; the first one decides
    _STOP[:] = [stop]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process if the first one is killed: it would keep its slide's file locked for no one."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: SlideJob, work: Work) -> SlideResult:
    def check(done: int, of: int) -> None:
        if _STOP[0].is_set():
            raise KeyboardInterrupt

    return run_job(job, work, check)
