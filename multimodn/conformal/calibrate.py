"""Conformal prediction sets: sets of classes, intervals and lower bounds of survival with a nominal coverage.

Split conformal prediction compares the nonconformity score of an outcome with the scores of calibration patients. As
predictions from few modalities are less accurate, a patient is compared with calibration patients who have the same
modalities, or whose other modalities are blanked (missing data augmentation, Zaffran et al. 2023):

- ``own``: patients with exactly this pattern, where there are at least 50;
- ``exact``: else patients who have all modalities of the patient, blanked to these, where there are at least 50;
- ``nested``: else all patients, each blanked to the modalities that both have, and so is the patient each time.

No modality is imputed: the model predicts from any subset. ``own`` has its coverage under any mechanism of
missingness, as long as that stays the same. The other two have it where missingness depends neither on the outcome nor
on the values of the modalities. Where missingness depends on the outcome, and changes, no method has it.

Calibration patients are those on whom a member of the ensemble was not trained. A patient's prediction by that member
is compared with them, for all members (cross-conformal prediction, Vovk 2015; CV+, Barber et al. 2021). The guaranteed
coverage is 2 level - 1, the usual one the level or a little more. Where these patients also decided when training
stopped, or fitted the calibration of the outputs, sets are slightly too small; a separate cohort avoids both.

Survival bounds weight events by the inverse probability of being uncensored, which assumes censoring independent of
time, outcome and modalities; their coverage is asymptotic.

References:
    Zaffran, Dieuleveut, Josse and Romano (2023), Conformal prediction with missing values,
    https://arxiv.org/abs/2306.02732
    Vovk (2015), Cross-conformal predictors, https://doi.org/10.1007/s10472-013-9368-4
    Barber, Candes, Ramdas and Tibshirani (2021), Predictive inference with the jackknife+,
    https://doi.org/10.1214/20-AOS1965
    Candes, Lei and Ren (2023), Conformalized survival analysis, https://arxiv.org/abs/2103.09763
    Gui, Hore, Ren and Barber (2024), Conformalized survival analysis with adaptive cutoffs,
    https://arxiv.org/abs/2211.01227
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.conformal.calibration_scores import METHODS, Conformal, scores_by_pattern
from multimodn.conformal.predict import ENSEMBLE, PATIENTS_AT_ONCE, ConformalSets, SubsetPredictor
from multimodn.conformal.scores import Truth, Unit, nonconformity_scores, read_outputs, truth, units_of
from multimodn.errors import DataError
from multimodn.fusion import Ensemble
from multimodn.fusion.paths import all_subsets
from multimodn.missingness.patterns import pattern_names

FEWEST = {"own": 50.0, "exact": 50.0}  # fewest calibration rows for each method; with fewer, the next method is used
EVERY_SUBSET = 6  # with at most so many modalities every subset is calibrated; with more, the patterns that occur
MOST_PATTERNS = 256  # largest number of patterns, the most frequent first
MOST_ROWS = 2_000  # largest number of calibration patients of each member, drawn at random


def calibrate_sets(
    ensemble: Ensemble,
    patients: PatientTensors,
    held_out: Sequence[Tensor] | None,
    *,
    fewest: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Conformal:
    """Scores labelled calibration patients at every pattern.

    ``held_out`` has for each member the rows that it did not train on; None: no member trained on any of these
    patients, and the ensemble itself is calibrated. ``fewest`` rows for the methods ``own`` and ``exact``: default
    `FEWEST`. ``seed`` draws where there are more than `MOST_ROWS` rows.

    Raises:
        DataError: If there is no labelled row.
    """
    units = units_of(ensemble.tasks)
    parts = [(ENSEMBLE, torch.arange(len(patients)))] if held_out is None else list(enumerate(held_out))
    generator = torch.Generator().manual_seed(seed)
    parts = [(k, rows[torch.randperm(len(rows), generator=generator)[:MOST_ROWS].sort()[0]]) for k, rows in parts]
    rows = torch.cat([each for _, each in parts])
    if not any(bool(patients.labelled[unit.task][rows].any()) for unit in units):
        raise DataError(
            "Conformal sets are calibrated on labelled patients who were held out from training, and there are none: "
            "give the split a validation part, train several members, or pass a calibration cohort."
        )
    patterns = _patterns(patients.presence)
    truths = [
        truth(unit, ensemble.tasks[unit.task], patients.targets[unit.task][rows], patients.labelled[unit.task][rows])
        for unit in units
    ]
    scored = _scored(ensemble, units, truths, patients, parts, patterns)
    predictor = torch.cat([torch.full((len(each),), k) for k, each in parts])
    tasks, by_unit = list(ensemble.tasks), []
    for unit, real, scores in zip(units, truths, scored, strict=True):
        seen = ensemble.first.seen[tasks.index(unit.task)]
        distinct, last = _distinct(patterns & seen)
        has = (patients.presence[rows] & seen)[real.known]
        of_known = (scores[last][:, real.known], real.weight[real.known], predictor[real.known])
        by_unit.append(scores_by_pattern(has, distinct, *of_known, real.horizon, fewest or FEWEST))
    return Conformal(units, by_unit, "cohort" if held_out is None else "held-out")


def _patterns(presence: Tensor) -> Tensor:
    """Returns the patterns to calibrate, bool ``(P, M)``: the most frequent ones first, the empty one last."""
    n_modalities = presence.shape[1]
    if n_modalities <= EVERY_SUBSET:
        return all_subsets(n_modalities).flip(0)
    distinct, counts = torch.unique(presence, dim=0, return_counts=True)
    distinct = distinct[counts.argsort(descending=True, stable=True)[:MOST_PATTERNS]]
    return torch.cat([distinct[distinct.any(1)], torch.zeros(1, n_modalities, dtype=torch.bool)])


def _distinct(patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the distinct rows in the order of their last occurrence, and its row: the empty pattern stays last."""
    _, which = torch.unique(patterns, dim=0, return_inverse=True)
    last = torch.zeros(int(which.max()) + 1, dtype=torch.long).scatter_reduce(
        0, which, torch.arange(len(patterns)), "amax"
    )
    kept = last.sort()[0]
    return patterns[kept], kept


def _scored(
    ensemble: Ensemble,
    units: Sequence[Unit],
    truths: Sequence[Truth],
    patients: PatientTensors,
    parts: Sequence[tuple[int, Tensor]],
    patterns: Tensor,
) -> list[Tensor]:
    """Scores all rows at all patterns: for each unit ``(P, n)``."""
    scored: list[list[Tensor]] = [[] for _ in units]
    done = 0
    with torch.inference_mode():
        for predictor, rows in parts:
            for some in torch.split(rows, PATIENTS_AT_ONCE):
                batch = patients.batch(some)
                outputs = SubsetPredictor(ensemble, batch).outputs(predictor, batch.presence & patterns.unsqueeze(1))
                for u, unit in enumerate(units):
                    task = ensemble.tasks[unit.task]
                    value = truths[u].value[done : done + len(some)]
                    predicted = read_outputs(unit, task, outputs[unit.task])
                    scored[u].append(nonconformity_scores(unit, task, predicted, value))
                done += len(some)
    return [torch.cat(each, dim=1).clone() for each in scored]


def sets_frame(
    ensemble: Ensemble, conformal: Conformal, patients: PatientTensors, sets: Sequence[ConformalSets], level: float
) -> pd.DataFrame:
    """Returns sets as a frame indexed by patient, a row for each unit and class (one for a number or survival).

    See `multimodn.model.conformal.ConformalPrediction.predict` for the columns.
    """
    parts = []
    modalities = ensemble.first.modalities
    for of_unit, scores in zip(sets, conformal.scores, strict=True):
        shared = {
            "pattern": pattern_names(of_unit.has.numpy(), modalities),
            "calibrated_on": pattern_names(scores.pattern[of_unit.pattern].numpy(), modalities),
            "method": np.array(METHODS, dtype=object)[scores.method[of_unit.pattern].numpy()],
            "n_calibration": scores.count[of_unit.pattern].numpy(),
            "abstain": of_unit.abstain.numpy(),
            "level": level,
        }
        for c, name in enumerate(of_unit.unit.names):
            in_set, p_value = (None if x is None else x[:, c].numpy() for x in (of_unit.in_set, of_unit.p_value))
            own = {
                "task": of_unit.unit.task,
                "output": name,
                "in_set": pd.array(np.full(len(patients), pd.NA) if in_set is None else in_set, dtype="boolean"),
                "low": np.nan if of_unit.low is None else of_unit.low.numpy(),
                "high": np.nan if of_unit.high is None else of_unit.high.numpy(),
                "p_value": np.nan if p_value is None else p_value,
            }
            block = pd.DataFrame(own | shared, index=patients.patients.rename("patient"))
            parts.append(block.assign(row=np.arange(len(patients))))
    whole = pd.concat(parts)
    return whole.iloc[np.argsort(whole["row"].to_numpy(), kind="stable")].drop(columns="row")
