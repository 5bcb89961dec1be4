"""A probe of a trained model: how much its states and predictions depend on which modalities are present.

The model is run on patients at random subsets S of their modalities. Each S has a score, the mean outcome stratum of
the patients drawn at it, and a linear model predicts that score from the states or the predictions. Predictions differ
between subsets for a good reason too: where presence depends on the outcome, so do the values. Rows are therefore
weighted by P(y) / P(y | S), as in `multimodn.missingness.label_shift`, so that outcome and subset are independent. If
presence depends on nothing but the outcome, the mean of P(y | x_S) is then P(y) at every S: a prediction that presence
does not mislead says nothing of the score, and what a linear model still finds is the shortcut. A state may know what
is absent without harm; a prediction may not.

Linear probes of a representation: Alain and Bengio (2017), arXiv 1610.01644.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.findings.numbers import interval
from multimodn.fusion import Ensemble, random_paths
from multimodn.fusion.paths import ordered_paths, steps_taken
from multimodn.model.multimodn import MultiModN
from multimodn.model.trained import PREDICT_BATCH

N_DRAWS = 4  # random subsets of each patient
N_FOLDS, N_BOOTSTRAP = 5, 500
MIN_PATIENTS = 40
PENALTIES = np.logspace(-2, 4, 13)
HARMLESS = 0.05  # predictions that explain less of the score's variance than this are taken as not misled

Floats = NDArray[np.float64]


def probe(model: MultiModN, cohort: Cohort, *, seed: int = 0) -> pd.DataFrame:
    """Asks how well a linear model reads the outcome-relevant part of the presence pattern from a trained model.

    Args:
        model: A trained model.
        cohort: Labelled patients, best those that it was not trained on.
        seed: Seed of folds and bootstrap.

    Returns:
        One row for each task and place read: ``task``, ``read_from`` (``start``: the states before any step;
        ``state``: those at the subset, of all members; ``prediction``: the expected stratum, or the link scale where a
        task has no likelihood of strata), ``r2`` (cross-validated over patients, weighted; 0 = nothing, 1 = all),
        ``low`` and ``high`` (95 %, bootstrap over patients), ``n`` (patients) and ``left_out`` (share of draws whose
        subset lacks a stratum, so that nothing can balance it). ``r2`` is NaN with fewer than `MIN_PATIENTS`, or if all
        subsets left have one score.
    """
    patients = model.prepare(cohort, labelled=True)
    read = _read(model.trained.ensemble, patients, seed)
    strata = patients.strata[read.patient] if patients.strata is not None else torch.empty(0)
    rows = []
    for t, (name, task) in enumerate(model.trained.ensemble.tasks.items()):
        stratum = strata[:, t].numpy()
        score, weight = _balanced(read.subset, stratum, task.n_strata)
        chosen = weight > 0
        drawn = int((stratum >= 0).sum())
        prediction = _expected(task, read.outputs[name]).numpy()
        n = len(np.unique(read.patient[chosen]))
        for place, inputs in (("start", read.start), ("state", read.state), ("prediction", prediction)):
            scores = _r2(inputs[chosen], score[chosen], weight[chosen], read.patient[chosen], seed)
            rows.append((name, place, *scores, n, round(1 - chosen.sum() / drawn, 3) if drawn else np.nan))
    return pd.DataFrame(rows, columns=["task", "read_from", "r2", "low", "high", "n", "left_out"])


def verdict(probed: pd.DataFrame) -> str:
    """Writes a sentence for each task on its predictions in the frame of `probe`."""
    sentences = []
    row: Any
    for row in probed[probed["read_from"] == "prediction"].itertuples():
        if np.isnan(row.r2):
            sentences.append(f"'{row.task}': unknown: too few patients, or presence carries no information.")
            continue
        verb, advice = "do not depend", ""
        if row.low > HARMLESS:
            verb, advice = "depend", "; they will mislead where modalities are missing for other reasons"
            advice += ". Train with `missingness: neutral`"
        elif row.high > HARMLESS:
            verb = "may depend"
        number = f"R² {interval(row.r2, row.low, row.high)}"
        sentences.append(f"'{row.task}': the predictions {verb} on which modalities are present ({number}){advice}.")
    return " ".join(sentences)


@dataclass(frozen=True)
class _Read:
    """What the model made of R draws: patient and subset numbers ``(R,)``, states ``(R, members x width)``, outputs."""

    patient: NDArray[np.int64]
    subset: NDArray[np.int64]
    start: Floats
    state: Floats
    outputs: dict[str, Tensor]


def _read(model: Ensemble, patients: PatientTensors, seed: int) -> _Read:
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {}
    first = 0
    with torch.inference_mode():
        for batch in patients.batches(PREDICT_BATCH):
            encoded = model.encode(batch)
            who = torch.arange(first, first + len(batch.presence))
            first += len(who)
            for _ in range(N_DRAWS):
                chosen = _random_subsets(batch.presence, generator)
                paths = ordered_paths(chosen, model.first.order)
                # what was not drawn is absent to the model, from its first state on
                evidence = [replace(one, where=one.where.masked_fill(~chosen, -1)) for one in encoded]
                members = zip(model.networks, evidence, strict=True)
                start, end = torch.cat([member.states(one, paths)[[0, -1]] for member, one in members], dim=-1)
                values = {"who": who, "chosen": chosen, "start": start, "end": end, **model.subset(evidence, chosen)}
                for key, value in values.items():
                    parts.setdefault(key, []).append(value)
    is_read = torch.cat(parts["chosen"]).any(1)
    whole = {key: torch.cat(part)[is_read] for key, part in parts.items()}
    subset = np.unique(whole["chosen"].numpy(), axis=0, return_inverse=True)[1].ravel()
    start, end = (whole[key].double().numpy() for key in ("start", "end"))
    return _Read(whole["who"].numpy(), subset, start, end, {name: whole[name] for name in model.tasks})


def _random_subsets(presence: Tensor, generator: torch.Generator) -> Tensor:
    """Cuts a random order of what each patient has at a random place, ``(B, M)``; none where there is nothing."""
    taken = steps_taken(random_paths(presence, generator), presence.shape[1])
    depth = (torch.rand(len(presence), generator=generator) * presence.sum(1)).long() + 1
    return taken[depth.clamp(max=len(taken) - 1), torch.arange(len(presence))]


def _expected(task: Task, outputs: Tensor) -> Tensor:
    if not task.has_strata_likelihood:
        return task.link(outputs).double()
    ranks = torch.arange(task.n_strata, dtype=torch.float64)
    return (task.log_strata(outputs).double().exp() @ ranks).unsqueeze(-1)


def _balanced(codes: NDArray[np.int64], stratum: NDArray[np.int64], n_strata: int) -> tuple[Floats, Floats]:
    """Returns score and weight of each draw ``(R,)``; weight 0 = without a label, or a subset that lacks a stratum."""
    is_labelled = stratum >= 0
    counts = np.zeros((codes.max() + 1, n_strata))
    np.add.at(counts, (codes[is_labelled], stratum[is_labelled]), 1)
    totals, sizes = counts.sum(0), counts.sum(1)
    whole = ((counts > 0) | (totals == 0)).all(axis=1)
    score = counts @ np.arange(n_strata) / sizes.clip(min=1)
    usual = counts[whole].sum(0) / max(counts[whole].sum(), 1)
    weights = np.where(whole[:, None] & (counts > 0), usual * sizes[:, None] / counts.clip(min=1), 0.0)
    return score[codes], np.where(is_labelled, weights[codes, stratum.clip(min=0)], 0.0)


def _r2(
    inputs: Floats, score: Floats, weight: Floats, patient: NDArray[np.int64], seed: int
) -> tuple[float, float, float]:
    """Cross-validated weighted R² with its interval; all draws of a patient are on one side."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.preprocessing import StandardScaler

    names, number = np.unique(patient, return_inverse=True)
    if len(names) < MIN_PATIENTS or np.ptp(score) < 1e-9:
        return np.nan, np.nan, np.nan
    predicted, usual = np.empty_like(score), np.empty_like(score)
    for train, test in GroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(score, groups=number):
        scaler = StandardScaler().fit(inputs[train])
        ridge = RidgeCV(PENALTIES).fit(scaler.transform(inputs[train]), score[train], sample_weight=weight[train])
        predicted[test] = ridge.predict(scaler.transform(inputs[test]))
        usual[test] = np.average(score[train], weights=weight[train])
    errors = np.bincount(number, weight * (score - predicted) ** 2)
    spread = np.bincount(number, weight * (score - usual) ** 2)
    drawn = np.random.default_rng(seed).integers(len(names), size=(N_BOOTSTRAP, len(names)))
    low, high = np.quantile(1 - errors[drawn].sum(1) / spread[drawn].sum(1), (0.025, 0.975))
    return float(1 - errors.sum() / spread.sum()), float(low), float(high)
