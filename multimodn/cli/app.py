"""The command line: from a first study file to training, predictions, explanations and their evaluation."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from multimodn.cli.conformal import conformal
from multimodn.cli.drift import drift
from multimodn.cli.embed_slides import embed_slides
from multimodn.cli.evaluate import evaluate
from multimodn.cli.new_patients import chosen_cohort, with_modality
from multimodn.cli.next_modality import next_modality
from multimodn.cli.options import New, Out, Run, Sources, console, errors, load_model
from multimodn.cli.report import report
from multimodn.cli.terminal.console import print_everywhere, working
from multimodn.cli.tune import tune

app = typer.Typer(
    help="Clinical prediction from multimodal data with missing modalities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Order = Annotated[str | None, typer.Option(help="Modalities in the order of the steps: a,b,c.")]


def main() -> None:
    """Runs the command line; a foreseen error is a message and exit status 2, not a traceback."""
    from multimodn.errors import DataWarning, MultiModNError
    from multimodn.files import PlaceError

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, DataWarning):
            errors.print(Text.assemble(("Note:", "yellow"), f" {message}"))

    print_everywhere()
    warnings.showwarning = show  # type: ignore[assignment]
    try:
        app()
    except (MultiModNError, PlaceError) as error:
        _stop(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _stop(f"{error.filename} cannot be read or written: {error.strerror}.")


def _stop(text: str) -> NoReturn:
    """Prints an error and ends with status 2."""
    errors.print(Text.assemble(("Error:", "red bold"), f" {text}"))
    sys.exit(2)


@app.command()
def init(
    tables: Annotated[list[Path], typer.Argument(help="CSV, Parquet, .npz, folders of files: one modality each.")],
    id: Annotated[str, typer.Option(help="The column that names the patient, in every table.")],
    target: Annotated[list[str], typer.Option(help="A column to predict; may be given several times.")],
    out: Annotated[Path, typer.Option(help="The study file to write.")] = Path("study.yaml"),
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented study file by looking at the tables."""
    from multimodn.scaffold.write_study import write_study

    write_study(tables, id, target, out, overwrite=overwrite)
    console.print(f"Wrote {out}. Read its comments, correct what was inferred wrongly, then: multimodn fit {out}")


@app.command()
def audit(
    study: Annotated[Path, typer.Argument(help="A study file; or a run folder, to probe its model too.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; default: audit beside the study or in the run.")
    ] = None,
) -> None:
    """Test whether missingness depends on the outcome, and whether a trained model learned from it."""
    from multimodn.audit.audit import audit as audit_study
    from multimodn.audit.audit import write_audit
    from multimodn.cli.terminal.audit import show_audit, show_probe, slow_notice
    from multimodn.data.cohort import Cohort
    from multimodn.data.splits import make_split
    from multimodn.study.study import Study

    model = load_model(study) if study.is_dir() else None
    asked = model.study if model else Study.load(study)
    folder = out or (study if model else study.parent) / "audit"
    with slow_notice(errors, f"Auditing {asked.name} ..."):
        cohort = Cohort.load(asked)
        found = audit_study(asked, cohort, make_split(asked, cohort))
        files = write_audit(found, folder)
    show_audit(console, found)
    files += [show_probe(console, model, cohort, folder / "probe.csv")] if model else []
    after = "" if model else f" Next: multimodn fit {study}"
    console.print(f"Wrote {', '.join(file.name for file in files)} to {folder}.{after}")


@app.command()
def fit(
    study: Annotated[Path, typer.Argument(help="A study file.")],
    run: Annotated[Path, typer.Option(help="The run folder to write.")] = Path("run"),
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    accelerator: Annotated[str, typer.Option(help="Lightning's: cpu, gpu, auto, ...")] = "auto",
    devices: Annotated[int, typer.Option(help="Lightning's: how many.")] = 1,
    strategy: Annotated[
        str, typer.Option(help="Lightning's; for several devices ddp_find_unused_parameters_true.")
    ] = "auto",
) -> None:
    """Train a study and score its test patients."""
    from multimodn.cli.terminal.tables import show_scores
    from multimodn.findings import sentences
    from multimodn.findings.experts import experts_of
    from multimodn.runs import fit_run, is_helper_process
    from multimodn.study.study import Study
    from multimodn.training.fit import TrainerFlags

    flags = TrainerFlags(accelerator, devices, strategy, progress=True)
    try:
        model = fit_run(Study.load(study), run, resume=resume, flags=flags)
    except KeyboardInterrupt:
        errors.print("Interrupted. The same command with --resume continues after the last finished epoch.")
        raise typer.Exit(130) from None
    if is_helper_process():
        return
    scores = run / "metrics.csv"
    if scores.exists():
        import pandas as pd

        show_scores(console, pd.read_csv(scores), f"Test patients of {model.study.name}")
    for sentence in sentences.experts(experts_of(model.provenance, model.study.seen)):
        console.print(Text(sentence))
    console.print(f"Wrote {run}. Next: multimodn explain {run} --patient ID | multimodn report {run}")


@app.command()
def predict(run: Run, new: New = None, source: Sources = None, order: Order = None, out: Out = None) -> None:
    """Predict every task for every patient, from whatever modalities they have."""
    from multimodn.cli.terminal.tables import write_frame

    model = load_model(run)
    write_frame(console, model.predict(chosen_cohort(model, new, source), order=_names(order)), out)


@app.command()
def explain(
    run: Run,
    new: New = None,
    patient: Annotated[list[str] | None, typer.Option(help="Patient to explain; default: all, as a table.")] = None,
    source: Sources = None,
    order: Order = None,
    inside: Annotated[str | None, typer.Option(help="A modality whose columns, words or tiles are shown, too.")] = None,
    similar: Annotated[int, typer.Option(help="How many of the most similar training patients are shown.")] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Name the similar patients.")] = False,
    all_classes: Annotated[bool, typer.Option("--all-classes", help="All classes, not only the top two.")] = False,
    out: Out = None,
) -> None:
    """Show what each modality contributes to the predictions."""
    from multimodn.cli.terminal.patient import show_patient
    from multimodn.cli.terminal.tables import write_frame

    model = load_model(run)
    cohort = chosen_cohort(model, new, source)
    chosen = cohort.subset(patient) if patient else cohort
    for one in patient or []:
        alone = chosen.subset([one])
        show_patient(console, model, alone, _names(order), inside, similar, ids=ids, all_classes=all_classes)
    if out or not patient:
        write_frame(console, model.contributions(chosen), out)


@app.command()
def heatmap(
    run: Run,
    slides: Annotated[list[Path], typer.Argument(help="The slides, or folders that hold them.")],
    patient: Annotated[list[str], typer.Option(help="Whose slides; may be given several times.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("heatmaps"),
    modality: Annotated[str | None, typer.Option(help="Default: the only one that has tiles.")] = None,
    task: Annotated[str | None, typer.Option(help="Draw each tile's attribution to this task's prediction.")] = None,
    output: Annotated[str | None, typer.Option(help="Which of the task's outputs, such as a class.")] = None,
    source: Sources = None,
    mpp: Annotated[float | None, typer.Option(help="Microns per pixel of the slides, if they do not say.")] = None,
    dark: Annotated[bool, typer.Option(help="On a dark background.")] = False,
) -> None:
    """Draw a model's attention on the slides of a patient; with --task, attributions."""
    from multimodn.figures.theme import DARK, LIGHT
    from multimodn.slides.heatmaps.attention import draw_attention, draw_evidence

    model, palette = load_model(run), DARK if dark else LIGHT
    name = modality or model.explain.attended_modality()
    cohort = with_modality(chosen_cohort(model, None, source).subset(patient), name)
    if task:
        pictures = draw_evidence(model.explain.attributions(name, cohort, task, output), slides, out, mpp, palette)
    else:
        pictures = draw_attention(model.explain.attention(name, cohort), slides, out, mpp, palette)
    console.print(f"Wrote {', '.join(file.name for file in pictures) or 'nothing: no slides'} to {out}.")


@app.command()
def stress(
    run: Run,
    task: Annotated[str | None, typer.Option(help="Its outcome decides what is removed; default: the first.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Modalities to remove; default: the last two.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Cells to empty while the modality stays, as modality:column; then no modality by default."),
    ] = None,
    strength: Annotated[float, typer.Option(help="Probability that an affected patient loses each of them.")] = 0.8,
    mechanism: Annotated[
        str,
        typer.Option(help="Who loses modalities in training: mnar (event), mar (high first number), mcar (all), self."),
    ] = "mnar",
    arm: Annotated[list[str] | None, typer.Option(help="An arm to compare; default: all.")] = None,
    folds: Annotated[int, typer.Option(help="Parts of the cross-validation.")] = 5,
    repeats: Annotated[int, typer.Option(help="Repetitions of the cross-validation.")] = 1,
    seed: Annotated[int, typer.Option(help="Of folds, removal and training.")] = 0,
) -> None:
    """Train on data with modalities removed, and test when the reason for missingness changes; resumes by itself."""
    from multimodn.evaluate.stress.run import stress_run

    with working(console, "Stress test") as show_status:

        def show(done: str, repeat: int, fold: int) -> None:
            show_status(f"Stress test: repeat {repeat + 1}, fold {fold + 1}, {done}")

        page = stress_run(
            load_model(run).study, run / "stress", task, modality, strength, arm,
            columns=column, mechanism=mechanism, n_folds=folds, repeats=repeats, seed=seed, on_cell=show,
        )  # fmt: skip
    console.print(page, markup=False, highlight=False)
    console.print(f"Wrote {run / 'stress'}.")


app.command("embed-slides")(embed_slides)
app.command("next")(next_modality)
for command in (report, evaluate, conformal, tune, drift):
    app.command()(command)


def _names(order: str | None) -> list[str] | None:
    return None if order is None else [name.strip() for name in order.split(",")]
