"""Trains the adrenocortical carcinoma study, cross-validates it beside simpler models, explains one patient.

Writes ``results.csv``, ``RESULTS.md`` and ``run.json``. Needs no network.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import warnings
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from queue import Queue

import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from multimodn import Cohort, DataWarning, MultiModN, Study
from multimodn.cli.terminal.patient import show_patient
from multimodn.cli.terminal.tables import show_scores
from multimodn.evaluate.baselines.ridge import late_ridge
from multimodn.evaluate.crossval.arms import ours
from multimodn.evaluate.crossval.crossval import cross_validate, paired, summary
from multimodn.evaluate.results import ResultsTable, markdown
from multimodn.training.fit import TrainerFlags

FOLDER = Path(__file__).resolve().parent
OURS, LATE = "ours", "late_ridge"
ARMS = (late_ridge, ours)
"""Compared on the same folds; the slow one first, so that no process ends alone."""

ASSAYS = ("mutations", "copy_number", "mirna", "rna", "protein")
ONLY = "rna"
"""The one assay, beside age and sex, of the patient who is explained."""

TEXT = """# Adrenocortical carcinoma, {n} patients of TCGA

Written by `python experiments/acc/run.py`; the numbers behind it are in `results.csv`, versions and hashes in
`run.json`. {repeats} x {folds}-fold cross-validation by patient, stratified by lymph node status, all arms on
the same folds.

## What {n} patients can and cannot show

- They show that one model can be trained on every patient and every task at once although only {complete} of
  {n} have all five assays, and they show what its predictions rest on.
- They **cannot** rank models that are nearly as good as each other. The 95 % intervals below are on average
  {width:.2f} wide, the widest {widest:.2f} ({where}). Of the {n_late} differences from `{late}`, the interval
  excludes zero in {n_late_clear}; of all {n_compared} differences (5 tasks x {n_references} other arms) in
  {n_clear}: {n_better} for and {n_worse} against `{ours}`. By chance alone about {n_chance:.0f} would.
- The intervals of scores come from resampling folds, which share training patients: the true uncertainty is larger.
  Those of differences are Nadeau and Bengio's corrected t over folds.
- `N` rests on {n_nodes} patients with affected lymph nodes, two in each test fold of five: one patient who is
  ranked otherwise moves a fold's AUROC by up to half. `death` rests on {n_deaths} deaths.
- Penalty and batch size were chosen by the validation loss among the training patients of one split, who are
  test patients in these folds, and after one complete run with ten times the penalty and batches of 64, whose scores
  were seen (death .80, stage .69): the scores of `{ours}` may be slightly too good for that.
- One rare tumour, no second cohort: nothing here is fit for use on patients.

## Patients

{patients}

{labels}

## Scores

Mean over folds [95 % bootstrap interval over folds]. AUROC for stage, T, N and residual (averaged over cut
points or classes), Harrell's c-index for death; .5 is chance. `{ours}`: this package, all modalities. `{late}`:
one ridge model a modality, averaged over those that a patient has. `single:...`: the ridge model of one modality;
a patient who lacks it gets the mean prediction and ties with all others who lack it, so that an assay that few
patients have scores low for that reason too.

{scores}

## `{ours}` minus each other arm, fold by fold

Difference [95 % interval]; positive: `{ours}` ranks better.

{differences}
"""


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    console = Console()
    if not console.is_terminal:
        console.width = 110
    study = Study.load(FOLDER / "study.yaml")
    table = ResultsTable(options.out, study.name)
    cohort = _load(study, console)

    console.rule("1. Train")
    model = _train(study, cohort)
    test = cohort.subset(model.split.test if model.split else [])
    title = f"{len(test)} test patients of one split: far too few to conclude from; see the next table"
    show_scores(console, model.evaluate(test), title)

    console.rule("2. Cross-validate")
    n_cells = (2 + len(study.modalities)) * options.folds * options.repeats
    scores = validate(options.folds, options.repeats, options.workers, n_cells)
    table.add(scores)
    counts = {"n_folds": options.folds, "repeats": options.repeats}
    table.write({**model.provenance, "cross_validation": counts})
    (options.out / "RESULTS.md").write_text(results_text(cohort, scores), encoding="utf-8")
    _show_summary(console, scores)
    console.print(f"Written to {options.out}: RESULTS.md, results.csv, run.json")

    console.rule(f"3. Explain a patient who has one assay, {ONLY}")
    _explain(console, model, test)


def validate(n_folds: int, repeats: int, workers: int, n_cells: int) -> pd.DataFrame:
    """Cross-validates in parallel processes, one task for each of `ARMS` and repeat; see `cross_validate`.

    Args:
        n_folds: Parts of a repeat.
        repeats: How often patients are dealt anew.
        workers: Processes.
        n_cells: Number of arms times folds times repeats, for the progress bar.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with (
        context.Manager() as manager,
        Progress(*columns, TimeElapsedColumn()) as progress,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        cells = manager.Queue()
        bar = progress.add_task("models x folds", total=n_cells)
        jobs = [(number, repeat) for number in range(len(ARMS)) for repeat in range(repeats)]
        futures = [pool.submit(_validate_arms, *job, n_folds, cells) for job in jobs]
        pending = set(futures)
        while pending:
            _, pending = wait(pending, timeout=0.5)
            progress.update(bar, completed=cells.qsize())
        return pd.concat([future.result() for future in futures], ignore_index=True)


def _validate_arms(number: int, repeat: int, n_folds: int, cells: Queue[str]) -> pd.DataFrame:
    """One of `ARMS` in one repeat, in a process of its own: repeat r of a run with seed 0 has seed r."""
    torch.set_num_threads(1)
    study = Study.load(FOLDER / "study.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # shown by the parent process
        cohort = Cohort.load(study)
    scores = cross_validate(
        study, cohort, [ARMS[number]], n_folds, repeats=1, seed=repeat, on_cell=lambda arm, *_: cells.put(arm)
    )
    return scores.assign(repeat=repeat)


def results_text(cohort: Cohort, scores: pd.DataFrame) -> str:
    """Returns RESULTS.md from the scores of all arms."""
    means = summary(scores)
    widths = means["high"] - means["low"]
    widest = means.iloc[int(widths.to_numpy().argmax())]
    others = [name for name in means["arm"].unique() if name != OURS]
    differences = pd.concat([paired(scores, OURS, name).assign(arm=name) for name in others])
    better, worse = int((differences["low"] > 0).sum()), int((differences["high"] < 0).sum())
    late = differences[differences["arm"] == LATE]
    presence, labels = cohort.presence, _label_counts(cohort)
    return TEXT.format(
        n=len(cohort),
        repeats=scores["repeat"].nunique(),
        folds=scores["fold"].nunique(),
        complete=int(presence[list(ASSAYS)].all(axis=1).sum()),
        width=widths.mean(),
        widest=widths.max(),
        where=f"{widest['task']}, `{widest['arm']}`",
        n_compared=len(differences),
        n_references=len(others),
        n_late=len(late),
        n_late_clear=int(((late["low"] > 0) | (late["high"] < 0)).sum()),
        n_clear=better + worse,
        n_chance=0.05 * len(differences),
        n_better=better,
        n_worse=worse,
        n_nodes=int((cohort.targets["N"].iloc[:, 0] == "n1").sum()),
        n_deaths=int(cohort.targets["death"]["vital_status"].sum()),
        ours=OURS,
        late=LATE,
        patients=markdown(presence.sum().rename_axis("modality").reset_index(name="patients")),
        labels=markdown(labels),
        scores=markdown(_wide(means, "mean")),
        differences=markdown(_wide(differences, "difference")),
    )


def _wide(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """One line an arm, one column a task: value [low, high]."""
    sign = "+" if value == "difference" else ""
    cells = [
        f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
        for mean, low, high in zip(frame[value], frame["low"], frame["high"], strict=True)
    ]
    heads = frame["task"] + " (" + frame["metric"] + ")"
    wide = frame.assign(cell=cells, head=heads).pivot(index="arm", columns="head", values="cell")
    names = sorted(wide.index, key=lambda name: (name != OURS, name != LATE))
    return wide.loc[names, list(dict.fromkeys(heads))].reset_index()


def _label_counts(cohort: Cohort) -> pd.DataFrame:
    """Says for each task how many patients have a label, and which."""
    rows = []
    for task, table in cohort.targets.items():
        known = table.dropna()
        label = known["vital_status"].map({0: "censored", 1: "died"}) if task == "death" else known.iloc[:, 0]
        counts = label.value_counts().sort_index()
        classes = ", ".join(f"{name}: {count}" for name, count in counts.items())
        rows.append((task, len(known), classes))
    return pd.DataFrame(rows, columns=["task", "labelled patients", "of which"])


def _load(study: Study, console: Console) -> Cohort:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # printed below
        cohort = Cohort.load(study)
    complete = int(cohort.presence[list(ASSAYS)].all(axis=1).sum())
    console.print(cohort, f"All five assays: {complete} patients.", sep="\n")
    for note in cohort.notes:
        console.print(f"Note: {note}", style="dim")
    return cohort


def _train(study: Study, cohort: Cohort) -> MultiModN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # genes without a mutation, which the notes name
        return MultiModN(study).fit(cohort, flags=TrainerFlags(accelerator="cpu", progress=True))


def _show_summary(console: Console, scores: pd.DataFrame) -> None:
    wide = _wide(summary(scores), "mean")
    table = Table(title="Mean over folds [95 % interval]: they overlap", title_justify="left")
    for column in wide.columns:
        table.add_column(str(column))
    for row in wide.itertuples(index=False):
        table.add_row(*(str(cell).replace("[", r"\[") for cell in row))
    console.print(table)


def _explain(console: Console, model: MultiModN, test: Cohort) -> None:
    """Takes all but one assay from the first complete test patient; everyone here has two at least."""
    patient = test.patients[test.presence.all(axis=1)][:1]
    kept = {name: test.modalities[name].loc[patient] for name in ("demographics", ONLY)}
    show_patient(console, model, Cohort.from_frames(kept))
    observed = {task: ", ".join(map(str, table.loc[patient[0]])) for task, table in test.targets.items()}
    listed = "; ".join(f"{task}: {label}" for task, label in observed.items())
    console.print(f"Observed: {listed} (days, 1 = died). The model has not seen this patient.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2, help="how often patients are dealt into folds")
    parser.add_argument("--folds", type=int, default=5, help="folds of a repeat")
    parser.add_argument("--workers", type=int, default=2, help="parallel processes")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    # Small matrices: threads of BLAS and OpenMP wait for each other (seven times slower on two cores). The
    # processes of `validate` read these.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    main()
