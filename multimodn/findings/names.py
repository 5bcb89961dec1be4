"""Names of metrics, models, outputs and presence patterns, as figures, reports and the terminal write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

CHANCE = {"auroc": 0.5, "cindex": 0.5, "uno_cindex": 0.5, "auroc_over_time": 0.5, "r2": 0.0}
"""What a metric is when predictions carry no information; these lie between that and 1."""
METRICS = {
    "auroc": "AUROC", "cindex": "C-index", "r2": "R²", "auprc": "AUPRC", "mae": "MAE", "rmse": "RMSE", "crps": "CRPS",
    "ece": "calibration error", "brier": "Brier score", "pearson": "Pearson's r",
    "integrated_brier": "integrated Brier score", "uno_cindex": "Uno's C-index", "auroc_over_time": "AUROC over time",
}  # fmt: skip
OURS, LATE, BEST, TREES = "ours", "late_ridge", "best_single", ("lightgbm", "xgboost")
ARMS = {
    OURS: "this model",
    LATE: "late ridge fusion",
    "late_ridge_mean": "late ridge fusion, neutral to presence",
    BEST: "the best single modality",
    "early_concat": "one ridge model of all columns",
    "xgboost": "boosted trees (XGBoost)",
    "lightgbm": "boosted trees (LightGBM)",
    "tabm": "TabM",
    "p_fusion": "parallel fusion",
}
_SURVIVAL, _ABOVE = "survival@", ">"


def metric_name(metric: object) -> str:
    """Names a metric: ``auroc`` is AUROC."""
    return METRICS.get(str(metric), str(metric).replace("_", " "))


def arm_name(arm: object) -> str:
    """Names a model that this one is compared with."""
    return ARMS.get(str(arm), str(arm))


def survival_time(output: object) -> str | None:
    """Returns t of the output ``survival@t``, the probability of no event up to time t; None of any other output."""
    return str(output).removeprefix(_SURVIVAL) if str(output).startswith(_SURVIVAL) else None


def middle(n: int) -> int:
    """Returns the position of the one of n times at which survival is shown and its calibration assessed."""
    return (n - 1) // 2


def main_survival(outputs: Iterable[object]) -> str | None:
    """Returns that of the outputs ``survival@t`` by which a survival task is shown; None: there is none of them."""
    times = [str(output) for output in dict.fromkeys(outputs) if survival_time(output) is not None]
    return times[middle(len(times))] if times else None


def event_words(output: object) -> str:
    """Says what 1 - ``survival@t`` is: ``chance of the event by 5.99`` or, with a unit, ``by 3 years``."""
    number, _, unit = str(survival_time(output)).partition(" ")
    return f"chance of the event by {float(number):,.4g} {unit}".rstrip()


def output_words(output: object) -> str:
    """Names an output of a task; ``survival@5.98958`` is ``chance of the event by 5.99``, whose value is 1 less it."""
    return str(output) if survival_time(output) is None else event_words(output)


def lower_class(output: object) -> str | None:
    """Returns c of the output ``>c`` of an ordinal task, the probability of a class above c; None of any other."""
    return str(output).removeprefix(_ABOVE) if str(output).startswith(_ABOVE) else None


def pattern_name(modalities: Iterable[str]) -> str:
    """Names a set of modalities, as the frames do: ``labs+image``, or ``(none)``."""
    return "+".join(modalities) or "(none)"


def named_patterns(presence: pd.DataFrame, hidden: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Returns the modalities of each pattern that a task may see, by the pattern's name.

    ``presence`` is of patients by modalities in the model's order, ``hidden`` says what is hidden from a task.
    """
    distinct = presence.drop_duplicates()
    return {
        pattern_name(pattern): pattern
        for lost in {frozenset[str](), *map(frozenset, hidden.values())}
        for row in distinct.to_numpy(bool)
        for pattern in [tuple(m for m, has in zip(distinct.columns, row, strict=True) if has and m not in lost)]
    }


def pattern_words(modalities: Sequence[str], every: Sequence[str]) -> str:
    """Says briefly which modalities patients have: ``all 6``, ``all but protein``, ``labs + image``, ``none``."""
    lacking = [name for name in every if name not in modalities]
    if not modalities:
        return "none"
    if not lacking:
        return f"all {len(every)}" if len(every) > 1 else str(every[0])
    return f"all but {', '.join(lacking)}" if len(lacking) < len(modalities) else " + ".join(modalities)
