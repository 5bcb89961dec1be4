"""Embeds slides on a Ray cluster, one slide a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from multimodn.errors import DataError, import_extra
from multimodn.slides.embedding.embed import SlideResult
from multimodn.slides.embedding.jobs import TICK, SlideJob, Tracker, Work, largest_first, run_job

RETRIES = 3


def run_on_ray(
    jobs: Sequence[SlideJob], work: Work, tracker: Tracker, address: str, n_workers: int | None = None
) -> None:
    """Embeds slides as Ray tasks; each writes the same bytes as it would here.

    Slides, the tile encoder's files and the output folder must have the same absolute paths on every machine. A task
    whose machine dies is repeated elsewhere, after its last whole batch.

    ``address`` is ``local`` = start a cluster of this machine for this call, with ``n_workers`` processors (None =
    all), or that of a running one: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; a DataError if there is none. A
    cluster that this process has joined already is used as it is.

    References:
        Moritz et al. (2018), Ray: a distributed framework for emerging AI applications, OSDI.
    """
    ray = import_extra("ray", "Embedding slides on a Ray cluster", "ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        _join(ray, address, n_workers)
    device = work.options.device
    needs_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    needs = {"num_cpus": work.options.threads, "num_gpus": int(needs_gpu)}
    try:
        task = ray.remote(max_retries=RETRIES, **needs)(run_job)
        running = {task.remote(jobs[i], work): i for i in largest_first(jobs)}
        try:
            while running:
                finished, _ = ray.wait(list(running), timeout=TICK)
                for done in finished:
                    i = running.pop(done)
                    tracker.done(i, _outcome(ray, done, jobs[i]))
                tracker.tick()
        except BaseException:
            for unfinished in running:
                ray.cancel(unfinished)
            raise
    finally:
        if is_ours:
            ray.shutdown()


def _outcome(ray: Any, task: Any, job: SlideJob) -> SlideResult:
    try:
        result: SlideResult = ray.get(task)
        return result
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        return job.failed(f"{job.slide}: its Ray task failed {RETRIES + 1} times: {last}")


def _join(ray: Any, address: str, n_workers: int | None) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    if address == "local":
        ray.init(address="local", num_cpus=n_workers, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        advice = "Start one with `ray start --head`, or give the address `local`."
        raise DataError(f"No Ray cluster at '{address}': {error}. {advice}") from None
