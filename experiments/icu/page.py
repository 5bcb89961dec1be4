"""The pages of the studies of intensive care and of heart disease, written from out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from arms import FAMILIES
from scores import differences

from multimodn.evaluate.crossval.comparison import averages
from multimodn.evaluate.crossval.out_of_fold import OutOfFold
from multimodn.evaluate.results import markdown

COLUMNS = {"log-odds": ("auroc", "auprc", "calibration_slope", "ece", "challenge"), "units": ("r2", "mae")}
"""What a table shows of a task, by link scale; the first has an interval."""

ARMS = (
    "`ours_neutral` and `ours_informative` are one model of all modalities and tasks with the settings of the package "
    "and that mode of missingness. `late_ridge` is the mean of one ridge model a modality over the modalities that a "
    "patient has, `late_ridge_mean` the same with an absent modality at its mean, `single:` the ridge model of one "
    "modality. `stacked_ridge`: ridge models a modality, cross-fitted in the training patients, added up with weights "
    ">= 0 that are fitted to the out-of-fold evidence and shrunk to their mean; columns are clipped at three standard "
    "deviations, a bound that was chosen by its scores on these folds, in its favour. "
    "`lightgbm_tuned`: boosted trees on all columns side by side, stopped early, leaves among 7, 15 and 31 "
    "and the smallest leaf among 10, 30 and 100 chosen in five inner folds, whose five models are averaged."
)
EMPTINESS = (
    "`_sees_empty`: the ridge stack has one more block, which says what cells and modalities are empty; the trees get "
    "empty cells as such. Without it empty cells and absent modalities have the training median or the commonest level "
    "(in the ridge stack an absent modality adds nothing). So many equal values still tell trees what was empty: "
    "`lightgbm_imputed` are the same trees on cells that are drawn given the patient's other cells (chained equations, "
    "at predictions the mean over ten draws). `ours_informative` is compared with what may see emptiness, "
    "`ours_neutral` with what may not; `late_ridge` averages over what a patient has, and so depends on it."
)
METRICS = (
    "Metrics are computed in each test fold and averaged. 95 % intervals of the tables: bootstrap over patients, drawn "
    "with the predictions of all repeats. `ece` in ten bins of equally many patients, which chance raises. "
    "`challenge`: min(sensitivity, positive predictive value) at the threshold that is best for the out-of-fold "
    "predictions of the other folds."
)
DIFFERENCES = (
    "`low` to `high`: paired bootstrap over patients, what other test patients would change; `t_low` to `t_high`: over "
    "folds, with the variance that shared training patients ask for (Nadeau and Bengio 2003). `better` and `worse` are "
    "said only where neither interval covers 0. Metrics beside AUROC and R2 are judged by the second alone."
)


def tables(found: OutOfFold, scores: pd.DataFrame) -> Iterator[str]:
    """Yields a heading and a table of arms for each task."""
    means, each = averages(found), scores.groupby(["task", "arm", "metric"])["value"].mean()
    for task in found.tasks:
        metrics = COLUMNS[str(found.targets.loc[found.targets["task"] == task, "scale"].iloc[0])]
        first = means[means["task"] == task].set_index("arm")
        rows = []
        for arm in found.arms:
            low, high = first.loc[arm, "low"], first.loc[arm, "high"]
            texts = [f"{each[task, arm, metric]:.3f}" for metric in metrics]
            rows.append((arm, f"{texts[0]} ({low:.3f} to {high:.3f})", *texts[1:]))
        n = int(first["n"].iloc[0])
        yield f"### {task}, {n} patients\n\n{markdown(pd.DataFrame(rows, columns=['arm', *metrics]))}"


def comparisons(found: OutOfFold, scores: pd.DataFrame) -> Iterator[str]:
    """Yields a heading and a table of differences for ours against each family of baselines, and for the baselines."""
    for family, (ours, references) in FAMILIES.items():
        known = [name for name in references if name in found.arms]
        opponents = [name for name in (ours, ours.replace("ours", "series")) if name in found.arms]
        pairs = [(arm, name) for arm in opponents for name in known]
        if pairs:
            yield _table(f"Ours less baselines that {family}", found, scores, pairs)
    yield from _among_baselines(found, scores)


def _among_baselines(found: OutOfFold, scores: pd.DataFrame) -> Iterator[str]:
    pairs = [
        ("lightgbm_tuned", "stacked_ridge"),
        ("lightgbm_tuned", "lightgbm_imputed"),
        ("lightgbm_tuned_sees_empty", "stacked_ridge_sees_empty"),
        ("stacked_ridge", "late_ridge_mean"),
        ("stacked_ridge_sees_empty", "stacked_ridge"),
        ("lightgbm_tuned_sees_empty", "lightgbm_tuned"),
    ]
    pairs = [pair for pair in pairs if set(pair) <= set(found.arms)]
    if pairs:
        yield _table("Among the baselines", found, scores, pairs)


def _table(title: str, found: OutOfFold, scores: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    return f"### {title}\n\n{markdown(differences(found, scores, pairs))}"


def how(protocol: Mapping[str, int], stratified_by: str) -> str:
    """Says what was done to whom."""
    return (
        f"Written by `run.py`; the numbers are in `results.csv`, what it takes to repeat them in `run.json`. "
        f"{protocol['n_patients']:,} patients, {protocol['n_folds']} folds x {protocol['repeats']} repeats, stratified "
        f"by {stratified_by}, seed {protocol['seed']}; all arms on the same folds."
    )
