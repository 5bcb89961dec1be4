"""The stress test: train on data that went missing for a reason, test when the reason changes.

Every arm is trained on the same blanked training patients of each fold, and the same fitted model then predicts many
versions of the test patients. Cells that are finished are read back, so an interrupted test goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import folds
from multimodn.errors import StudyError, did_you_mean
from multimodn.evaluate.baselines.boosting import fit_xgboost
from multimodn.evaluate.baselines.fusion_networks import (
    fit_masked_attention,
    fit_p_fusion,
    fit_p_fusion_dropout,
    fit_p_fusion_presence,
    fit_published,
    fit_published_batch_skip,
)
from multimodn.evaluate.baselines.ridge import fit_late_ridge
from multimodn.evaluate.crossval.arms import fit_ours
from multimodn.evaluate.crossval.cells import CellJob, CellTrainer, Fold, make_jobs, run_cells
from multimodn.evaluate.crossval.contracts import Fitted, Predictions, Trainer
from multimodn.evaluate.stress.mechanisms import Kind, Mechanism, high_outcome
from multimodn.files import make_folder, write_text
from multimodn.findings.names import pattern_name
from multimodn.metrics.predictions import of_links
from multimodn.metrics.tasks import brier, values
from multimodn.missingness.patterns import pattern_members
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks

COLUMNS = ["arm", "task", "condition", "metric", "repeat", "fold", "value"]
MAX_SUBSETS = 5  # up to so many modalities every subset is a test condition of its own


@dataclass(frozen=True)
class Plan:
    """What is blanked, how strongly, and on which folds.

    Attributes:
        task: The task whose outcome decides what goes missing in training; all tasks are scored.
        modalities: Those that go missing.
        strength: Chance that a patient with the event loses each of them, in [0, 1]; see `high_outcome`.
        mcar: Rates at which these are blanked at random at test.
        n_folds: Parts of a repeat.
        repeats: How often patients are dealt anew.
        seed: Of the folds, the blanking and the arms.
        mechanism: Why modalities go missing in training, see `Mechanism`; ``self``, which depends on the missing
            values, nothing can undo.
        each_subset: Whether every subset of the modalities is tested alone (up to `MAX_SUBSETS` modalities).
        columns: Modality and column (or variable of a series) of cells that go missing, while the modality stays.
    """

    task: str
    modalities: tuple[str, ...] = ()
    strength: float = 0.8
    mcar: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    n_folds: int = 5
    repeats: int = 1
    seed: int = 0
    mechanism: Literal["mnar", "mar", "mcar", "self"] = "mnar"
    each_subset: bool = True
    columns: tuple[tuple[str, str], ...] = ()

    def of_kind(self, kind: Kind, strength: float | None = None) -> Mechanism:
        """Returns a mechanism that blanks what the plan blanks, by default as strongly."""
        chosen = self.strength if strength is None else strength
        return Mechanism(kind, chosen, self.modalities, columns=self.columns)


def with_mode(mode: str, arm: str) -> Trainer:
    """Returns the trainer of this package in one of the study's modes of ``missingness``.

    Only ``neutral`` is calibrated, which is a part of being neutral: the others stand as they were trained.
    """

    def trainer(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        spec = study.training.model_copy(update={"calibrate": mode == "neutral"})
        changed = study.model_copy(update={"missingness": mode, "training": spec})
        return {arm: fit_ours(changed, training, seed)["ours"]}

    return trainer


def ridges(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``late_ridge`` and ``late_ridge_mean``."""
    arms = fit_late_ridge(study, training, seed)
    return {arm: arms[arm] for arm in ("late_ridge", "late_ridge_mean")}


ARMS: Mapping[str, Trainer] = {  # an ``oracle...`` is trained on the patients before anything is blanked
    "neutral": with_mode("neutral", "neutral"),
    "informative": with_mode("informative", "informative"),
    "skip": with_mode("off", "skip"),
    "oracle": with_mode("neutral", "oracle"),
    "late_ridge": ridges,
    "xgboost": fit_xgboost,
    "p_fusion": fit_p_fusion,
    "p_fusion_presence": fit_p_fusion_presence,
    "p_fusion_dropout": fit_p_fusion_dropout,
    "published": fit_published,
    "published_batch_skip": fit_published_batch_skip,
    "masked_attention": fit_masked_attention,
}


def stress(
    study: Study,
    cohort: Cohort,
    plan: Plan,
    folder: Path | None = None,
    arms: Mapping[str, Trainer] = ARMS,
    on_cell: Callable[[str, int, int], None] | None = None,
) -> pd.DataFrame:
    """Runs the stress test.

    Args:
        study: Modalities, tasks, training.
        cohort: All patients, labelled; those without a label of the plan's task are left out.
        plan: What to blank.
        folder: Where finished cells are kept, one file each; None: nowhere.
        arms: What to compare.
        on_cell: Called with arm, repeat and fold when one is done, or read back.

    Returns:
        One row for each score: ``arm, task, condition, metric, repeat, fold, value``.

    Raises:
        StudyError: If the plan names an unknown task or modality, or the folder holds cells of another plan.
    """
    _check(study, plan)
    mechanism = plan.of_kind(plan.mechanism)
    tasks = {task.name: task for task in fit_tasks(study, cohort)}
    outcome = high_outcome(tasks[plan.task], cohort.targets[plan.task])
    cohort = cohort.subset(outcome.index[outcome.notna()])
    cells = None if folder is None else _cells(folder, study, cohort, plan)
    dealt = enumerate(folds(cohort, plan.n_folds, plan.repeats, plan.seed, plan.task))
    places = [(*divmod(number, plan.n_folds), pair) for number, pair in dealt]
    parts = [Fold(repeat, fold, *pair, plan.seed + 1000 * repeat + fold) for repeat, fold, pair in places]
    names = list(arms)

    def report(job: CellJob, _: pd.DataFrame) -> None:
        if on_cell is not None:
            on_cell(names[job.arm], job.fold.repeat, job.fold.fold)

    trainer = _StressTest(study, cohort, plan, mechanism, tasks, outcome, list(arms.items()))
    return pd.concat(run_cells(trainer, make_jobs(parts, names, cells, ".csv"), report), ignore_index=True)


@dataclass
class _StressTest(CellTrainer[tuple[Cohort, Cohort, dict[str, Cohort]]]):
    """Cells of scores: one arm trained on a fold, tested on all versions of its test patients."""

    study: Study
    cohort: Cohort
    plan: Plan
    mechanism: Mechanism
    tasks: Mapping[str, Task]
    outcome: pd.Series[float]
    arms: list[tuple[str, Trainer]]

    def prepare(self, fold: Fold) -> tuple[Cohort, Cohort, dict[str, Cohort]]:
        """Returns the training patients, the same blanked, and the versions of the test patients by condition."""
        training, test = self.cohort.subset(fold.train), self.cohort.subset(fold.test)
        blanked = self.mechanism.apply(training, self.outcome, fold.seed, self.study.steps)
        return training, blanked, dict(_conditions(self.study, test, self.outcome, self.plan, fold.seed))

    def train(self, job: CellJob, prepared: tuple[Cohort, Cohort, dict[str, Cohort]]) -> pd.DataFrame:
        """Trains on the blanked patients, an ``oracle`` on the complete ones."""
        training, blanked, versions = prepared
        arm, trainer = self.arms[job.arm]
        fitted = trainer(self.study, training if arm.startswith("oracle") else blanked, job.fold.seed)
        rows = [
            (name, task, condition, metric, job.fold.repeat, job.fold.fold, value)
            for name, predict in fitted.items()
            for condition, version in versions.items()
            for task, metric, value in _scores(self.tasks, version, predict(version))
        ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def read(self, job: CellJob, file: Path) -> pd.DataFrame:
        """Reads CSV."""
        return pd.read_csv(file)

    def write(self, frame: pd.DataFrame, file: Path) -> None:
        """Writes CSV."""
        frame.to_csv(file, index=False)


def _check(study: Study, plan: Plan) -> None:
    tasks, modalities = [task.name for task in study.tasks], list(study.steps)
    for kind, names, valid in (
        ("task", [plan.task], tasks),
        ("modality", [*plan.modalities, *(name for name, _ in plan.columns)], modalities),
    ):
        for name in names:
            if name not in valid:
                raise StudyError(f"The stress test names an unknown {kind} '{name}'.{did_you_mean(name, valid)}")
    if not plan.modalities and not plan.columns:
        raise StudyError("The stress test needs at least one modality or column to blank.")


def _cells(folder: Path, study: Study, cohort: Cohort, plan: Plan) -> Path:
    identity = {"plan": asdict(plan), "study": study.to_dict(), "data": cohort.hash()}
    text = json.dumps(identity, sort_keys=True, default=list)
    cells = folder / f"cells-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    make_folder(cells)
    write_text(cells / "plan.json", json.dumps(asdict(plan), indent=1))
    return cells


def _conditions(
    study: Study, test: Cohort, outcome: pd.Series[float], plan: Plan, seed: int
) -> Iterator[tuple[str, Cohort]]:
    """Yields the versions of the test patients by condition."""
    drawn = seed + 500_000  # not the draws of training
    yield "natural", test
    if plan.of_kind("complete").has_all(test, study.steps).any():
        yield "complete", plan.of_kind("complete").apply(test, specs=study.steps)
    kinds: dict[str, Kind] = {"same": plan.mechanism, "flipped": "flipped"}
    for name, kind in kinds.items():
        yield f"{name}:{plan.strength:g}", plan.of_kind(kind).apply(test, outcome, drawn, study.steps)
    for rate in plan.mcar:
        yield f"mcar:{rate:g}", plan.of_kind("mcar", rate).apply(test, seed=drawn, specs=study.steps)
    names = list(study.steps)
    if plan.each_subset and len(names) <= MAX_SUBSETS:
        for code in range(1, 2 ** len(names)):
            present = pattern_members(code, names)
            absent = tuple(name for name in names if name not in present)
            some = Mechanism("mcar", 1.0, absent).apply(test) if absent else test
            yield f"subset:{pattern_name(present)}", some


def _scores(tasks: Mapping[str, Task], test: Cohort, predictions: Predictions) -> Iterator[tuple[str, str, float]]:
    for name, task in tasks.items():
        target, is_labelled = task.prepare(test.targets[name])
        link = torch.from_numpy(predictions[name])[is_labelled]
        truth = task.link_target(target[is_labelled])
        for metric, value in task.link_metrics(link, truth).items():
            yield name, metric, value
        if task.link_scale == "log-odds" and len(link):
            chance, happened = link.sigmoid().flatten().numpy(), truth.flatten().numpy()
            labelled = ~np.isnan(happened)
            yield name, "brier", values({"brier": brier}, of_links(link, truth))["brier"]
            yield name, "ece", expected_calibration_error(chance[labelled], happened[labelled])


def expected_calibration_error(chance: np.ndarray, happened: np.ndarray, n_bins: int = 10) -> float:
    """Returns the mean distance of predicted probability and observed share over bins of equally many predictions.

    Nguyen and O'Connor (2015), https://arxiv.org/abs/1508.05154. Unlike `multimodn.metrics.tasks.ece` it always has
    ``n_bins``, also with few patients, and splits equal predictions at the border of two bins, as the committed
    `experiments/mnar/results.csv` was computed: 8 of its 225 values of two arms on breast cancer would differ (ties of
    xgboost, by up to .06).
    """
    order = np.argsort(chance, kind="stable")
    bins = np.arange(len(order)) * n_bins // max(len(order), 1)
    gap = np.abs(np.bincount(bins, chance[order], n_bins) - np.bincount(bins, happened[order], n_bins))
    return float(gap.sum() / max(len(order), 1))
