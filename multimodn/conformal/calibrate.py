"""Sets that hold the truth with a promised probability: classes, intervals, lower bounds of survival, by pattern.

Split conformal prediction compares how strange an outcome would be to a prediction with how strange the outcomes of
calibration patients were to theirs. As predictions from few modalities err more, a patient is compared with calibration
patients who have the same, or whose other modalities were blanked (missing data augmentation, Zaffran et al. 2023):

- ``own``: patients with just this pattern, where there are at least 50;
- ``exact``: else patients who have all that the patient has, blanked to it, where there are at least 50;
- ``nested``: else everybody, each blanked to what both have, and so is the patient each time.

Nothing is imputed: the model predicts from any subset. ``own`` keeps its promise whatever made modalities go missing,
as long as that stays the same. The other two keep it where missingness depends neither on the outcome nor on what the
modalities say. Where missingness depends on the outcome, and changes, no method keeps it.

Calibration patients are those that a member of the ensemble did not train on. A patient's prediction by that member is
compared with them, for all members (cross-conformal prediction, Vovk 2015; CV+, Barber et al. 2021). Its proven
coverage is 2 level - 1, its usual one the level or a little more. Where these patients also decided when training
stopped, or fitted the calibration of the outputs, they are slightly too good; a cohort of its own avoids both.

Survival bounds count events by the inverse chance of having been observed, which takes censoring to be independent of
everything; the promise is then asymptotic.

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
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.conformal.calibration_scores import METHODS, Conformal, table
from multimodn.conformal.predict import ENSEMBLE, PATIENTS_AT_ONCE, Answer, Runner, answers
from multimodn.conformal.scores import Truth, Unit, read, scores, truth, units_of
from multimodn.errors import DataError
from multimodn.fusion import Ensemble

__all__ = ["Answer", "Conformal", "answers", "calibrate_sets", "frame", "names_of"]

FEWEST = {"own": 50.0, "exact": 50.0}
"""Fewest calibration rows with which each method is used; else the next."""
EVERY_SUBSET = 6
"""Up to this many modalities every subset is calibrated; beyond, the patterns that occur."""
MOST_PATTERNS = 256
"""So many patterns at most, the most frequent first."""
MOST_ROWS = 2_000
"""Calibration patients of each member at most, drawn at random."""


def calibrate_sets(
    ensemble: Ensemble,
    patients: PatientTensors,
    held_out: Sequence[Tensor] | None,
    *,
    fewest: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Conformal:
    """Scores calibration patients at every pattern.

    Args:
        ensemble: The trained networks.
        patients: Labelled patients.
        held_out: For each member the rows that it did not train on. None: no member trained on any of these patients,
            and the ensemble itself is calibrated.
        fewest: For ``own`` and ``exact`` the fewest rows they are used with; default: `FEWEST`.
        seed: Seed of the draw where there are more than `MOST_ROWS` rows.

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
            "Sets are calibrated on labelled patients who were held out while training, and there are none: give the "
            "split a validation part, train several members, or pass a calibration cohort."
        )
    patterns = _patterns(patients.presence)
    truths = [_truth(ensemble, unit, patients, rows) for unit in units]
    found = _scored(ensemble, units, truths, patients, parts, patterns)
    predictor = torch.cat([torch.full((len(each),), k) for k, each in parts])
    tasks, tables = list(ensemble.tasks), []
    for unit, real, score in zip(units, truths, found, strict=True):
        seen = ensemble.first.seen[tasks.index(unit.task)]
        own, first = _distinct(patterns & seen)
        has = (patients.presence[rows] & seen)[real.known]
        score = score[first][:, real.known]
        chosen = (real.weight[real.known], predictor[real.known], real.horizon)
        tables.append(table(has, own, score, *chosen, fewest or FEWEST))
    return Conformal(units, tables, "cohort" if held_out is None else "held-out")


def _patterns(presence: Tensor) -> Tensor:
    """The patterns to calibrate, bool ``(P, M)``: the most frequent ones first, the empty one last."""
    n_modalities = presence.shape[1]
    if n_modalities <= EVERY_SUBSET:
        codes = torch.arange(2**n_modalities - 1, -1, -1)
        return (codes.unsqueeze(1) >> torch.arange(n_modalities) & 1) > 0
    distinct, counts = torch.unique(presence, dim=0, return_counts=True)
    distinct = distinct[counts.argsort(descending=True, stable=True)[:MOST_PATTERNS]]
    return torch.cat([distinct[distinct.any(1)], torch.zeros(1, n_modalities, dtype=torch.bool)])


def _distinct(patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows in the order of their last occurrence, and where that is: the empty pattern stays the last."""
    _, which = torch.unique(patterns, dim=0, return_inverse=True)
    last = torch.zeros(int(which.max()) + 1, dtype=torch.long).scatter_reduce(
        0, which, torch.arange(len(patterns)), "amax"
    )
    kept = last.sort()[0]
    return patterns[kept], kept


def _truth(ensemble: Ensemble, unit: Unit, patients: PatientTensors, rows: Tensor) -> Truth:
    target, known = patients.targets[unit.task][rows], patients.labelled[unit.task][rows]
    return truth(unit, ensemble.tasks[unit.task], target, known)


def _scored(
    ensemble: Ensemble,
    units: Sequence[Unit],
    truths: Sequence[Truth],
    patients: PatientTensors,
    parts: Sequence[tuple[int, Tensor]],
    patterns: Tensor,
) -> list[Tensor]:
    """Scores all rows at all patterns: for each unit ``(P, n)``."""
    found: list[list[Tensor]] = [[] for _ in units]
    done = 0
    with torch.inference_mode():
        for predictor, rows in parts:
            for some in torch.split(rows, PATIENTS_AT_ONCE):
                batch = patients.batch(some)
                outputs = Runner(ensemble, batch).outputs(predictor, batch.presence & patterns.unsqueeze(1))
                for u, unit in enumerate(units):
                    task = ensemble.tasks[unit.task]
                    value = truths[u].value[done : done + len(some)]
                    found[u].append(scores(unit, task, read(unit, task, outputs[unit.task]), value))
                done += len(some)
    return [torch.cat(each, dim=1).clone() for each in found]


def frame(
    ensemble: Ensemble, conformal: Conformal, patients: PatientTensors, found: Sequence[Answer], level: float
) -> pd.DataFrame:
    """Lays answers out, a row for each patient, unit and class (one for numbers and survival), indexed by patient.

    See `multimodn.model.conformal.Reliable.conformal` for the columns.
    """
    parts = []
    for u, answer in enumerate(found):
        scored = conformal.scores[u]
        shared = {
            "pattern": names_of(answer.has, ensemble.first.modalities),
            "calibrated_on": names_of(scored.pattern[answer.pattern], ensemble.first.modalities),
            "method": np.array(METHODS, dtype=object)[scored.method[answer.pattern].numpy()],
            "n_calibration": scored.count[answer.pattern].numpy(),
            "abstain": answer.abstain.numpy(),
            "level": level,
        }
        for c, name in enumerate(answer.unit.names):
            in_set, p_value, low, high = (None if x is None else x.numpy() for x in _columns(answer, c))
            own = {
                "task": answer.unit.task,
                "output": name,
                "in_set": pd.array(np.full(len(patients), pd.NA) if in_set is None else in_set, dtype="boolean"),
                "low": np.nan if low is None else low,
                "high": np.nan if high is None else high,
                "p_value": np.nan if p_value is None else p_value,
            }
            block = pd.DataFrame(own | shared, index=patients.patients.rename("patient"))
            parts.append(block.assign(row=np.arange(len(patients))))
    whole = pd.concat(parts)
    return whole.iloc[np.argsort(whole["row"].to_numpy(), kind="stable")].drop(columns="row")


def _columns(answer: Answer, c: int) -> tuple[Tensor | None, ...]:
    if answer.in_set is None or answer.p_value is None:
        return None, None, answer.low, answer.high
    return answer.in_set[:, c], answer.p_value[:, c], None, None


def names_of(has: Tensor, modalities: Sequence[str]) -> NDArray[np.object_]:
    """Names each row's modalities, joined by +, or ``(none)``; object ``(N,)``."""
    distinct, which = torch.unique(has, dim=0, return_inverse=True)
    texts = [
        "+".join(n for n, one in zip(modalities, row, strict=True) if one) or "(none)" for row in distinct.tolist()
    ]
    names: NDArray[np.object_] = np.array(texts, dtype=object)[which.numpy()]
    return names
