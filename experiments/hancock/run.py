"""HANCOCK, 763 patients: ours beside strong simple models, nested repeated cross-validation, the same folds.

    python experiments/hancock/run.py --data FOLDER

writes results.csv, run.json and RESULTS.md beside this file. What is finished is kept in the folder ``cells``: the same
command goes on after an interruption. With --updates it compares the state updates instead and writes to the folder
``updates``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from page import results_page, updates_page
from prepare import load_tables
from rich.console import Console

from multimodn import Cohort, Study
from multimodn.evaluate.arms import Fitted, Trainer, as_arm, fit_ours
from multimodn.evaluate.baselines import fit_late_ridge
from multimodn.evaluate.crossval import Arms, Predictions, cross_predict, ours
from multimodn.evaluate.nested import nested
from multimodn.evaluate.results import ResultsTable
from multimodn.evaluate.tuned import TUNED
from multimodn.runs import write_text
from multimodn.training.provenance import versions

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "hancock"
# The tables that a clinic has without a tissue microarray; late fusion of these three is the reference in the field.
ROUTINE = ("clinical", "pathological", "blood")
PENALTIES = (4.0, 12.0, 36.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with the structured data and image features.")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1, help="Processes; -1: one a core.")
    parser.add_argument("--updates", action="store_true", help="Compare the state updates.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    console = Console()
    study = Study.load(HERE / "study.yaml")
    cohort = Cohort.load(study, sources=load_tables(arguments.data))
    out = HERE / "updates" if arguments.updates else HERE
    out.mkdir(exist_ok=True)
    table = ResultsTable(out, study.name)

    def show(arm: str, repeat: int, fold: int) -> None:
        if not arm.startswith("single:"):
            console.print(f"repeat {repeat + 1}, fold {fold + 1}: {arm}")

    found = cross_predict(
        study, cohort, UPDATES if arguments.updates else ARMS, arguments.folds, arguments.repeats, arguments.seed, show,
        folder=out / "cells", n_jobs=arguments.jobs,
    )  # fmt: skip
    table.add(found.scores)
    protocol = {"n_folds": arguments.folds, "repeats": arguments.repeats, "seed": arguments.seed}
    table.write({**protocol, "data_hash": cohort.hash(), "versions": versions()})
    text = updates_page(found, protocol) if arguments.updates else results_page(study, cohort, found, protocol)
    write_text(out / "RESULTS.md", text)
    console.print(text)


def with_penalty(penalty: float) -> Trainer:
    """Trains ours with another penalty than the study's."""

    def trainer(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        spec = study.training.model_copy(update={"penalty": penalty})
        return fit_ours(study.model_copy(update={"training": spec}), training, seed)

    return trainer


def late_ridge_routine(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns ``late_ridge_3``: late ridge fusion of the three routine tables."""
    specs = [spec for spec in study.modalities if spec.name in ROUTINE]
    fitted = fit_late_ridge(study.model_copy(update={"modalities": specs}), training, seed, cox_penalty=None)
    return {"late_ridge_3": fitted["late_ridge"](test)}


def with_update(update: str, penalty: float) -> Arms:
    """Builds the arm ``ours:<update>:<penalty>``: the study with another state update and penalty, nothing else."""

    def arm(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
        per_task = penalty * len(study.tasks)  # the arm's name counts it for the mean loss over tasks
        spec = study.training.model_copy(update={"update": update, "penalty": per_task})
        found = ours(study.model_copy(update={"training": spec}), training, test, seed)
        return {f"ours:{update}:{penalty:g}": found["ours"]}

    return arm


ARMS = [
    as_arm(nested("ours", {f"penalty {penalty:g}": with_penalty(penalty) for penalty in PENALTIES})),
    late_ridge_routine,
    as_arm(TUNED["late_ridge"], without=("late_ridge_mean",)),
    *(as_arm(TUNED[arm]) for arm in ("early_concat", "xgboost", "lightgbm", "tabm", "p_fusion")),
]
# The penalty of the study suits the residual update; the others get weaker ones too.
UPDATES = [
    with_update("residual", 3.0),
    *(with_update(update, penalty) for update in ("gated", "linear") for penalty in (3.0, 0.3, 0.03)),
]


if __name__ == "__main__":
    main()
