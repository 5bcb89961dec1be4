"""What the studies of intensive care and of heart disease compare: ours, and tuned baselines, by name.

Two pairs of opponents: models that may see which cells and modalities are empty, and models that may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from prepare import load_series

from multimodn import Cohort, Study
from multimodn.evaluate.baselines.tuned import TUNED
from multimodn.evaluate.crossval.arms import arm_key, as_arm, fit_ours
from multimodn.evaluate.crossval.contracts import Arms, Fitted, Predictions, Trainer

HERE = Path(__file__).resolve().parent
MODES = ("neutral", "informative")
BASELINES = (
    *("late_ridge", "stacked_ridge", "stacked_ridge_sees_empty"),
    *("lightgbm_tuned", "lightgbm_imputed", "lightgbm_tuned_sees_empty"),
)
FAMILIES: Mapping[str, tuple[str, Sequence[str]]] = {
    "may not see what is empty": (
        "ours_neutral",
        ("late_ridge_mean", "stacked_ridge", "lightgbm_tuned", "lightgbm_imputed"),
    ),
    "may see what is empty": (
        "ours_informative",
        ("late_ridge", "stacked_ridge_sees_empty", "lightgbm_tuned_sees_empty"),
    ),
}
"""Ours, and the baselines that know as much."""


def tabular_arms() -> dict[str, Arms]:
    """Returns ours in both modes, with the settings of the package and of the study, and the baselines."""
    arms = {f"ours_{mode}": _named(f"ours_{mode}", as_arm(fit_ours_in(mode))) for mode in MODES}
    return arms | {name: _named(name, as_arm(TUNED[name])) for name in BASELINES}


def series_arms(data: Path) -> dict[str, Arms]:
    """Returns ours in both modes on the measurements themselves (``series.yaml``); folds are those of the tables."""
    return {f"series_{mode}": _named(f"series_{mode}", _series_arm(data, mode)) for mode in MODES}


def fit_ours_in(mode: str) -> Trainer:
    """Trains ``ours_<mode>``: the study with another mode of missingness, nothing else."""

    def trainer(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        return {f"ours_{mode}": fit_ours(study.model_copy(update={"missingness": mode}), training, seed)["ours"]}

    return trainer


def chosen_arms(asked: Sequence[str], arms: Mapping[str, Arms], cells: Path, n_cells: int) -> dict[str, Arms]:
    """Returns the arms that are asked for, and those with ``n_cells`` finished cells or more.

    ``asked`` are names of arms, or ``ours``, ``series`` and ``baselines``.

    Raises:
        ValueError: If an arm is unknown.
    """
    groups = {
        "ours": [name for name in arms if name.startswith("ours")],
        "series": [name for name in arms if name.startswith("series")],
        "baselines": list(BASELINES),
    }
    wanted = {name for each in asked for name in groups.get(each, [each])}
    if unknown := wanted - set(arms):
        raise ValueError(f"Unknown arm '{min(unknown)}'; choose among {', '.join([*groups, *arms])}.")
    done = [name for name, arm in arms.items() if len(list(cells.glob(f"{arm_key(arm)}-*-*.parquet"))) >= n_cells]
    return {name: arm for name, arm in arms.items() if name in wanted or name in done}


def _named(name: str, arm: Arms) -> Arms:
    arm.__name__ = name  # the cells of an arm are files of its name
    return arm


def _series_arm(data: Path, mode: str) -> Arms:
    def arm(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
        of_series, cohort = _series_cohort(data)
        of_series = of_series.model_copy(update={"missingness": mode})
        fitted = fit_ours(of_series, cohort.subset(training.patients), seed)["ours"]
        return {f"series_{mode}": fitted(replace(cohort.subset(test.patients), targets={}, split=None))}

    return arm


@lru_cache(maxsize=1)
def _series_cohort(data: Path) -> tuple[Study, Cohort]:
    study = Study.load(HERE / "series.yaml")
    return study, Cohort.load(study, sources=load_series(data))
