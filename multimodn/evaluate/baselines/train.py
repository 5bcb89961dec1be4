"""Training of the baselines that a model is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.evaluate.baselines.design_matrix import Tabular
from multimodn.evaluate.baselines.ridge import fit_single
from multimodn.evaluate.baselines.tuned import TUNED
from multimodn.evaluate.crossval.contracts import Fitted, Predictions
from multimodn.evaluate.crossval.nested import choose
from multimodn.training.build import fit_tasks

PARTS = ("best_single", "late_ridge_mean")  # arms that consist of parts of late ridge fusion


def checked_arms(arms: Sequence[str]) -> list[str]:
    """Returns each arm once.

    Raises:
        StudyError: If one is unknown.
    """
    valid = [*PARTS, *TUNED]
    for arm in arms:
        if arm not in valid:
            raise StudyError(f"Unknown baseline '{arm}'.{did_you_mean(arm, valid)}")
    return list(dict.fromkeys(arms))


@dataclass
class TrainedArms:
    """Trained baselines."""

    fitted: dict[str, Fitted] = field(default_factory=dict)  # the arms that could be trained
    # the single modality that was chosen for each task, if ``best_single`` is one of the arms
    best: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # why the other arms could not be trained


def train_arms(
    arms: Sequence[str], tabular: Tabular, training: Cohort, seed: int, on_arm: Callable[[str], None] | None
) -> TrainedArms:
    """Trains arms on some patients; an arm that fails on these data is reported, and the others go on."""
    result, trained = TrainedArms(), dict[str, Fitted]()
    for arm in arms:
        if on_arm is not None:
            on_arm(arm)
        try:
            if arm == "best_single":
                result.best = best_singles(tabular, training, seed)
            if arm not in trained and not (arm in PARTS and "late_ridge" in trained):
                trained |= TUNED["late_ridge" if arm in PARTS else arm](tabular.study, training, seed)
        except DataError as error:  # such as a class that an inner fold lacks
            result.failed[arm] = str(error)
            continue
        result.fitted[arm] = _chosen(trained, result.best) if arm == "best_single" else trained[arm]
    return result


def best_singles(tabular: Tabular, training: Cohort, seed: int) -> dict[str, str]:
    """Returns for each task the modality whose ridge model is best in inner folds of the training patients."""
    singles = {name: partial(fit_single, modality=name) for name in tabular.study.steps}
    if len(singles) == 1:
        return {task.name: next(iter(singles)) for task in tabular.study.tasks}
    return dict(choose(singles, tabular.study, training, seed).by_task)


def _chosen(trained: Mapping[str, Fitted], best: Mapping[str, str]) -> Fitted:
    def predict(cohort: Cohort) -> Predictions:
        links = {modality: trained[f"single:{modality}"](cohort) for modality in set(best.values())}
        return {task: links[modality][task] for task, modality in best.items() if task in links[modality]}

    return predict


def targets_of_baselines(tabular: Tabular, training: Cohort, test: Cohort) -> dict[str, tuple[Task, Tensor, Tensor]]:
    """Returns each task that baselines predict, as they fitted it, the test patients' targets, and who has one."""
    return {task.name: (task, *task.prepare(test.targets[task.name])) for task in fit_tasks(tabular.study, training)}
