"""Measures `embed-slides`: tiles per second with 1 and 2 processes and on a Ray cluster, sameness of bytes, memory.

Slides are copies of a real Aperio region (2,220 x 2,967 pixels, 20x) cut into overlapping tiles; the tile encoder is
the default, EfficientNet-Lite0. Each way of running is a process of its own; they take turns, and the best turn of each
counts, so that a busy machine harms all alike. Then a run is killed and started again, and memory is measured on a
synthetic slide of 100,000 x 100,000 pixels. Prints a page and writes it to EMBEDDING.md beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REAL = HERE.parents[1] / "tests" / "slides" / "data" / "cmu_small_region.svs"
WAYS: dict[str, dict[str, Any]] = {
    "1 process": {"workers": 1},
    "2 processes": {"workers": 2},
    "Ray, 2 workers": {"workers": 2, "ray": "local"},
}
TISSUE, OVERLAP, KILL_AFTER, QUIET = 0.1, 0.5, 100, 0.7


def run_way(folder: Path, out: Path, name: str) -> None:
    """Embeds the slides of a folder and prints what it took.

    ``load`` is that of the minute before: work of others, which these processes have to share the machine with.
    """
    from multimodn.slides import EmbedOptions, embed_slides

    seen: list[tuple[float, int]] = []
    load, started = os.getloadavg()[0], time.perf_counter()
    embed_slides(
        [folder],
        out,
        options=EmbedOptions(tissue=TISSUE, overlap=OVERLAP),
        on_progress=lambda now: seen.append((time.perf_counter(), now.n_tiles)),
        **WAYS[name],
    )
    first = next(one for one in seen if one[1])
    (end, n), seconds = seen[-1], time.perf_counter() - started
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    is_known = "ray" not in WAYS[name]  # Ray's workers are no children of this process
    found = {
        "load": load,
        "n_tiles": n,
        "seconds": seconds,
        "per_second": (n - first[1]) / (end - first[0]),
        "cpu_ms": 1e3 * sum(one.ru_utime + one.ru_stime for one in used) / n if is_known else math.nan,
        "peak_mb": max(one.ru_maxrss for one in used) / 1024 if is_known else math.nan,
    }
    print(json.dumps(found))


def run_large(slide: Path, out: Path, n_tiles: int) -> None:
    """Embeds the first tiles of a large slide and prints the peak memory."""
    from multimodn.slides import EmbedOptions, embed_slide, load_tile_encoder

    tiles: list[int] = []

    def on_batch(done: int, of: int) -> None:
        tiles[:] = [done, of]
        if done >= n_tiles:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        embed_slide(slide, out / "large.h5", load_tile_encoder(), EmbedOptions(), on_batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"n_tiles": tiles[0], "of_tiles": tiles[1], "peak_mb": peak}))


def called(*arguments: object) -> dict[str, float]:
    """Runs this script in a new process and returns what it printed."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.h5"))}


def kill_and_resume(folder: Path, out: Path) -> tuple[bool, int]:
    """Kills the command after some tiles, runs it again; returns whether bytes are the same, and tiles it kept."""
    from multimodn.slides import embed_slides
    from multimodn.slides.embedding.embed import EmbedOptions
    from multimodn.slides.embedding.spool import spooled_tiles

    slide = sorted(folder.iterdir())[0]
    command = [
        "multimodn.cli.app",
        "embed-slides",
        slide,
        "--out",
        out / "killed",
        "--tissue",
        TISSUE,
        "--overlap",
        OVERLAP,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "from multimodn.cli.app import main; main()", *map(str, command[1:])]
    )
    while not any(done >= KILL_AFTER for done, _ in spooled_tiles(out / "killed").values()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (result,) = embed_slides([slide], out / "killed", options=EmbedOptions(tissue=TISSUE, overlap=OVERLAP))
    name = f"{slide.stem}.h5"
    return hashes(out / "killed")[name] == hashes(out / "1 process")[name], result.n_resumed


def page(
    found: dict[str, dict[str, float]], same: bool, killed: tuple[bool, int], large: dict[str, float], side: int
) -> str:
    rows = [
        f"| {name} | {one['load']:.1f} | {one['n_tiles']:.0f} | {one['seconds']:.1f} | {one['per_second']:.1f} | "
        f"{_number(one['cpu_ms'])} | {_number(one['peak_mb'])} |"
        for name, one in found.items()
    ]
    says = {True: "the same", False: "NOT the same"}
    return "\n".join(
        [
            "# embed-slides",
            "",
            f"Written by `{Path(__file__).name}` on {time.strftime('%Y-%m-%d')}; {os.cpu_count()} processors "
            f"({platform.machine()}), load {os.getloadavg()[0]:.1f} at the end, torch {version('torch')}, ray "
            f"{version('ray')}. Slides: 4 copies of `cmu_small_region.svs`, tiles of 224 px at 0.5 µm that overlap by "
            f"half, EfficientNet-Lite0. Best of the turns.",
            "",
            "| way | load before | tiles | seconds, with start | tiles/s then | processor ms a tile | peak MB each |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "Load before is work of others: where it is high, two workers cannot be twice as fast, and only processor "
            "time (start included) can be compared.",
            "",
            f"- Bytes of all feature files, whatever the way: {says[same]}.",
            f"- Killed (SIGKILL) after {KILL_AFTER} tiles and run again: {killed[1]} tiles kept, bytes "
            f"{says[killed[0]]}.",
            f"- Peak memory on a slide of {side:,} x {side:,} pixels, one process, {large['n_tiles']:.0f} of "
            f"{large['of_tiles']:.0f} tiles: {large['peak_mb']:.0f} MB.",
            "",
        ]
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0f}"


def _wait_for_quiet(minutes: float) -> None:
    """Waits until hardly anything else runs, for some minutes at most."""
    until = time.monotonic() + 60 * minutes
    while os.getloadavg()[0] > QUIET and time.monotonic() < until:
        time.sleep(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--wait", type=float, default=2.0, help="Minutes to wait for a quiet machine before a turn.")
    parser.add_argument("--large", type=int, default=100_000, help="Side of the synthetic slide, pixels.")
    parser.add_argument("--large-tiles", type=int, default=1600)
    parser.add_argument("--run", nargs=3, metavar=("FOLDER", "OUT", "WAY"))
    parser.add_argument("--run-large", nargs=3, metavar=("SLIDE", "OUT", "TILES"))
    arguments = parser.parse_args()
    if arguments.run:
        run_way(Path(arguments.run[0]), Path(arguments.run[1]), arguments.run[2])
        return
    if arguments.run_large:
        run_large(Path(arguments.run_large[0]), Path(arguments.run_large[1]), int(arguments.run_large[2]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "slides", Path(temporary) / "out"
        folder.mkdir()
        for k in range(4):
            shutil.copy(REAL, folder / f"copy{k}.svs")
        found: dict[str, dict[str, float]] = {}
        for _ in range(arguments.turns):
            for name in WAYS:
                _wait_for_quiet(arguments.wait)
                shutil.rmtree(out / name, ignore_errors=True)
                one = called("--run", folder, out / name, name)
                if name not in found or one["per_second"] > found[name]["per_second"]:
                    found[name] = one
                print(name, one, flush=True)
        same = len({json.dumps(hashes(out / name)) for name in WAYS}) == 1
        killed = kill_and_resume(folder, out)
        from slides_reading import write_slide

        write_slide(Path(temporary) / "large.tif", arguments.large)
        large = called("--run-large", Path(temporary) / "large.tif", out, arguments.large_tiles)
    text = page(found, same, killed, large, arguments.large)
    print(text)
    (HERE / "EMBEDDING.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
