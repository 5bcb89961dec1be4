"""An audit of missingness for people, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from threading import Timer
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from multimodn.audit.findings import Audit, Shift, TaskAudit, cell_rank
from multimodn.audit.presence_probe import HARMLESS, probe, verdict
from multimodn.data.cohort import Cohort
from multimodn.files import write_text
from multimodn.findings.numbers import p_value
from multimodn.model.multimodn import MultiModN

MOST_PATTERNS, MOST_HOLES, MOST_CELLS = 10, 6, 10
ALARM = Text("ALARM", "bold red")


def show_audit(console: Console, found: Audit) -> None:
    """Prints the tables task by task, then those of the shifts, and last what they mean and what could not be seen."""
    for task in found.tasks:
        console.rule(Text(f"{task.task}: {task.labelled:,} of {task.n:,} patients have a label"))
        _show_modalities(console, task)
        _show_patterns(console, task)
        _show_holes(console, task)
        _show_cells(console, task)
    compared = [shift for shift in found.shifts if not shift.note]
    if compared:
        console.rule("Parts of the split, and groups")
    for shift in compared:
        _show_shift(console, shift)
    if found.late:
        _show_late(console, found)
    console.rule("What this means")
    for task in found.tasks:
        _say(console, task.verdict, bool(task.alarms or task.cell_alarms))
    _say(console, found.verdict, any(shift.shifted for shift in found.shifts))
    console.print(Text(found.limit, style="dim"))


def show_probe(console: Console, model: MultiModN, cohort: Cohort, file: Path) -> Path:
    """Probes a trained model on its test patients, or on all if it has none; prints a table and writes a CSV file."""
    whose = "all"
    if model.split is not None and len(model.split.test):
        whose, cohort = "test", cohort.subset(model.split.test)
    with slow_notice(console, "Probing the model ..."):
        found = probe(model, cohort)
    console.rule("What the trained model learned from presence")
    title = f"How much a linear probe reads of presence, R² ({len(cohort):,} {whose} patients)"
    table = _table(console, title, ["task", "read from"], ["R²", "95 %", ""])
    row: Any
    for row in found.itertuples():
        alarm = row.read_from == "prediction" and row.low > HARMLESS
        interval = f"{row.low:.2f} to {row.high:.2f}"
        table.add_row(Text(row.task), row.read_from, f"{row.r2:.2f}", interval, ALARM if alarm else "")
    console.print(table)
    _say(console, verdict(found), bool((found["low"] > HARMLESS)[found["read_from"] == "prediction"].any()))
    write_text(file, found.to_csv(index=False))
    return file


@contextmanager
def slow_notice(console: Console, text: str, after: float = 2.0) -> Iterator[None]:
    """Shows a spinner with a text, but only once the work has taken some seconds; nothing if nobody watches."""
    status = console.status(Text(text))
    timer = Timer(after, status.start)
    if console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        status.stop()


def _say(console: Console, text: str, alarming: bool) -> None:
    console.print(Text(text, style="bold yellow" if alarming else ""), end="\n\n")


def _table(console: Console, title: str, left: list[str], right: list[str]) -> Table:
    """Prints a title, which a table would break to its own width, and begins the table under it."""
    console.print(Text(title, style="italic"))
    table = Table()
    for name in left:
        table.add_column(Text(name), overflow="fold")
    for name in right:
        table.add_column(Text(name), justify="right")
    return table


def _show_modalities(console: Console, task: TaskAudit) -> None:
    low, high = task.halves
    title = f"Presence in {task.n_low:,} patients {low}, {task.n_high:,} {high} (p adjusted by Holm)"
    table = _table(console, title, ["modality"], [low, high, "Cramér's V", "p", ""])
    for one in task.modalities:
        shares = [_percent(share) for share in (one.present_low, one.present_high)]
        v, p = ("", "") if one.test == "none" else (f"{one.cramers_v:.2f}", p_value(one.p_corrected))
        table.add_row(Text(one.modality), *shares, v, p, ALARM if one.alarm else "")
    console.print(table)


def _show_patterns(console: Console, task: TaskAudit) -> None:
    occurring = [n > 0 for n in task.strata]  # of combinations of labels most may not
    table = _table(console, "Patterns", ["modalities"], ["n", "labelled", *compress(task.outcomes, occurring)])

    def add(name: Text, n: int, labelled: int, strata: Iterable[int]) -> None:
        table.add_row(name, *(f"{number:,}" for number in (n, labelled, *compress(strata, occurring))))

    for one in task.patterns[:MOST_PATTERNS]:
        add(Text(one.pattern), one.n, one.labelled, one.strata)
    rest = task.patterns[MOST_PATTERNS:]
    if rest:
        n, labelled, *strata = (
            sum(column) for column in zip(*((p.n, p.labelled, *p.strata) for p in rest), strict=True)
        )
        add(Text(f"{len(rest):,} more patterns", "dim"), n, labelled, strata)
    add(Text("all", "bold"), task.n, task.labelled, task.strata)
    console.print(table)


def _show_holes(console: Console, task: TaskAudit) -> None:
    smallest = [hole for hole in task.holes if hole.smallest and hole.labelled]
    if not smallest:
        return
    title = f"Holes: {len(smallest):,}, and all that contain them"
    table = _table(console, title, ["no patient with"], ["outcome", "labelled"])
    for hole in smallest[:MOST_HOLES]:
        table.add_row(Text(hole.subset), task.outcomes[hole.stratum], f"{hole.labelled:,}")
    if len(smallest) > MOST_HOLES:
        table.add_row(Text(f"{len(smallest) - MOST_HOLES:,} more, see audit.json", "dim"), "", "")
    console.print(table)


def _show_cells(console: Console, task: TaskAudit) -> None:
    """Prints what empty cells say of each modality that has some, and the columns where they say most."""
    if not task.cells:
        return
    numbers = ["columns", "with some empty", "alarms", "AUROC of emptiness alone"]
    table = _table(console, "Empty cells, of the patients who have the modality", ["modality"], numbers)
    for each in task.cells:
        auroc = each.auroc
        text = "" if auroc.value is None else f"{auroc.value:.2f} ({auroc.low:.2f} to {auroc.high:.2f})"
        table.add_row(Text(each.modality), f"{each.n_columns:,}", f"{each.n_tested:,}", f"{each.n_alarms:,}", text)
    console.print(table)
    strongest = sorted((one for each in task.cells for one in each.cells), key=cell_rank)
    low, high = task.halves
    title = "Share with an empty cell; ! = not identifiable: some outcome has no empty, or no filled, cell"
    table = _table(console, title, ["modality", "column"], [low, high, "Cramér's V", "p", ""])
    for one in strongest[:MOST_CELLS]:
        more = f" (+{len(one.columns) - 1} alike)" if len(one.columns) > 1 else ""
        shares = [_percent(share) for share in (one.empty_low, one.empty_high)]
        mark = Text(" ").join([ALARM] * one.alarm + [Text("!")] * (not one.is_identifiable))
        name = Text(f"{one.columns[0]}{more}")
        table.add_row(Text(one.modality), name, *shares, f"{one.cramers_v:.2f}", p_value(one.p_corrected), mark)
    n_more = sum(each.n_tested for each in task.cells) - sum(len(one.columns) for one in strongest[:MOST_CELLS])
    if n_more:
        table.add_row(Text(f"{n_more:,} more", "dim"), *[""] * 6)
    console.print(table)


def _show_shift(console: Console, shift: Shift) -> None:
    title = f"Presence by {shift.by} (Cramér's V {shift.cramers_v:.2f}, adjusted p {p_value(shift.p_corrected)})"
    names = [f"{part} (n = {n:,})" for part, n in zip(shift.parts, shift.n, strict=True)]
    modalities = [modality for modality, _ in shift.presence]
    shares = [row for _, row in shift.presence]
    if len(names) <= len(modalities):
        table, rows = _table(console, title, ["modality"], names), zip(modalities, shares, strict=True)
    else:
        table, rows = _table(console, title, [shift.by], modalities), zip(names, zip(*shares, strict=True), strict=True)
    for name, row in rows:
        table.add_row(Text(name), *map(_percent, row))
    console.print(table)


def _show_late(console: Console, found: Audit) -> None:
    """Prints what is not used of each modality because of its time."""
    numbers = ["rows", "after the moment of prediction", "before the window"]
    table = _table(console, "Not used, by time", ["modality", "column"], numbers)
    for late in found.late:
        counts = (f"{count:,}" for count in (late.n, late.n_after, late.n_before))
        table.add_row(Text(late.modality), Text(late.column), *counts)
    console.print(table)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
