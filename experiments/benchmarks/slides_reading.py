"""Measures slide readers on one large synthetic slide: tiles per second up to the encoder's tensor, and peak memory.

Writes a pyramidal tiled JPEG TIFF of 40,000 x 40,000 pixels, finds its tissue, and has each reader turn every tissue
tile into the float32 tensor that an encoder takes. Each reader runs in a process of its own; readers take turns, three
times, and the best turn of each counts, so that a busy machine harms all alike. Prints a table and writes it to
`slides_reading.json` and `SLIDES.md` beside this file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from multimodn.files import replacing

HERE = Path(__file__).parent
TILE, LEVELS, MPP, BATCH = 256, (1, 4, 16), 0.5, 64
MEAN, STD = (torch.tensor(x)[:, None, None] * 255 for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
GLASS, EOSIN, HAEMATOXYLIN = (243, 242, 244), (226, 160, 198), (110, 70, 150)
Read = Callable[[int, int], NDArray[np.uint8]]


def texture(rng: np.random.Generator, is_tissue: bool) -> NDArray[np.uint8]:
    """Returns one tile of glass or of tissue: pink with purple nuclei, and the noise of a camera."""
    nuclei = ndimage.gaussian_filter(rng.normal(size=(TILE, TILE)), 4)
    colours = np.where((nuclei > nuclei.std())[..., None], HAEMATOXYLIN, EOSIN) if is_tissue else np.array(GLASS)
    return np.clip(colours + rng.normal(0, 3, (TILE, TILE, 3)), 0, 255).astype(np.uint8)


def encoded(tile: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(tile, level=85, colorspace="RGB", outcolorspace="YCBCR", subsampling=(2, 2)))


def write_slide(path: Path, size: int) -> None:
    """Writes the slide tile by tile: about a third of tissue, drawn from a pool of tiles that are encoded once."""
    import tifffile

    rng = np.random.default_rng(0)
    pool = [[texture(rng, bool(kind)) for _ in range(n)] for kind, n in ((0, 16), (1, 256))]
    n = -(-size // TILE)
    y, x = np.mgrid[:n, :n] / n
    blobs = [(0.3, 0.3, 0.2), (0.65, 0.35, 0.16), (0.4, 0.72, 0.17), (0.75, 0.75, 0.14)]
    is_tissue = np.any([np.hypot(x - at_x, y - at_y) < radius for at_x, at_y, radius in blobs], axis=0)
    chosen = np.where(is_tissue, rng.integers(0, 256, (n, n)), rng.integers(0, 16, (n, n)))

    def tiles(k: int) -> Iterator[bytes]:
        small = [[np.rint(t.reshape(TILE // k, k, -1, k, 3).mean((1, 3))).astype(np.uint8) for t in p] for p in pool]
        ready = [[encoded(tile) for tile in kind] for kind in small] if k == 1 else []
        for row in range(0, n, k):
            for column in range(0, n, k):
                if k == 1:
                    yield ready[int(is_tissue[row, column])][chosen[row, column]]
                    continue
                tile = np.full((TILE, TILE, 3), GLASS, dtype=np.uint8)
                side = TILE // k
                for i in range(min(k, n - row)):
                    for j in range(min(k, n - column)):
                        at = row + i, column + j
                        part = np.s_[i * side : (i + 1) * side, j * side : (j + 1) * side]
                        tile[part] = small[int(is_tissue[at])][chosen[at]]
                yield encoded(tile)

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for k in LEVELS:
            side = -(-size // k)
            file.write(
                tiles(k),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"outcolorspace": "ycbcr"},
                subsampling=(2, 2),
                subfiletype=0 if k == 1 else 1,
                resolution=(1e4 / MPP, 1e4 / MPP),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def bare_tifffile(path: Path, size: int) -> Read:
    import tifffile

    file = tifffile.TiffFile(path)
    page = file.pages[0]
    across = -(-page.imagewidth // page.tilewidth)

    def read(x: int, y: int) -> NDArray[np.uint8]:
        index = y // TILE * across + x // TILE
        file.filehandle.seek(page.dataoffsets[index])
        data = file.filehandle.read(page.databytecounts[index])
        return np.asarray(page.decode(data, index, jpegtables=page.jpegtables)[0][0])

    return read


def bare_cucim(path: Path, size: int) -> Read:
    from cucim import CuImage

    slide = CuImage(str(path))
    return lambda x, y: np.asarray(slide.read_region((x, y), (size, size), 0))


def bare_openslide(path: Path, size: int) -> Read:
    from openslide import OpenSlide

    slide = OpenSlide(path)
    return lambda x, y: np.asarray(slide.read_region((x, y), 0, (size, size)).convert("RGB"))


def monai_reader(backend: str) -> Callable[[Path, int], Read]:
    def make(path: Path, size: int) -> Read:
        from monai.data.wsi_reader import WSIReader

        reader = WSIReader(backend)
        slide = reader.read(str(path))
        return lambda x, y: np.moveaxis(reader.get_data(slide, (y, x), (size, size), level=0)[0], 0, -1)

    return make


BARE = {
    "tifffile, bare loop": bare_tifffile,
    "cucim, bare loop": bare_cucim,
    "openslide, bare loop": bare_openslide,
    "MONAI WSIReader (cucim)": monai_reader("cucim"),
    "MONAI WSIReader (openslide)": monai_reader("openslide"),
}
OURS, OURS_2 = "multimodn, tifffile", "multimodn, tifffile, 2 processes"
READERS = [*BARE, OURS, OURS_2]


def encoder_input(batch: NDArray[np.uint8]) -> torch.Tensor:
    """Turns tiles (n, h, w, 3) into what an encoder takes: float32 (n, 3, h, w), standardised."""
    planes = torch.from_numpy(batch).permute(0, 3, 1, 2)
    return planes.to(torch.float32, memory_format=torch.contiguous_format).sub_(MEAN).div_(STD)


def batches(name: str, path: Path, xy: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
    starts = range(0, len(xy), BATCH)
    if name in BARE:
        read = BARE[name](path, size)
        for start in starts:
            yield np.stack([read(x, y) for x, y in xy[start : start + BATCH].tolist()])
        return
    from multimodn.slides.reader.open import open_slide

    with open_slide(path) as slide:
        for start in starts:
            yield slide.read_tiles(xy[start : start + BATCH], size, MPP)


def measure(name: str, path: Path, xy: NDArray[np.int64], size: int, gate: Any = None) -> tuple[float, float]:
    """Returns the seconds, and those of the processor, that all tiles take.

    Opening the slide is part of them, importing libraries is not.
    """
    torch.set_num_threads(1)
    for batch in batches(name, path, xy[:2], size):
        encoder_input(batch)
    if gate is not None:
        gate.wait()
    started, busy = time.perf_counter(), time.process_time()
    for batch in batches(name, path, xy, size):
        encoder_input(batch)
    return time.perf_counter() - started, time.process_time() - busy


def worker(path: Path, xy: NDArray[np.int64], size: int, gate: Any, results: Any) -> None:
    results.put((*measure(OURS, path, xy, size, gate), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def run_one(name: str, path: Path, xy: NDArray[np.int64], size: int) -> dict[str, float]:
    """Measures one reader in this process (two processes: in two children; their peaks add up)."""
    if name != OURS_2:
        seconds, busy = measure(name, path, xy, size)
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:
        context = multiprocessing.get_context("spawn")
        gate, results = context.Barrier(2), context.Queue()
        halves = np.array_split(xy, 2)
        children = [context.Process(target=worker, args=(path, half, size, gate, results)) for half in halves]
        for child in children:
            child.start()
        found = [results.get() for _ in children]
        for child in children:
            child.join()
        seconds, busy, kilobytes = max(f[0] for f in found), sum(f[1] for f in found), sum(f[2] for f in found)
    return {"tiles_per_second": len(xy) / seconds, "cpu_ms": 1e3 * busy / len(xy), "peak_mb": kilobytes / 1024}


def find_tiles(path: Path, size: int) -> tuple[NDArray[np.int64], dict[str, float]]:
    from multimodn.slides.reader.open import open_slide
    from multimodn.slides.tiles.tiling import Tiling, tile_grid
    from multimodn.slides.tiles.tissue import find_tissue

    started = time.perf_counter()
    with open_slide(path) as slide:
        tissue = find_tissue(slide)
        xy = tile_grid(slide, tissue, Tiling(size=size, mpp=MPP, tissue=0.5))
    found = {"seconds": time.perf_counter() - started, "fraction": tissue.fraction, "n_tiles": len(xy)}
    return xy, found


def table(result: dict[str, Any]) -> str:
    others = [row for name, row in result["readers"].items() if name not in (OURS, OURS_2)]
    fastest, least = max(row["tiles_per_second"] for row in others), min(row["cpu_ms"] for row in others)
    lines = [
        "| reader | tiles/s | of the fastest other | processor, ms/tile | of the least other | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["readers"].items():
        rate = row["tiles_per_second"]
        busy = row["cpu_ms"]
        cells = f"{rate:.0f} | {rate / fastest:.2f} | {busy:.2f} | {busy / least:.2f} | {row['peak_mb']:.0f}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def report(result: dict[str, Any]) -> str:
    tissue = result["tissue"]
    return f"""# Reading slides: speed and memory

Written by `python experiments/benchmarks/slides_reading.py`; do not edit.

One synthetic slide of {result["slide_px"]:,} x {result["slide_px"]:,} pixels at {MPP} microns per pixel (JPEG tiles of
{TILE} pixels, 4:2:0, quality 85; levels 1, 4, 16; {result["slide_mb"]:.0f} MB). Finding its tissue
({tissue["fraction"]:.0%} of the slide) and focus took {tissue["seconds"]:.1f} s and
{tissue["peak_mb"]:.0f} MB. Then every reader turned the first {result["n_tiles"]:,} of its {tissue["n_tiles"]:,} tissue
tiles of {result["tile_px"]} pixels into float32 tensors (n, 3, h, w), standardised, in batches of {BATCH}: one process, one thread, unless it says
otherwise. Best of {result["n_turns"]} interleaved turns; peak memory is that of the process and all libraries it
imports, Torch included. On a shared machine the processor's time says more than the clock's.

## Results

{table(result)}

Each turn, tiles/s: {"; ".join(f"{name}: {', '.join(f'{t:.0f}' for t in row['turns'])}" for name, row in result["readers"].items())}.

{result["machine"]}
"""  # noqa: E501


def machine() -> str:
    names = ("torch", "tifffile", "imagecodecs", "openslide-python", "cucim-cu12", "monai")
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return (
        f"Machine: {processor}, {os.cpu_count()} cores, shared with other work (load average at the start "
        f"{os.getloadavg()[0]:.1f}), no GPU used; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + "."
    )


def turn(arguments: list[str]) -> dict[str, float]:
    """Runs this script for one reader in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def run_all(folder: Path, size: int, tile: int, n_tiles: int, n_turns: int, out: Path) -> None:
    path = folder / f"slide-{size}.tif"
    if not path.is_file():
        with replacing(path) as temporary:
            write_slide(temporary, size)
    common = ["--folder", str(folder), "--size", str(size), "--tile", str(tile), "--tiles", str(n_tiles)]
    result: dict[str, Any] = {
        "machine": machine(),
        "slide_px": size,
        "slide_mb": path.stat().st_size / 1e6,
        "tile_px": tile,
        "n_turns": n_turns,
        "tissue": turn([*common, "--find-tiles"]),
    }
    result["n_tiles"] = min(n_tiles, int(result["tissue"]["n_tiles"]))
    names = READERS if tile == TILE else [name for name in READERS if name != "tifffile, bare loop"]
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(n_turns):
        for name in names:
            turns[name].append(turn([*common, "--reader", name]))
            print(f"{name}: {turns[name][-1]['tiles_per_second']:.0f}", file=sys.stderr)
    result["readers"] = {
        name: {
            "tiles_per_second": max(t["tiles_per_second"] for t in found),
            "cpu_ms": min(t["cpu_ms"] for t in found),
            "peak_mb": max(t["peak_mb"] for t in found),
            "turns": [t["tiles_per_second"] for t in found],
        }
        for name, found in turns.items()
    }
    print(table(result))
    (out / "slides_reading.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "SLIDES.md").write_text(report(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the slide is, or is written to and kept; default temporary")
    parser.add_argument("--size", type=int, default=40_000, help="side of the slide, pixels")
    parser.add_argument("--tile", type=int, default=TILE, help="side of a tile, pixels")
    parser.add_argument("--tiles", type=int, default=4000, help="tissue tiles that are read")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE, help="where results are written")
    parser.add_argument("--find-tiles", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader is None and not given.find_tiles:
        with tempfile.TemporaryDirectory() as temporary:
            folder = given.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            run_all(folder, given.size, given.tile, given.tiles, given.turns, given.out)
        return
    path, tiles = given.folder / f"slide-{given.size}.tif", given.folder / f"tiles-{given.size}-{given.tile}.npy"
    if given.find_tiles:
        xy, found = find_tiles(path, given.tile)
        np.save(tiles, xy)
        print(json.dumps({**found, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    else:
        print(json.dumps(run_one(given.reader, path, np.load(tiles)[: given.tiles], given.tile)))


if __name__ == "__main__":
    main()
