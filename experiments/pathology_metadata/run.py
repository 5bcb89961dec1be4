"""Pathology metadata from whatever was measured: single or several modalities x single or several tasks.

    python experiments/pathology_metadata/run.py [--data HANCOCK_FOLDER] [--workers N] [--redraw]

Writes results.csv, run.json, RESULTS.md and a picture beside this file. What each cell predicted is kept in ``cells``,
and a later call goes on from there. ``--redraw`` writes page and picture anew from the cells, and trains nothing.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from page import draw, write_page
from rich.console import Console
from scoring import Bootstrap, Key, Predicted, tidy
from tables import load_tables

from multimodn import Cohort, Study
from multimodn.data.splits import folds
from multimodn.errors import DataWarning
from multimodn.evaluate.baselines.boosting import fit_xgboost
from multimodn.evaluate.baselines.ridge import fit_late_ridge
from multimodn.evaluate.crossval.arms import fit_ours
from multimodn.evaluate.results import ResultsTable
from multimodn.files import replacing
from multimodn.training.build import fit_tasks
from multimodn.training.provenance import versions

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "hancock"
N_FOLDS, REPEATS, SEED = 5, 1, 0
SITES = ("hypopharynx", "larynx", "oral cavity", "oropharynx")
SHIFTED = ("grade", "perineural", "lymphovascular", "t_class", "n_class")
"""Tasks that every site has labels of: the site itself, and p16, tested in the oropharynx only, have none elsewhere."""


@dataclass(frozen=True)
class Cell:
    """One arm in one fold, or, of the shifted folds, tested on one primary site and trained on the others.

    Attributes:
        arm: ``single:<modality>:<task>``, ``single:he:all``, ``multi:<task>``, ``multi:all`` or a baseline.
        repeat: Deal of the patients; -1 = the fold is a site.
        fold: Part that is tested.
    """

    arm: str
    repeat: int
    fold: int

    @property
    def file(self) -> Path:
        """Where its predictions are kept."""
        return HERE / "cells" / f"{self.arm.replace(':', '-')}-{self.repeat}-{self.fold}.npz"


def cells(study: Study) -> Iterator[Cell]:
    """Yields all cells, the most telling first."""
    places = [(r, f) for r in range(REPEATS) for f in range(N_FOLDS)] + [(-1, f) for f in range(len(SITES))]
    tasks, names = [task.name for task in study.tasks], [modality.name for modality in study.modalities]
    for repeat, fold in places:
        asked = SHIFTED if repeat < 0 else tasks
        arms = ["multi:all", *(f"multi:{task}" for task in asked), "single:he:all"]
        arms += [f"single:he:{task}" for task in asked]
        if repeat >= 0:
            others = [name for name in names if name != "he"]
            arms += ["late_ridge", "xgboost", *(f"single:{name}:{task}" for name in others for task in tasks)]
        yield from (Cell(arm, repeat, fold) for arm in arms)


@cache
def everything(data: Path) -> tuple[Study, Cohort]:
    """Returns the study and all patients; once a process."""
    study = Study.load(HERE / "study.yaml")
    return study, Cohort.load(study, sources=load_tables(data))


def parts(study: Study, cohort: Cohort, cell: Cell) -> tuple[Cohort, Cohort]:
    """Returns the training and test patients of a cell."""
    if cell.repeat < 0:
        here = (cohort.targets["site"]["site"] == SITES[cell.fold]).to_numpy(dtype=bool, na_value=False)
        known = cohort.targets["site"]["site"].notna().to_numpy()
        return cohort.subset(cohort.patients[known & ~here]), cohort.subset(cohort.patients[here])
    deals = list(folds(cohort, N_FOLDS, REPEATS, SEED, "site"))
    train, test = deals[cell.repeat * N_FOLDS + cell.fold]
    return cohort.subset(train), cohort.subset(test)


def narrowed(study: Study, cell: Cell) -> Study:
    """Returns the study with the modalities and tasks of a cell; a task that would see nothing is left out."""
    kind, *names = cell.arm.split(":")
    modalities, wanted = list(study.modalities), names[-1] if names else "all"
    if kind == "single":
        modalities = [modality for modality in modalities if modality.name == names[0]]
    asked = SHIFTED if cell.repeat < 0 else [task.name for task in study.tasks]
    tasks = [task for task in study.tasks if task.name in asked and wanted in ("all", task.name)]
    seen = [task for task in tasks if any(task.name not in modality.exclude_for for modality in modalities)]
    kept = {task.name for task in seen}
    modalities = [m.model_copy(update={"exclude_for": [t for t in m.exclude_for if t in kept]}) for m in modalities]
    modalities = [m for m in modalities if kept - set(m.exclude_for)]
    changes = {"modalities": modalities, "tasks": seen, "order": [modality.name for modality in modalities]}
    split = study.split.model_copy(update={"stratify": "site" if "site" in kept else None})
    return study.model_copy(update={**changes, "split": split})


def predict(cell: Cell, data: Path) -> None:
    """Trains a cell and keeps what it predicts, in a worker process."""
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    warnings.simplefilter("ignore", DataWarning)
    whole, cohort = everything(data)
    study = narrowed(whole, cell)
    found: dict[str, np.ndarray] = {}
    if study.tasks:
        training, test = (subset_tasks(part, study) for part in parts(whole, cohort, cell))
        fit = {"late_ridge": fit_late_ridge, "xgboost": fit_xgboost}.get(cell.arm, fit_ours)
        fitted = fit(study, training, SEED + max(cell.repeat, 0))
        links = fitted[cell.arm if cell.arm in fitted else "ours"](test)
        for task in fit_tasks(study, training):
            target, known = task.prepare(test.targets[task.name])
            found[f"{task.name}:rows"] = cohort.patients.get_indexer(test.patients)[known.numpy()]
            found[f"{task.name}:link"] = links[task.name][known.numpy()]
            found[f"{task.name}:target"] = task.link_target(target[known]).numpy()
    cell.file.parent.mkdir(exist_ok=True)
    with replacing(cell.file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **found)


def subset_tasks(cohort: Cohort, study: Study) -> Cohort:
    """Returns all patients with the modalities and tasks that a narrowed study names."""
    frames = {modality.name: cohort.modalities[modality.name] for modality in study.modalities}
    targets = {task.name: cohort.targets[task.name] for task in study.tasks}
    return Cohort.from_frames(frames, targets, cohort.patients)


def collected(study: Study) -> dict[Key, Predicted]:
    """Reads what all cells predicted."""
    found: dict[Key, Predicted] = {}
    for cell in cells(study):
        if not cell.file.exists():
            continue
        with np.load(cell.file) as arrays:
            for task in {name.partition(":")[0] for name in arrays}:
                columns = (arrays[f"{task}:{part}"] for part in ("rows", "link", "target"))
                found[cell.arm, task, cell.repeat, cell.fold] = Predicted(*columns)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="HANCOCK's folder.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--redraw", action="store_true", help="Only write page and picture anew.")
    arguments = parser.parse_args()
    console = Console()
    warnings.simplefilter("ignore", DataWarning)
    study, cohort = everything(arguments.data)
    table = ResultsTable(HERE, study.name)
    if not arguments.redraw:
        waiting = [cell for cell in cells(study) if not cell.file.exists()]
        with ProcessPoolExecutor(arguments.workers) as pool:
            jobs = {pool.submit(predict, cell, arguments.data): cell for cell in waiting}
            for number, job in enumerate(as_completed(jobs), 1):
                job.result()
                console.print(f"{number} of {len(jobs)}: {jobs[job]}", highlight=False)
    predicted = collected(study)
    inside = {key: part for key, part in predicted.items() if key[2] >= 0}
    shifted = {key: part for key, part in predicted.items() if key[2] < 0}
    if not arguments.redraw:
        table.add(tidy(inside))
        table.add(tidy({(a, t, 0, f): part for (a, t, _, f), part in shifted.items()}), "shifted")
        protocol = {"n_folds": N_FOLDS, "repeats": REPEATS, "seed": SEED}
        table.write({**protocol, "data_hash": cohort.hash(), "versions": versions()})
    text = write_page(study, Bootstrap(inside, len(cohort)), Bootstrap(shifted, len(cohort)), HERE / "RESULTS.md")
    draw(study, Bootstrap(inside, len(cohort)), HERE)
    console.print(text, markup=False, highlight=False)


if __name__ == "__main__":
    main()
