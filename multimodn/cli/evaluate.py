"""The command `multimodn evaluate`; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodn.cli.new_patients import STUDIES, chosen_cohort
from multimodn.cli.options import New, Run, Sources, console, errors, load_model
from multimodn.cli.terminal.console import working

if TYPE_CHECKING:
    from multimodn.external.result import External
    from multimodn.model.multimodn import MultiModN


def evaluate(
    run: Run,
    new: New = None,
    source: Sources = None,
    everyone: Annotated[bool, typer.Option("--all", help="All patients, as of another cohort.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV or Parquet file; of an external validation the folder to write."),
    ] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option("--allow-overlap", help="Patients of the other study may have identifiers of training patients."),
    ] = False,
) -> None:
    """Score the test patients of the run's split, new patients, or by a study file those of another hospital.

    A study file of another hospital is external validation: nothing is trained.
    """
    from multimodn.cli.terminal.tables import show_scores, write_frame
    from multimodn.external.tables import with_intervals

    model = load_model(run)
    studies = [text for text in new or [] if text.endswith(STUDIES)]
    if studies:
        _external(model, run, Path(studies[0]), [*(new or []), *(source or [])], out, allow_overlap=allow_overlap)
        return
    cohort = chosen_cohort(model, new, source, labelled=True)
    if model.split is not None and not everyone and not (new or source):
        cohort = cohort.subset(model.split.test)
    patients = model.prepare(cohort, labelled=True)
    scores = with_intervals(model, patients, model.evaluate(patients))
    show_scores(console, scores, f"{len(cohort)} patients of {model.study.name}")
    if out:
        write_frame(console, scores, out)


def _external(
    model: MultiModN, run: Path, other: Path, given: list[str], out: Path | None, *, allow_overlap: bool
) -> None:
    from multimodn.errors import StudyError
    from multimodn.external.validate import evaluate_external
    from multimodn.external.write import write_external
    from multimodn.monitor.reference import FILE, Reference
    from multimodn.study.study import Study

    if len(given) > 1:
        raise StudyError(f"{other} is a study file: give it alone, the other study names its own sources.")
    study = Study.load(other)
    folder = out or (run if run.is_dir() else run.parent) / "external" / other.stem
    reference = Reference.load(run) if (run / FILE).is_file() else None
    with working(errors, "External validation ...") as show:
        found = evaluate_external(
            model, study, reference=reference, allow_overlap=allow_overlap,
            on_step=lambda step: show(f"External validation: {step} ..."),
        )  # fmt: skip
        files = write_external(found, folder)
    _show_external(found)
    console.print(f"Wrote {', '.join(file.name for file in files)} to {folder}.", highlight=False, soft_wrap=True)


def _show_external(found: External) -> None:
    from multimodn.cli.terminal.tables import show_scores
    from multimodn.evaluate.performance.performance import RAISED
    from multimodn.findings.findings import main_rows
    from multimodn.findings.names import metric_name
    from multimodn.findings.numbers import interval, number
    from multimodn.monitor.drift import trust

    main = main_rows(found.performance, "overall")
    show_scores(console, main[~main["metric"].isin(RAISED)], f"{found.flow['n'].iloc[0]} patients of {found.name}")
    metrics = found.performance.main_metric
    lines = [
        f"{row['task']}: {metric_name(row['metric'])} {number(row['external'], 3)} here, {number(row['internal'], 3)} "
        f"in the internal test, difference {interval(row['difference'], row['low'], row['high'], 3, is_signed=True)}."
        for row in found.comparison.to_dict("records")
        if row["metric"] == metrics[row["task"]]
    ]
    lines += [*found.sentences(), *(f"Note: {note}" for note in found.notes)]
    lines += [] if found.drift is None else [f"Drift: {trust(found.drift)}"]
    for line in lines:
        console.print(line, markup=False, highlight=False)
