"""Writes a report: one HTML file that needs nothing else, and its figures as files in a folder beside it.

Figures are Matplotlib's. It was a dependency already; and what it writes is plain SVG that needs no script, so that a
report prints, passes the content policies of hospitals, which often forbid scripts, and follows the reader's light or
dark mode by CSS variables. Libraries that draw in the browser would bring megabytes of script into each file, or load
it from elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from multimodn.card.update import complete_card
from multimodn.errors import MultiModNError, StudyError, shown
from multimodn.files import replacing_folder, write_text
from multimodn.model.multimodn import MultiModN
from multimodn.report.answers.collect import collect
from multimodn.report.content import Wishes
from multimodn.report.html.page import Page, render
from multimodn.report.sections.all_sections import page_of

FIGURES = "figures"
ENDINGS = {".svg", ".png", ".csv"}


@dataclass(frozen=True)
class Written:
    """What was written: the page, its size in bytes, the folder of the figures and how many there are.

    ``documents`` are the files of the run folder that were written anew, see `multimodn.card.update`.
    """

    file: Path
    n_bytes: int
    folder: Path
    n_figures: int
    documents: tuple[Path, ...] = ()


def write_report(
    model: MultiModN,
    run: Path,
    out: Path | None = None,
    wishes: Wishes | None = None,
    *,
    on_step: Callable[[str], None] = lambda name: None,
    on_problem: Callable[[str], None] = lambda text: None,
    has_files: bool = True,
) -> Written:
    """Asks a model for everything, and writes what it says; the run's model card learns of the simple models.

    Args:
        model: A trained model.
        run: Its run folder, which holds the logs of training.
        out: The file; default: ``report.html`` in the run folder. Figures go to ``figures`` in a folder beside it that
            has its name without the ending. What an earlier report wrote is replaced.
        wishes: What the reader asks for.
        on_step: Called with the name of each step before it starts.
        on_problem: Called with what went wrong where an answer could not be had.
        has_files: Whether figures are written as files, too.

    Raises:
        StudyError: If the folder of the figures holds something else.
        DataError: If the patients cannot be read.
    """
    out = run / "report.html" if out is None else out
    folder = out.with_suffix("") / FIGURES
    if out.is_dir():
        raise StudyError(f"{out} is a folder; name a file, such as --out {out / 'report.html'}.")
    foreign = [file.name for file in sorted(folder.glob("*")) if file.is_dir() or file.suffix not in ENDINGS]
    if foreign:
        raise StudyError(f"{folder} holds what no report wrote: {shown(foreign)}. Choose another --out, or move it.")
    wishes = Wishes() if wishes is None else wishes
    found = collect(model, run, wishes, on_step, on_problem)
    documents = []
    if not wishes.arms:  # else they are not those that a run is compared with
        on_step("model card")
        try:
            documents = complete_card(model, run, found.comparison)
        except MultiModNError as error:
            on_problem(f"model card: {error}")
    on_step("figures")
    page = page_of(found, f"{datetime.now(UTC):%d %B %Y}")
    return replace(write_page(page, out, folder, on_step, has_files=has_files), documents=tuple(documents))


def write_page(
    page: Page, out: Path, folder: Path, on_step: Callable[[str], None] = lambda name: None, *, has_files: bool = True
) -> Written:
    """Writes a page and the files of its figures into a folder; see `write_report`."""
    on_step("page")
    text = render(page, folder=os.path.relpath(folder, out.parent).replace(os.sep, "/"))
    n_figures = _write_figures(page, folder, on_step) if has_files else 0
    write_text(out, text)
    return Written(out, out.stat().st_size, folder, n_figures)


def _write_figures(page: Page, folder: Path, on_step: Callable[[str], None]) -> int:
    """Writes all figures into a new folder, which then takes the place of the old one."""
    pictures = list(page.pictures())
    with replacing_folder(folder) as temporary:
        for k, picture in enumerate(pictures, 1):
            on_step(f"figure {k} of {len(pictures)}")
            picture.save(temporary)
            if picture.table is not None:
                picture.table.to_csv(temporary / f"{picture.name}.csv", index=picture.table.index.name is not None)
    return len(pictures)
