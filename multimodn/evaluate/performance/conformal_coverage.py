"""Coverage of conformal prediction sets: overall and by presence pattern, with binomial intervals.

References:
    Clopper and Pearson (1934), https://doi.org/10.1093/biomet/26.4.404
    Vovk (2012), Conditional validity of inductive conformal predictors, https://arxiv.org/abs/1209.2673
    (the coverage of one calibration set follows a beta distribution)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.conformal.calibration_scores import METHODS
from multimodn.conformal.predict import ConformalSets, conformal_sets
from multimodn.conformal.scores import n_left_out, truth
from multimodn.errors import NotFittedError
from multimodn.missingness.patterns import pattern_names

if TYPE_CHECKING:
    from multimodn.data.cohort import Cohort
    from multimodn.model.multimodn import MultiModN

FEWEST = 10  # labelled patients below whom a pattern has no row of its own
COLUMNS = [
    *("task", "output", "pattern", "n", "coverage", "low", "high", "within", "reached", "expected_low"),
    *("expected_high", "size", "abstained", "method", "n_calibration", "level"),
]

Floats = NDArray[np.float64]


def coverage(model: MultiModN, cohort: Cohort | PatientTensors, level: float = 0.9) -> pd.DataFrame:
    """Measures the coverage of the conformal prediction sets of labelled patients.

    Args:
        model: A model with `fit_conformal` behind it.
        cohort: Patients who were neither trained on nor calibrated on.
        level: The coverage level.

    Returns:
        One row for each task (each label of a task with several) and pattern of what the task sees, ``all`` first, then
        the most frequent; patterns with fewer than `FEWEST` patients are one, ``other patterns (k)``:

        - ``task``, ``output`` (the label, of a task with several), ``pattern``, ``n``, ``coverage``;
        - ``low``, ``high``: its 95 % interval (Clopper and Pearson), ``within``: whether the level lies in it, and
          ``reached``: whether it does or lies below, for sets promise at least the level. Survival counts a patient by
          the inverse chance of having been observed, and its interval is that of as many as would tell as much;
        - ``expected_low``, ``expected_high``: where 95 % of coverages of as many patients would lie, were they and the
          calibration rows alike (of one pattern; not of survival);
        - ``size``: mean number of classes, width, or bound; ``abstained``: share of sets that tell nothing;
        - ``method`` and ``n_calibration``, of one pattern; ``level``.

    Raises:
        NotFittedError: Before `fit_conformal`.
        DataError: If the patients have no targets.
    """
    return tabulate(covered(model, cohort, level), level)


def covered(model: MultiModN, cohort: Cohort | PatientTensors, level: float = 0.9) -> pd.DataFrame:
    """Says for each labelled patient whether the set holds the true outcome; for arguments and errors see `coverage`.

    Returns:
        One row for each patient and task (each label of a task with several), indexed by patient: ``task``, ``output``,
        ``pattern``, ``missed`` (0 or 1; of survival the inverse chance of having been observed instead of 1), ``size``,
        ``abstain``, ``kind``, ``method``, ``n_calibration``. Those of several models can be joined for `tabulate`.
    """
    if model.trained.conformal_scores is None:
        raise NotFittedError("No sets were calibrated: call conformal.fit(), or train with a run.")
    patients = model.trained.prepare(cohort, labelled=True)
    patients.check_labelled()
    ensemble, calibration, parts = model.trained.ensemble, model.trained.conformal_scores, []
    for u, answer in enumerate(conformal_sets(ensemble, calibration, patients, level)):
        name, scores = answer.unit.task, calibration.scores[u]
        real = truth(answer.unit, ensemble.tasks[name], patients.targets[name], patients.labelled[name])
        missed, size = _missed(answer, real.value)
        columns = {
            "task": name,
            "output": answer.unit.output,
            "pattern": pattern_names(answer.has.numpy(), ensemble.first.modalities),
            "missed": (missed * real.weight).double().numpy(),
            "size": size.double().numpy(),
            "abstain": answer.abstain.numpy(),
            "kind": answer.unit.kind,
            "method": np.array(METHODS, dtype=object)[scores.method[answer.pattern].numpy()],
            "n_calibration": scores.count[answer.pattern].numpy(),
        }
        parts.append(pd.DataFrame(columns, index=patients.patients.rename("patient"))[real.known.numpy()])
    return pd.concat(parts)


def _missed(answer: ConformalSets, value: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each set lacks the true value, and how large it is."""
    if answer.in_set is not None:
        return ~answer.in_set.gather(1, value.unsqueeze(1)).squeeze(1), answer.in_set.sum(1)
    assert answer.low is not None
    if answer.high is not None:
        return (value < answer.low) | (value > answer.high), answer.high - answer.low
    return value < answer.low, answer.low


def tabulate(found: pd.DataFrame, level: float) -> pd.DataFrame:
    """Counts what `covered` found, of one model or of several, by task and pattern; see `coverage` for the columns."""
    lines = []
    for (task, output), part in found.groupby(["task", "output"], sort=False):
        about = {"task": task, "output": output, "level": level}
        lines.append(about | {"pattern": "all"} | _line(part, level, one=False))
        counts = part["pattern"].value_counts(sort=False)
        counts = counts.iloc[np.argsort(-counts.to_numpy(), kind="stable")]
        lines += [
            about | {"pattern": pattern} | _line(part[part["pattern"] == pattern], level, one=True)
            for pattern in counts.index[counts >= FEWEST]
        ]
        rest = counts.index[counts < FEWEST]
        if len(rest):
            others = {"pattern": f"other patterns ({len(rest)})"}
            lines.append(about | others | _line(part[part["pattern"].isin(rest)], level, one=False))
    return pd.DataFrame(lines, columns=COLUMNS)


def _line(part: pd.DataFrame, level: float, *, one: bool) -> dict[str, Any]:
    missed = part["missed"].to_numpy(dtype=np.float64)
    low, high = interval(missed)
    found: dict[str, Any] = {"n": len(part), "coverage": float(1 - missed.mean()), "low": 1 - high, "high": 1 - low}
    found |= {"within": bool(1 - high <= level <= 1 - low), "reached": bool(level <= 1 - low)}
    found |= {"size": float(part["size"].mean()), "abstained": float(part["abstain"].mean()), "method": ""}
    if one:
        n_calibration = round(float(part["n_calibration"].mean()))
        found |= {"method": "+".join(sorted(part["method"].unique())), "n_calibration": n_calibration}
        if part["kind"].iloc[0] != "survival":
            found["expected_low"], found["expected_high"] = expected(len(part), n_calibration, level)
    return found


def interval(missed: Floats) -> tuple[float, float]:
    """Returns the 95 % interval of a share, Clopper and Pearson's.

    Where patients count for more or less than one, it is that of as many patients as have the same variance.
    """
    from scipy.stats import beta

    n, share = len(missed), float(missed.mean())
    variance = float(missed.var()) / n
    if np.isin(missed, (0.0, 1.0)).all() or not 0 < share < 1 or not variance:
        size = float(n)
    else:
        size = share * (1 - share) / variance
    share = min(share, 1.0)
    low = 0.0 if share <= 0 else float(beta.ppf(0.025, size * share, size * (1 - share) + 1))
    high = 1.0 if share >= 1 else float(beta.ppf(0.975, size * share + 1, size * (1 - share)))
    return low, high


def expected(n: int, n_calibration: int, level: float) -> tuple[float, float]:
    """Returns the 95 % range of the coverage of n patients by sets from so many calibration rows (beta-binomial)."""
    from scipy.stats import betabinom

    left_out = n_left_out(level, n_calibration)
    if not left_out:
        return 1.0, 1.0
    law = betabinom(n, n_calibration + 1 - left_out, left_out)
    return float(law.ppf(0.025)) / n, float(law.ppf(0.975)) / n


def summary(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Joins coverages of several repeats into one row for each task, output, pattern and method.

    Returns:
        ``task``, ``output``, ``pattern``, ``method``, ``repeats``, ``n`` (mean), ``n_calibration`` (mean), ``coverage``
        (mean) and its ``standard_error`` over repeats, ``within`` (in how many repeats the level lies in the interval),
        ``reached`` (in it or below), ``expected`` (in how many the coverage lies in its expected range), ``size`` and
        ``abstained`` (means).
    """
    whole = pd.concat(found, ignore_index=True)
    inside = (whole["coverage"] >= whole["expected_low"] - 1e-9) & (whole["coverage"] <= whole["expected_high"] + 1e-9)
    whole = whole.assign(inside=inside.where(whole["expected_low"].notna()))
    grouped = whole.groupby(["task", "output", "pattern", "method"], sort=False)
    parts = {"repeats": grouped.size()} | {name: grouped[name].mean() for name in ("n", "n_calibration", "coverage")}
    parts |= {"standard_error": grouped["coverage"].sem(), "within": grouped["within"].sum()}
    parts |= {"reached": grouped["reached"].sum(), "expected": grouped["inside"].sum(min_count=1)}
    parts |= {name: grouped[name].mean() for name in ("size", "abstained")}
    return pd.DataFrame(parts).reset_index()
