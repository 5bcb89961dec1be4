"""Asks what a model is worth beside simple ones, what its sets hold, and what its tasks do to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.estimator import MultiModN

if TYPE_CHECKING:
    from multimodn.report.collect import Collector

LEVEL = 0.9
"""Promised coverage of the sets that are shown."""
COMPARISON = "baselines.json"
"""File of a run folder that holds the comparison with simple models, see `keep_comparison`."""
MOST_MEASURED = 500
"""Training patients whose gradients are compared: the batches that are drawn do not need more."""
NO_SETS = (
    "No conformal sets were calibrated with this model, so that nothing is promised of single predictions. Training "
    "with multimodn fit calibrates them; for a model that is trained already: model.fit_conformal() and then "
    "model.save(...) in Python."
)
OTHERS = "was not asked: it takes the training patients of the study, and files of other patients were given."
TEXTS = ("task", "arm", "metric", "by", "group")


def ask_sets(asked: Collector) -> None:
    """Counts how often conformal sets held the truth."""
    from multimodn.evaluate.conformal_coverage import coverage

    if asked.model.sets is None:
        asked.lacking["coverage"] = NO_SETS
    elif not asked.is_labelled:
        asked.lacking["coverage"] = "How often sets hold the truth cannot be counted without outcomes."
    elif asked.shown.patients.isin(asked.trained_on).any():
        reason = "the model and its sets were made from some of these patients. Ask for the test patients alone."
        asked.lacking["coverage"] = f"How often sets hold the truth was not counted: {reason}"
    else:
        found = coverage(asked.model, asked.patients, LEVEL)
        found.attrs = {"source": asked.model.sets.source, "n_members": len(asked.model._model().members)}
        asked.answers["coverage"] = found


def ask_baselines(asked: Collector) -> None:
    """Trains simple models, and compares them with this one on the test patients; or reads an earlier comparison."""
    from multimodn.evaluate._verdict_words import arm_words
    from multimodn.evaluate.verdict import compare_with_baselines

    wishes = asked.wishes
    found = None if wishes.arms or wishes.sources else cached_comparison(asked.run, asked.model)
    reason = _why_no_baselines(asked) if found is None else ""
    if reason:
        asked.lacking["baselines"] = reason
        return
    if found is None:
        is_test_only = asked.who == "test patients" and len(asked.shown) == len(_ids(asked, "test"))
        found = compare_with_baselines(
            asked.model,
            asked.cohort,
            patients=asked.patients if is_test_only else None,
            arms=wishes.arms,
            n_resamples=wishes.n_resamples,
            seed=wishes.seed,
            on_arm=lambda arm: asked.on_step(f"simple models: {arm_words(arm)}"),
        )
    asked.answers["baselines"] = found


def _why_no_baselines(asked: Collector) -> str:
    if asked.wishes.arms is not None and not len(asked.wishes.arms):
        return "Simple models were not trained, as the option --no-baselines asked."
    if asked.wishes.sources:
        return f"The comparison with simple models {OTHERS}"
    if not len(_ids(asked, "test")):
        return "The split has no test patients on whom simple models could be compared with this one."
    return ""


def _ids(asked: Collector, part: str) -> list[str]:
    return [] if asked.model.split is None else list(getattr(asked.model.split, part))


def ask_conflicts(asked: Collector) -> None:
    """Measures on training patients how often tasks pull in different directions."""
    from multimodn.training.conflict import conflicts

    if len(asked.model.study.tasks) < 2:
        asked.lacking["conflicts"] = "The study has one task."
    elif asked.wishes.sources or not _ids(asked, "train"):
        asked.lacking["conflicts"] = f"How tasks pull at the patient state {OTHERS}"
    else:
        known = asked.cohort.patients[asked.cohort.patients.isin(pd.Index(_ids(asked, "train"), dtype=object))]
        drawn = np.random.default_rng(asked.wishes.seed).permutation(len(known))[:MOST_MEASURED]
        patients = asked.model.prepare(asked.cohort.subset(known[np.sort(drawn)]), labelled=True)
        asked.answers["conflicts"] = conflicts(asked.model, patients, seed=asked.wishes.seed)


def ask_gains(asked: Collector) -> None:
    """Trains a model of each task alone, if that is wished for, and compares it with the model of all."""
    from multimodn.evaluate.multitask import task_gains

    study = asked.model.study
    if len(study.tasks) < 2:
        asked.lacking["gains"] = "The study has one task."
    elif not asked.wishes.task_gains:
        asked.lacking["gains"] = (
            "Whether a task gains from the others is not said here, as it takes a training for each task: "
            "multimodn report RUN --task-gains does that."
        )
    elif asked.wishes.sources or not _ids(asked, "test"):
        asked.lacking["gains"] = f"Whether a task gains from the others {OTHERS}"
    else:
        names, seed = [task.name for task in study.tasks], asked.wishes.seed
        asked.on_step(f"gains of tasks: {names[0]} alone, 1 of {len(names)}")

        def tell(task: str, _: int) -> None:
            done = names.index(task) + 1
            if done < len(names):
                asked.on_step(f"gains of tasks: {names[done]} alone, {done + 1} of {len(names)}")

        asked.answers["gains"] = task_gains(
            study, asked.cohort, asked.model.split, joint=asked.model, seed=seed, on_cell=tell
        )


def keep_comparison(run: Path, model: MultiModN, comparison: pd.DataFrame) -> Path:
    """Writes a comparison with simple models into a run folder, so that a report need not train them again.

    Args:
        run: The run folder.
        model: The model of the run, as it was compared.
        comparison: What `multimodn.evaluate.verdict.compare_with_baselines` returned.

    Returns:
        The file, `COMPARISON`: the frame, its ``attrs``, and the hashes of data and split that it belongs to.
    """
    from multimodn.runs import write_text

    rows = comparison.astype(object).where(comparison.notna(), None)
    text = json.dumps(
        {
            "of": _made_of(model),
            "attrs": dict(comparison.attrs),
            "columns": list(comparison.columns),
            "rows": rows.to_numpy().tolist(),
        },
        indent=1,
    )
    write_text(run / COMPARISON, text)
    return run / COMPARISON


def cached_comparison(run: Path, model: MultiModN) -> pd.DataFrame | None:
    """Reads what `keep_comparison` wrote; None if there is nothing, or if it belongs to other data or another split."""
    from multimodn.evaluate.verdict import COLUMNS

    try:
        known: Mapping[str, Any] = json.loads((run / COMPARISON).read_text(encoding="utf-8"))
        if known["of"] != _made_of(model) or list(known["columns"]) != COLUMNS:
            return None
        found = pd.DataFrame(known["rows"], columns=COLUMNS)
        numbers = [name for name in COLUMNS if name not in TEXTS]
        found = found.astype(dict.fromkeys(numbers, float)).astype({"n": int})
        found.attrs |= dict(known["attrs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if found.empty else found


def _made_of(model: MultiModN) -> dict[str, Any]:
    """What tells a model from one of other data, another split, seed or tasks."""
    known = {name: model.provenance.get(name) for name in ("data_hash", "split_hash", "seed")}
    return {**known, "tasks": [task.name for task in model.study.tasks]}
