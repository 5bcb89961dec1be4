"""The command `multimodn conformal`; nothing heavy is imported before it runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from multimodn.cli.new_patients import chosen_cohort
from multimodn.cli.options import New, Out, Patients, Run, Sources, console, load_model

if TYPE_CHECKING:
    import pandas as pd

    from multimodn.data.splits import Split


def conformal(
    run: Run,
    new: New = None,
    source: Sources = None,
    patient: Patients = None,
    level: Annotated[float, typer.Option(help="Coverage level of the prediction sets.")] = 0.9,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Measure the coverage of the sets of labelled patients instead.")
    ] = False,
    out: Out = None,
) -> None:
    """Predict conformal prediction sets of a chosen coverage level, or measure their coverage."""
    from multimodn.cli.terminal.tables import write_frame
    from multimodn.evaluate.performance.conformal_coverage import coverage as measure

    model = load_model(run)
    are_new = bool(new or source)
    if not are_new and coverage and model.split is not None and len(model.split.test):
        _check_tested(patient, list(model.split.test))
        cohort = model.test_cohort()
    else:
        cohort = chosen_cohort(model, new, source, labelled=coverage)
    cohort = cohort.subset(patient) if patient else cohort
    if coverage and are_new:
        _warn_of_trained(cohort.patients, model.split)
    frame = measure(model, cohort, level) if coverage else model.conformal.predict(cohort, level=level)
    if coverage and out is None:
        _show(frame, level)
    else:
        write_frame(console, frame, out)


def _check_tested(wanted: list[str] | None, tested: Sequence[str]) -> None:
    from multimodn.errors import DataError, shown

    others = [name for name in wanted or [] if name not in tested]
    if others:
        text = f"--coverage looks at the test patients alone, and {shown(others)} is none of them."
        raise DataError(f"{text} Leave out --coverage to see the sets of any patient.")


def _warn_of_trained(patients: pd.Index, split: Split | None) -> None:
    from multimodn.errors import DataWarning

    n = 0 if split is None else int(patients.isin([*split.train, *split.validation]).sum())
    text = f"{n} patient(s) have identifiers of patients whom the sets were calibrated on or the model was trained on: "
    if n:
        warnings.warn(f"{text}if they are the same, coverage is too high.", DataWarning, stacklevel=2)


def _show(coverage: pd.DataFrame, level: float) -> None:
    from rich.table import Table
    from rich.text import Text

    from multimodn.findings import sentences
    from multimodn.findings.findings import findings_of
    from multimodn.findings.numbers import percent

    table = Table(title=f"Coverage of {percent(level)} conformal prediction sets", title_justify="left")
    for column in ("task", "pattern", "n", "coverage", "95% interval", "size", "abstained", "method"):
        table.add_column(column, justify="right" if column in ("n", "coverage", "size", "abstained") else "left")
    for row in coverage.to_dict("records"):
        task = f"{row['task']}: {row['output']}" if row["output"] else row["task"]
        share = Text(f"{row['coverage']:.3f}", "" if row["reached"] else "red")
        texts = (f"{row['low']:.3f} to {row['high']:.3f}", f"{row['size']:.3g}", percent(row["abstained"]))
        table.add_row(task, row["pattern"], str(row["n"]), share, *texts, row["method"])
    console.print(table)
    for text in sentences.coverage(findings_of(coverage=coverage)):
        console.print(text, markup=False, highlight=False)
    note = "Red: the interval lies below the level. Guaranteed only while the reasons for missing data stay the same."
    console.print(note, style="dim", highlight=False)
