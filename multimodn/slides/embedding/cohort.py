"""Embeds all slides of a cohort into a folder, with a table of them."""

from __future__ import annotations

import csv
import glob
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from multimodn.errors import DataError, did_you_mean_file, raise_all
from multimodn.files import make_folder, replacing
from multimodn.slides.embedding.embed import EmbedOptions, SlideResult
from multimodn.slides.embedding.jobs import Progress, SlideJob, Tracker, Work, run_processes, run_serial
from multimodn.slides.embedding.ray import run_on_ray
from multimodn.slides.embedding.resolutions import read_resolutions
from multimodn.slides.embedding.tile_encoders import load_tile_encoder
from multimodn.slides.feature_files.features import open_features

# slide files of a folder; images (PNG, JPEG) are slides only where they are named one by one
SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm")
COLUMNS = ("slide", "file", "n_tiles", "mpp", "width", "height", "encoder")


class EmbedError(DataError):
    """Some slides failed; the others are embedded. ``results`` holds the outcome of every slide."""

    def __init__(self, message: str, results: Sequence[SlideResult] = ()) -> None:
        super().__init__(message)
        self.results = list(results)


def find_slides(names: Iterable[str | Path]) -> list[Path]:
    """Returns the slides that files, folders and patterns such as ``slides/*.svs`` name, each once, sorted.

    Of a folder and the folders in it, the files whose name ends in one of `SUFFIXES`.

    Raises:
        DataError: If a name finds no slide; all such names are listed.
    """
    slides, problems = dict[Path, Path](), list[str]()
    for name in map(str, names):
        path = Path(name).expanduser()
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
            problem = f"the folder {path} holds no slide ({', '.join(SUFFIXES)})"
        elif path.is_file():
            files, problem = [path], ""
        else:
            files = [Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file()]
            problem = f"there is no file {path}.{did_you_mean_file(path)}"
        if not files:
            problems.append(problem)
        slides |= {file.resolve(): file.absolute() for file in files}
    raise_all(problems, DataError, "Slides")
    return sorted(slides.values())


def embed_slides(
    slides: Iterable[str | Path],
    out: Path | str,
    encoder: str = "efficientnet-lite0",
    options: EmbedOptions | None = None,
    workers: int = 1,
    ray: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    mpp_table: Path | None = None,
) -> list[SlideResult]:
    """Embeds slides, one feature file ``<name>.h5`` each; finished ones are kept, unfinished ones are resumed.

    Also written: ``slides.csv``, a table of all feature files of the folder, and ``absent.csv``, the slides without
    tissue, each with the reason. Returns the outcome of each slide.

    Args:
        slides: Files, folders, patterns; see `find_slides`.
        out: The folder to write.
        encoder: See `load_tile_encoder`.
        options: See `EmbedOptions`.
        workers: Processes, a slide each at a time; with > 1, a script needs ``if __name__ == "__main__":``.
        ray: Address of a Ray cluster to use in place of processes; see `run_on_ray`.
        on_progress: Called from time to time.
        mpp_table: A CSV of resolutions, before `EmbedOptions.mpp` and what slides state; see `read_resolutions`.

    Raises:
        EmbedError: If some slides failed, after all the others are finished; every problem is listed.
        DataError: If slides or tile encoder cannot be found, or two slides would write the same file.
    """
    options, folder = options or EmbedOptions(), Path(out).absolute()
    if workers < 1:
        raise DataError(f"{workers} workers; expected 1 or more.")
    found = find_slides(slides)
    resolutions = {} if mpp_table is None else read_resolutions(mpp_table, found)
    jobs = _jobs(found, folder, resolutions)
    loaded = load_tile_encoder(encoder, options.device)
    work = Work(loaded.spec, loaded.hash, options)
    make_folder(folder)
    tracker = Tracker(jobs, on_progress)
    try:
        if ray is not None:
            run_on_ray(jobs, work, tracker, ray, workers if workers > 1 else None)
        elif workers > 1 and len(jobs) > 1:
            run_processes(jobs, work, tracker, min(workers, len(jobs)))
        else:
            run_serial(jobs, work, tracker)
    finally:  # an interrupted run lists what is finished, too
        results = [tracker.results[i] for i in sorted(tracker.results)]
        _write_absent(folder, results)
        damaged = _write_manifest(folder)
    problems = [result.problem for result in results if result.status == "failed"]
    lines = [f"{len(problems)} of {len(results)} slides failed:"] if problems else []
    lines += [f"  {i}. {problem}" for i, problem in enumerate(problems, 1)]
    lines += ["Feature files of earlier runs cannot be read:"] if damaged else []
    lines += [f"  - {problem}" for problem in damaged]
    if lines:
        raise EmbedError("\n".join(lines), results)
    return results


def _write_manifest(folder: Path) -> list[str]:
    """Writes ``slides.csv``, a row for each feature file of a folder; returns the problems of unreadable ones."""
    rows, problems = list[tuple[object, ...]](), list[str]()
    for path in sorted(folder.glob("*.h5")):
        try:
            with open_features(path) as opened:
                meta = opened.meta
                rows.append((meta.slide, path.name, opened.n, meta.mpp, meta.width, meta.height, meta.encoder))
        except DataError as error:
            problems.append(str(error))
    _write_csv(folder / "slides.csv", COLUMNS, rows)
    return problems


def _write_absent(folder: Path, results: Sequence[SlideResult]) -> None:
    """Writes ``absent.csv``, slides without tissue and the reason; rows of earlier runs on other slides stay."""
    file = folder / "absent.csv"
    rows = dict[str, str]()
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as stream:
            rows = {row["slide"]: row["reason"] for row in csv.DictReader(stream)}
    for result in results:
        rows.pop(result.slide.name, None)
        if result.status == "absent":
            rows[result.slide.name] = result.problem
    if rows:
        _write_csv(file, ("slide", "reason"), sorted(rows.items()))
    else:
        file.unlink(missing_ok=True)


def _jobs(slides: Sequence[Path], folder: Path, mpp: Mapping[Path, float] = MappingProxyType({})) -> list[SlideJob]:
    same = defaultdict[str, list[Path]](list)
    for slide in slides:
        same[slide.stem].append(slide)
    several = {name: " and ".join(map(str, paths)) for name, paths in same.items() if len(paths) > 1}
    advice = "rename one, or use two folders"
    problems = [f"{paths} would both be written to {name}.h5; {advice}" for name, paths in several.items()]
    raise_all(problems, DataError, "Slides of the same name")
    return [SlideJob(slide, folder / f"{slide.stem}.h5", mpp.get(slide)) for slide in slides]


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
