"""The command `multimodn embed-slides`; nothing heavy is imported before it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodn.cli.options import console, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multimodn.slides.embedding.embed import SlideResult
    from multimodn.slides.embedding.jobs import Progress

ENCODERS = "efficientnet-lite0, torchscript:FILE, timm:FOLDER or monai:FOLDER."


class OnNoTissue(StrEnum):
    """What a slide without tissue is."""

    error = "error"
    absent = "absent"


class Number(StrEnum):
    """How features are stored."""

    float16 = "float16"
    float32 = "float32"


def embed_slides(
    slides: Annotated[list[str], typer.Argument(help="Slide files, folders (searched through) or patterns in quotes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write, one .h5 file a slide.")],
    encoder: Annotated[str, typer.Option(help=f"Tile encoder: {ENCODERS}")] = "efficientnet-lite0",
    mpp: Annotated[float | None, typer.Option(help="Microns per pixel of the slides, if they do not say.")] = None,
    mpp_table: Annotated[
        Path | None, typer.Option(help="CSV of the columns slide and mpp: the resolution of each slide.")
    ] = None,
    tile_mpp: Annotated[float, typer.Option(help="Microns per pixel of the tiles; 0.5 is 20x.")] = 0.5,
    tile_size: Annotated[int | None, typer.Option(help="Side of a tile, pixels; default: the encoder's.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of its side that a tile shares with the next one.")] = 0.0,
    tissue: Annotated[float, typer.Option(help="Least share of a tile that is tissue.")] = 0.5,
    stain: Annotated[str | None, typer.Option(help="Stain normalisation: macenko; default: none.")] = None,
    workers: Annotated[int, typer.Option(help="Processes, a slide each; the files do not depend on it.")] = 1,
    threads: Annotated[int, typer.Option(help="Batches that a process computes at a time.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Tiles that are read and kept at a time.")] = 16,
    dtype: Annotated[Number, typer.Option(help="Type of the features.")] = Number.float16,
    device: Annotated[str, typer.Option(help="Of the network: cpu, cuda, or auto.")] = "auto",
    backend: Annotated[str | None, typer.Option(help="The slide reader; default: by format.")] = None,
    thumbnails: Annotated[bool, typer.Option(help="Write pictures of the slides with the tissue outlined.")] = False,
    on_no_tissue: Annotated[
        OnNoTissue, typer.Option(help="A slide without tissue is an error, or recorded in absent.csv.")
    ] = OnNoTissue.error,
    ray: Annotated[
        str | None, typer.Option(help="Use a Ray cluster: auto, HOST:PORT, or local to start one here.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that were made with other options.")] = False,
) -> None:
    """Turn whole-slide images into feature files; the same command again continues an interrupted run."""
    from multimodn.slides.embedding.cohort import EmbedError
    from multimodn.slides.embedding.cohort import embed_slides as embed
    from multimodn.slides.embedding.embed import EmbedOptions

    options = EmbedOptions(
        mpp=mpp, tile_mpp=tile_mpp, tile_size=tile_size, overlap=overlap, tissue=tissue, stain=stain,
        batch_size=batch_size, dtype=dtype.value, backend=backend, on_no_tissue=on_no_tissue.value,
        threads=threads, device=device, thumbnails=thumbnails, overwrite=overwrite,
    )  # fmt: skip
    started = time.monotonic()
    try:
        with _progress() as show:
            results = embed(slides, out, encoder, options, workers, ray, show, mpp_table)
    except KeyboardInterrupt:
        errors.print("Interrupted. The same command continues after the last finished batch of each slide.")
        raise typer.Exit(130) from None
    except EmbedError as error:
        _summary(error.results, out, time.monotonic() - started)
        raise
    _summary(results, out, time.monotonic() - started)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    with Bars(*columns, TimeElapsedColumn(), console=errors, transient=True) as bars:
        slides, tiles = bars.add_task("slides", total=None, speed=""), bars.add_task("tiles", total=None, speed="")
        first: list[tuple[float, int]] = []

        def show(now: Progress) -> None:
            first[:] = first or [(time.monotonic(), now.n_tiles)]
            seconds = time.monotonic() - first[0][0]
            speed = f"{(now.n_tiles - first[0][1]) / seconds:,.1f} tiles/s" if seconds > 1 else ""
            bars.update(slides, completed=now.n_slides, total=now.of_slides)
            bars.update(tiles, completed=now.n_tiles, total=now.of_tiles, speed=speed)

        yield show


def _summary(results: Sequence[SlideResult], out: Path, seconds: float) -> None:
    done = [result for result in results if result.status == "embedded"]
    n_resumed = sum(result.n_resumed for result in done)
    n = sum(result.n_tiles for result in done) - n_resumed
    slides = "1 slide" if len(done) == 1 else f"{len(done)} slides"
    n_kept, n_absent = (sum(result.status == status for result in results) for status in ("kept", "absent"))
    texts = [f"Embedded {slides} ({n:,} tiles in {seconds:,.1f} s, {n / max(seconds, 1e-9):,.1f} tiles/s)"]
    texts += [f"continued after {n_resumed:,} tiles of an interrupted run"] if n_resumed else []
    texts += [f"kept {n_kept} that were there"] if n_kept else []
    texts += [f"{n_absent} without tissue are in absent.csv"] if n_absent else []
    console.print(f"{'; '.join(texts)}. Wrote {out / 'slides.csv'}.", highlight=False, soft_wrap=True)
