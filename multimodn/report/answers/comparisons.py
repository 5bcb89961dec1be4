"""Compares a model with simple ones, measures the coverage of its prediction sets and conflicts of its tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multimodn.evaluate.baselines.compare import compare_with_baselines
from multimodn.evaluate.baselines.single_task import task_gains
from multimodn.evaluate.baselines.stored_comparison import cached_comparison
from multimodn.evaluate.performance.conformal_coverage import coverage
from multimodn.evaluate.performance.task_conflicts import conflicts
from multimodn.findings.frames import CoverageFrame
from multimodn.findings.names import arm_name
from multimodn.report.answers.collector import Collector

LEVEL = 0.9  # coverage level of the sets that are shown
MOST_MEASURED = 500  # training patients whose gradients are compared: the batches that are drawn do not need more
NO_SETS = (
    "No conformal prediction sets were calibrated with this model. multimodn fit calibrates them; for a trained model: "
    "model.conformal.fit() and model.save(...) in Python."
)
OTHERS = "was not computed: it needs the training patients of the study, and files of other patients were given."


def ask_sets(asked: Collector) -> None:
    """Measures the coverage of conformal prediction sets."""
    scores = asked.model.trained.conformal_scores
    if scores is None:
        asked.lacking["coverage"] = NO_SETS
    elif not asked.is_labelled:
        asked.lacking["coverage"] = "The coverage of prediction sets cannot be measured without outcomes."
    elif asked.shown.patients.isin(asked.trained_on).any():
        reason = "the model and its sets were made from some of these patients. Ask for the test patients alone."
        asked.lacking["coverage"] = f"The coverage of prediction sets was not measured: {reason}"
    else:
        counted, n_members = coverage(asked.model, asked.patients, LEVEL), asked.model.trained.n_members
        asked.answers["coverage"] = CoverageFrame.of(counted, source=scores.source, n_members=n_members)


def ask_baselines(asked: Collector) -> None:
    """Trains simple models, and compares them with this one on the test patients; or reads an earlier comparison."""
    wishes, tested = asked.wishes, _ids(asked, "test")
    comparison = None if wishes.arms or wishes.sources else cached_comparison(asked.run, asked.model)
    if comparison is not None:
        asked.answers["baselines"] = comparison
    elif wishes.arms is not None and not len(wishes.arms):
        asked.lacking["baselines"] = "Simple models were not trained, as the option --no-baselines asked."
    elif wishes.sources:
        asked.lacking["baselines"] = f"The comparison with simple models {OTHERS}"
    elif not tested:
        reason = "The split has no test patients on whom simple models could be compared with this one."
        asked.lacking["baselines"] = reason
    else:
        is_test_only = asked.who == "test patients" and len(asked.shown) == len(tested)
        asked.answers["baselines"] = compare_with_baselines(
            asked.model, asked.cohort, patients=asked.patients if is_test_only else None, arms=wishes.arms,
            n_resamples=wishes.n_resamples, seed=wishes.seed,
            on_arm=lambda arm: asked.on_step(f"simple models: {arm_name(arm)}"),
        )  # fmt: skip


def _ids(asked: Collector, part: str) -> list[str]:
    return [] if asked.model.split is None else list(getattr(asked.model.split, part))


def ask_conflicts(asked: Collector) -> None:
    """Measures on training patients how often tasks conflict."""
    if len(asked.model.study.tasks) < 2:
        asked.lacking["conflicts"] = "The study has one task."
    elif asked.wishes.sources or not _ids(asked, "train"):
        asked.lacking["conflicts"] = f"Whether tasks conflict {OTHERS}"
    else:
        known = asked.cohort.patients[asked.cohort.patients.isin(pd.Index(_ids(asked, "train"), dtype=object))]
        drawn = np.random.default_rng(asked.wishes.seed).permutation(len(known))[:MOST_MEASURED]
        patients = asked.model.prepare(asked.cohort.subset(known[np.sort(drawn)]), labelled=True)
        asked.answers["conflicts"] = conflicts(asked.model, patients, seed=asked.wishes.seed)


def ask_gains(asked: Collector) -> None:
    """Trains a model of each task alone, if that is wished for, and compares it with the model of all."""
    study = asked.model.study
    if len(study.tasks) < 2:
        asked.lacking["gains"] = "The study has one task."
    elif not asked.wishes.task_gains:
        reason = "Whether a task gains from the others was not computed, as it takes one training for each task:"
        asked.lacking["gains"] = f"{reason} multimodn report RUN --task-gains."
    elif asked.wishes.sources or not _ids(asked, "test"):
        asked.lacking["gains"] = f"Whether a task gains from the others {OTHERS}"
    else:
        names, seed = [task.name for task in study.tasks], asked.wishes.seed
        asked.on_step(f"gains of tasks: {names[0]} alone, 1 of {len(names)}")

        def tell(task: str, _: int) -> None:
            done = names.index(task) + 1
            if done < len(names):
                asked.on_step(f"gains of tasks: {names[done]} alone, {done + 1} of {len(names)}")

        model, cohort = asked.model, asked.cohort
        asked.answers["gains"] = task_gains(study, cohort, model.split, joint=model, seed=seed, on_cell=tell)
