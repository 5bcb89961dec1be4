"""Trains the adrenocortical carcinoma study, cross-validates it beside simpler models, explains one patient.

Writes ``results.csv``, ``RESULTS.md`` and ``run.json``. Needs no network.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from multimodn import Cohort, DataWarning, MultiModN, Study
from multimodn.evaluate.crossval import Arm, cross_validate, ours, paired, summary
from multimodn.evaluate.results import ResultsTable, markdown
from multimodn.terminal import show_patient, show_scores
from multimodn.training.fit import TrainerFlags

FOLDER = Path(__file__).resolve().parent
OURS, LATE = "skip", "late_ridge"  # "skip": an absent modality is skipped, and nothing else is done about it
ASSAYS = ("mutations", "copy_number", "mirna", "rna", "protein")
ONLY = "rna"
"""The one assay of the patient who is explained."""

TEXT = """# Adrenocortical carcinoma, {n} patients of TCGA

Written by `python experiments/acc/run.py`; the numbers behind it are in `results.csv`, versions and hashes in
`run.json`. {repeats} x {folds}-fold cross-validation by patient, stratified by lymph node status, all arms on
the same folds.

## What {n} patients can and cannot show

- They show that one model can be trained on every patient and every task at once although only {complete} of {n}
  have all five assays, and they show what its predictions rest on.
- They **cannot** rank the models. The 95 % intervals below are on average {width:.2f} wide, the widest
  {widest:.2f} ({where}). Of {n_compared} comparisons (5 tasks x {n_references} other arms) the interval of the
  difference excludes zero in {n_clear}: {n_better} for and {n_worse} against `{ours}`. By chance alone about
  {n_chance:.0f} would.
- The intervals come from resampling folds. Folds share training patients: the true uncertainty is larger.
- `N` rests on {n_nodes} patients with affected lymph nodes, two in each test fold of five: one patient who is
  ranked otherwise moves a fold's AUROC by up to half. `death` rests on {n_deaths} deaths.
- One rare tumour, no second cohort: nothing here is fit for use on patients.

## Patients

{patients}

{labels}

## Scores

Mean over folds [95 % bootstrap interval over folds]. AUROC for stage, T, N and residual (averaged over cut points
or classes), Harrell's c-index for death; .5 is chance. `{ours}`: this package, all modalities. `{late}`: one
ridge model a modality, averaged over those that a patient has. `single:...`: this package with one modality; a
patient who lacks it gets the prior, which ties with all others who lack it, so that an assay that few patients
have scores low for that reason too.

{scores}

## `{ours}` minus each other arm, fold by fold

Difference [95 % interval]; positive: `{ours}` ranks better.

{differences}
"""


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    console = Console()
    study = Study.load(FOLDER / "study.yaml")
    table = ResultsTable(options.out, study.name)
    cohort = _load(study, console)

    console.rule("1. Train")
    model = _train(study, cohort)
    test = cohort.subset(model.split.test if model.split else [])
    title = f"{len(test)} test patients of one split: far too few to conclude from; see the next table"
    show_scores(console, model.evaluate(test), title)

    console.rule("2. Cross-validate")
    scores = validate(list(arms(study)), options.folds, options.repeats, options.workers)
    table.add(scores)
    counts = {"n_folds": options.folds, "repeats": options.repeats}
    table.write({**model.provenance, "cross_validation": counts})
    (options.out / "RESULTS.md").write_text(results_text(cohort, scores), encoding="utf-8")
    _show_summary(console, scores)
    console.print(f"Written to {options.out}: RESULTS.md, results.csv, run.json")

    console.rule(f"3. Explain a patient who has one assay, {ONLY}")
    _explain(console, model, test)


def arms(study: Study) -> dict[str, Arm]:
    """Returns what is compared, by the name that results carry."""
    from multimodn.evaluate.baselines import late_ridge, single

    alone = {f"single:{modality.name}": single(modality.name) for modality in study.modalities}
    return {LATE: late_ridge, OURS: ours, **alone}  # the slow ones first, so that no worker ends alone


def validate(names: list[str], n_folds: int, repeats: int, workers: int) -> pd.DataFrame:
    """Cross-validates arms in parallel processes, one for each arm and repeat; see `cross_validate`."""
    jobs = [(name, n_folds, repeat) for name in names for repeat in range(repeats)]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    done: dict[tuple[str, int, int], pd.DataFrame] = {}
    with (
        Progress(*columns, TimeElapsedColumn()) as progress,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        bar = progress.add_task("models x repeats", total=len(jobs))
        for future in as_completed(futures := {pool.submit(_validate_arm, *job): job for job in jobs}):
            done[futures[future]] = future.result()
            progress.advance(bar)
    return pd.concat([done[job] for job in jobs], ignore_index=True)


def _validate_arm(name: str, n_folds: int, repeat: int) -> pd.DataFrame:
    """One arm in one repeat, in a process of its own: repeat r of a run that starts at seed 0 has seed r."""
    torch.set_num_threads(1)
    study = Study.load(FOLDER / "study.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # shown by the parent process
        cohort = Cohort.load(study)
        scores = cross_validate(study, cohort, {name: arms(study)[name]}, n_folds, repeats=1, seed=repeat)
    return scores.assign(repeat=repeat)


def results_text(cohort: Cohort, scores: pd.DataFrame) -> str:
    """Returns RESULTS.md from the scores of all arms."""
    means = summary(scores)
    widths = means["high"] - means["low"]
    widest = means.loc[widths.idxmax()]
    others = [name for name in means["arm"].unique() if name != OURS]
    differences = pd.concat([paired(scores, OURS, name).assign(arm=name) for name in others])
    better, worse = int((differences["low"] > 0).sum()), int((differences["high"] < 0).sum())
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
    """Takes all but one assay from the first complete test patient: everyone of this cohort has two at least."""
    patient = test.patients[test.presence.all(axis=1)][:1]
    alone = Cohort.from_frames({ONLY: test.modalities[ONLY].loc[patient]})
    show_patient(console, model, alone)
    observed = [
        f"{task} {', '.join(f'{value}' for value in table.loc[patient[0]])}" for task, table in test.targets.items()
    ]
    console.print(f"Observed in this patient: {'; '.join(observed)} (days, death).")
    console.print("The same patient with everything, modality by modality:")
    show_patient(console, model, test.subset(patient))


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
