"""Attributions of a prediction to the parts of one modality: its columns, words, tiles, measurements or pixels.

Integrated gradients divide the difference between a prediction and the prediction from a baseline among the parts of
one modality: the gradient is averaged along the straight line from the baseline to the patient's values, while all
other modalities stay as they are. They add up to that difference, up to the error of the numerical integral, which is
reported. Ablation replaces one part at a time by its baseline: a check that needs no gradient, and does not add up.

Every part has a gate (`base.feature_groups.Parts`), and captum integrates over gates from 0 to 1: by the chain rule
that is the sum of the integrated gradients of all inputs of the part.

Boosted trees have no gradient: where they have a part in a prediction, Shapley values of the parts are sampled instead,
over random orders in which gates are opened; those of an order add up exactly.

References:
    Sundararajan, Taly and Yan (2017), Axiomatic attribution for deep networks, equation 1,
    https://arxiv.org/abs/1703.01365; patients as baselines: Erion et al. (2021), expected gradients,
    https://doi.org/10.1038/s42256-021-00343-w; ablation: Zeiler and Fergus (2014), https://arxiv.org/abs/1311.2901;
    Shapley values by sampling: Castro, Gomez and Tejada (2009), https://doi.org/10.1016/j.cor.2008.04.004; all by
    captum, Kokhlikyan et al. (2020), https://arxiv.org/abs/2009.07896
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, StudyError, did_you_mean, raise_all, shown
from multimodn.explain.gated_predictions import (
    MORE_STEPS,
    MOST_MISSED,
    AttributionRequest,
    GateAttributions,
    Method,
    attribute_gates,
)
from multimodn.findings.frames import AttributedFrame
from multimodn.fusion import Ensemble

COLUMNS = ["modality", "task", "output", "feature", "position", "value", "attribution"]


def attributions(
    model: Ensemble,
    patients: PatientTensors,
    cohort: Cohort,
    modality: str,
    task: str,
    output: str | None = None,
    *,
    method: Method | None = None,
    n_steps: int = 64,
    background: Cohort | None = None,
    n_background: int = 32,
    seed: int = 0,
    patch: int = 16,
) -> AttributedFrame:
    """Attributes the predictions of a task, on its link scale, to the parts of one modality.

    The prediction is the calibrated ensemble's from all present modalities, in the model's order. A part is a column of
    a table (with its whole encoding) or of an embedding, a word, a tile, the value of a measurement, or a patch of an
    image, whose side has ``patch`` pixels. Integrated gradients run in double precision, except for frozen networks.

    ``output`` is one of `Task.link_names`, default all; ``method`` is ``integrated_gradients``, over ``n_steps`` (four
    times as many for patients whose attributions then do not add up), ``shapley_values``, sampled, or
    ``feature_ablation``. Default: Shapley values where boosted trees have a part, whose jumps have no gradient, else
    integrated gradients. The baseline is the
    encoder's, an average of the training patients; or, for tables and embeddings, ``n_background`` patients drawn by
    ``seed`` from the cohort ``background``, such as the training patients, and attributions are means over them.

    Returns:
        One row for each patient who has the modality, output and part, indexed by patient: ``modality``, ``task``,
        ``output``, ``feature`` (a column, word, variable, or place), ``position`` (its number within the patient),
        ``value`` (the patient's), ``attribution``, its place (words: ``start``, ``stop``, ``report``; measurements:
        ``time``; tiles: ``file``, ``x``, ``y``; patches: ``file``, ``x``, ``y``, ``z`` in prepared pixels),
        ``prediction`` and ``baseline_prediction``. Its fields are ``method``, ``baseline`` (a text) and
        ``convergence_delta``: for each patient by how much the attributions miss ``prediction - baseline_prediction``,
        the largest of the outputs; empty for ablation.

    Raises:
        StudyError: If modality, task, output or method is unknown, the task does not see the modality, its encoder has
            no parts, or its baseline cannot be another patient.
        DataError: If the cohort lacks patients, or nobody of the background has the modality.

    Warns:
        DataWarning: If attributions still miss more than 5 % of the difference plus 1 % of their absolute sum.
    """
    method = method or _default_method(model)
    request = _request(model, modality, task, output, method, n_steps, patch)
    if background is not None:
        request = replace(request, background=_drawn(background, modality, n_background, seed))
    names = model.tasks[task].link_names
    blocks: list[pd.DataFrame] = []
    deltas: dict[object, float] = {}
    inexact: list[str] = []
    baseline = ""
    for attributed in attribute_gates(model, patients, _rows(cohort, modality), request):
        blocks.append(_frame(attributed, method, [names[j] for j in request.outputs]))
        baseline = attributed.parts.baseline
        if method != "feature_ablation":
            errors, _ = attributed.errors()
            largest = errors.gather(1, errors.abs().argmax(1, keepdim=True)).squeeze(1)
            deltas |= dict(zip(attributed.patients, largest.tolist(), strict=True))
            inexact += _inexact(attributed)
    _warn(inexact, len(deltas), n_steps)
    frame = pd.concat(blocks) if blocks else pd.DataFrame(columns=[*COLUMNS, "prediction", "baseline_prediction"])
    frame = frame.assign(modality=modality, task=task).rename_axis("patient")
    extra = [name for name in frame.columns if name not in {*COLUMNS, "prediction", "baseline_prediction"}]
    frame = frame[[*COLUMNS, *extra, "prediction", "baseline_prediction"]]
    if request.background is not None:
        baseline = f"{len(request.background)} patients drawn from the background, and the mean over them"
    return AttributedFrame.of(frame, method=method, baseline=baseline, convergence_delta=deltas)


def attribution_map(
    model: Ensemble,
    patients: PatientTensors,
    cohort: Cohort,
    modality: str,
    task: str,
    output: str | None = None,
    *,
    patient: str,
    n_steps: int = 64,
) -> NDArray[np.float64]:
    """Attributes a prediction to every pixel of a patient's pictures by integrated gradients; see `attributions`.

    Returns:
        ``(n_pictures, rows, columns)`` or ``(n_pictures, x, y, z)``: summed over channels, in the pixels that the
        encoder's ``prepare`` returns.

    Raises:
        StudyError: As `attributions`; also if the modality has no pixels, or no output is named and there are several.
        DataError: If the patient is unknown or has no such pictures.
    """
    request = _request(model, modality, task, output, "integrated_gradients", n_steps, 1)
    names = model.tasks[task].link_names
    if len(request.outputs) > 1:
        raise StudyError(f"Task '{task}' has {len(names)} outputs; name one of {shown(names)}.")
    place = patients.patients.get_indexer(pd.Index([patient]))[0]
    if place < 0:
        raise DataError(f"Patient '{patient}' is unknown.{did_you_mean(patient, patients.patients)}")
    own = patients.subset(torch.tensor([place]))
    attributed = next(attribute_gates(model, own, _rows(cohort, modality), request), None)
    if attributed is None:
        raise DataError(f"Patient '{patient}' has no '{modality}'.")
    if attributed.parts.grid is None:
        raise StudyError(f"Modality '{modality}' has no pixels; `attributions` tells what its parts are given.")
    _warn(_inexact(attributed), 1, n_steps)
    values: NDArray[np.float64] = attributed.gates[:, 0].view(-1, *attributed.parts.grid).numpy()
    return values


def _request(
    model: Ensemble, modality: str, task: str, output: str | None, method: Method, n_steps: int, patch: int
) -> AttributionRequest:
    """Checks the arguments of `attributions`; all problems are listed."""
    modalities = model.first.modalities
    choices = (("modality", modality, modalities), ("task", task, model.tasks), ("method", method, get_args(Method)))
    unknown = [(what, str(word), valid) for what, word, valid in choices if word not in valid]
    problems = [f"Unknown {what} '{word}'.{did_you_mean(word, valid)}" for what, word, valid in unknown]
    names = model.tasks[task].link_names if task in model.tasks else []
    if output is not None and names and output not in names:
        problems.append(f"Unknown output '{output}' of task '{task}'.{did_you_mean(output, names)}")
    problems += [f"`{k}` is {n}, expected 1 or more." for k, n in (("n_steps", n_steps), ("patch", patch)) if n < 1]
    raise_all(problems, StudyError, "Attributions")
    m = modalities.index(modality)
    if not model.first.seen[list(model.tasks).index(task), m]:
        raise StudyError(f"Task '{task}' does not see modality '{modality}' (`exclude_for`): nothing is due to it.")
    outputs = list(range(len(names))) if output is None else [names.index(output)]
    return AttributionRequest(m, task, outputs, method, n_steps, patch)


def _default_method(model: Ensemble) -> Method:
    experts = [member.experts for member in model.networks if member.experts is not None]
    return "shapley_values" if any(each.has_trees for each in experts) else "integrated_gradients"


def _rows(cohort: Cohort, modality: str) -> pd.DataFrame:
    return cohort.modalities.get(modality, pd.DataFrame(index=pd.Index([], dtype=object)))


def _drawn(background: Cohort, modality: str, n_background: int, seed: int) -> pd.DataFrame:
    """Returns the rows of randomly drawn patients of the background who have the modality."""
    frame = _rows(background, modality)
    who = frame.index.unique()
    if not len(who):
        raise DataError(f"Nobody of the background has the modality '{modality}'.")
    chosen = np.random.default_rng(seed).permutation(len(who))[:n_background]
    return frame[frame.index.isin(who[np.sort(chosen)])]


def _frame(attributed: GateAttributions, method: Method, outputs: Sequence[str]) -> pd.DataFrame:
    """Lays out the attributions of some patients: patient by patient, output by output."""
    parts, values = attributed.parts, attributed.by_part(method).numpy()
    row = np.repeat(np.arange(len(attributed.patients)), parts.lengths.numpy())
    first = (parts.lengths.cumsum(0) - parts.lengths).numpy()
    blocks = [
        parts.names.assign(
            output=output,
            position=np.arange(len(row)) - first[row],
            value=parts.names["value"].astype(object),
            attribution=values[:, j],
            prediction=attributed.prediction.numpy()[row, j],
            baseline_prediction=attributed.start.numpy()[row, j],
        ).set_axis(attributed.patients[row])
        for j, output in enumerate(outputs)
    ]
    order = np.argsort(np.tile(row, len(outputs)), kind="stable")
    return pd.concat(blocks).iloc[order]


def _inexact(attributed: GateAttributions) -> list[str]:
    """Names the patients whose attributions do not add up, with the relative error."""
    errors, is_large = attributed.errors()
    share = (errors.abs() / (attributed.prediction - attributed.start).abs().clamp(min=1e-12)).amax(1)
    return [f"'{attributed.patients[i]}' ({share[i]:.0%})" for i in is_large.any(1).nonzero().squeeze(1).tolist()]


def _warn(inexact: Sequence[str], n: int, n_steps: int) -> None:
    if inexact:
        warnings.warn(
            f"The attributions of {len(inexact)} of {n} patients miss more than {MOST_MISSED:.0%} of what they should "
            f"add up to: {shown(inexact, 3)}. Raise `n_steps` (now {n_steps}, then {MORE_STEPS * n_steps}), or check "
            "with `feature_ablation`.",
            DataWarning,
            stacklevel=3,
        )
