"""Drift: differences of a batch of patients from the training patients, in inputs, presence and predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.base.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning
from multimodn.findings.frames import DriftFrame
from multimodn.monitor import columns
from multimodn.monitor.columns import ColumnDrift
from multimodn.monitor.counts import exact
from multimodn.monitor.predicted import counted_predictions, embedding, label_texts, member_predictions
from multimodn.monitor.reference import Reference, cells, patterns, presence
from multimodn.monitor.summaries import counted

if TYPE_CHECKING:
    from multimodn.model.multimodn import MultiModN

ALPHA = 0.05  # adjusted p-value up to which a difference is significant
WATCH, DRIFTED = 0.1, 0.25  # the usual limits of the population stability index; see `multimodn.monitor.counts`
WATCH_SHARE, DRIFTED_SHARE = 0.05, 0.1  # limits of the difference between two shares of patients who have a modality
SMALL_BATCH = 50
NAMES = ["kind", "modality", "column", "statistic", "value", "p_value", "p_adjusted", "n", "n_reference", "verdict"]
FRAME = [*NAMES, "reference", "batch", "note"]


def drift(model: MultiModN, reference: Reference, cohort: Cohort) -> DriftFrame:
    """Compares patients with the training patients of a model.

    Args:
        model: The model.
        reference: The reference of its training patients.
        cohort: Other patients; targets are compared too, if there are any.

    Returns:
        One row for each comparison, by ``kind``:

        - ``input``: a column, among patients who have the modality. With more than 60 columns of numbers there is a row
          for the most different column, and one for each of a few directions through all of them.
        - ``presence``: the share of patients who have a modality; ``value`` is the difference of the two shares.
        - ``pattern``: presence patterns.
        - ``prediction``: an output of a task.
        - ``label``: the outcomes.

        ``statistic`` is ``psi``, the population stability index minus its expectation by chance, or ``difference``;
        ``p_adjusted`` by Benjamini and Hochberg over all rows. ``verdict`` is ``drifted`` where the difference is
        significant (adjusted p up to .05) and large (psi from .25, difference from .1); ``watch`` where it is
        significant and of medium size (.1, .05), or large and significant only without adjustment; else ``stable``,
        which is little evidence in a small batch. ``reference`` and ``batch`` are shares or means, ``note`` is a text.
        See `DriftFrame` for its fields.

    Raises:
        NotFittedError: Before training.
        DataError: If the reference is of another model, or the patients lack columns; all are named.

    References:
        Benjamini and Hochberg (1995), https://doi.org/10.1111/j.2517-6161.1995.tb02031.x; the sizes: see
        `multimodn.monitor.counts`
    """
    from scipy.stats import false_discovery_control

    _check_model(model, reference)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*levels that training did not see", DataWarning)  # in the notes
        patients = model.prepare(cohort)
    rows = [
        *_inputs(model, reference, cohort, patients),
        *_presence(reference, cohort),
        *_predictions(model, reference, patients),
        *_labels(model, reference, cohort),
    ]
    frame = pd.DataFrame(rows)
    frame["p_adjusted"] = false_discovery_control(frame["p_value"])
    frame["verdict"] = _verdicts(frame)
    return DriftFrame.of(frame[FRAME], n_patients=len(cohort), n_reference=reference.n, predicted=reference.predicted)


def has_drifted(frame: pd.DataFrame) -> bool:
    """Says whether anything drifted; by chance at most one of twenty batches does."""
    return bool((frame["verdict"] == "drifted").any())


def trust(frame: DriftFrame) -> str:
    """Summarises drift in a few sentences."""
    drifted = frame[frame["verdict"] == "drifted"]
    n, m = frame.n_patients, frame.n_reference
    parts = [part for part in (_of_inputs(frame), _of_presence(drifted), _of_outcomes(drifted)) if part]
    if drifted.empty:
        watched = (frame["verdict"] == "watch").sum()
        more = f"; {watched} to watch" if watched else ""
        parts = [f"Nothing drifted in {len(frame)} comparisons of {n} patients with {m} of the training{more}"]
    if n < SMALL_BATCH:
        parts.append(f"with {n} patients only large differences can be told from chance")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _check_model(model: MultiModN, reference: Reference) -> None:
    _ = model.trained  # raises NotFittedError
    hashes = {"data_hash": reference.data, "split_hash": reference.split}
    wrong = [name for name, value in hashes.items() if value and model.provenance.get(name, value) != value]
    if wrong:
        raise DataError(
            f"The reference was written for another model: its {wrong[0].replace('_', ' ')} is different. "
            f"Take the reference.json of the model's own run folder."
        )


def _inputs(model: MultiModN, reference: Reference, cohort: Cohort, patients: PatientTensors) -> Iterator[ColumnDrift]:
    network = model.trained.ensemble.first
    problems = []
    for own in reference.modalities:
        frame = cohort.modalities.get(own.name)
        if frame is None or frame.empty:
            continue
        lacking = [name for name in own.columns if name not in frame]
        if lacking:  # encoders of other packages need not check
            problems.append(f"modality '{own.name}' lacks the columns {', '.join(lacking)}.")
            continue
        encoder: Any = network.encoders[own.name]
        yield from columns.compare_modality(own, cells(frame[list(own.columns)], encoder.several_rows))
        if own.embedding is not None:
            values = embedding(model, patients, own.name)
            for row in columns.compare_directions(own.name, own.embedding, values):
                yield replace(row, column=row.column.replace("(", "(embedding: ", 1))
    if problems:
        raise DataError(" ".join(problems))


def _presence(reference: Reference, cohort: Cohort) -> Iterator[ColumnDrift]:
    names = [modality.name for modality in reference.modalities]
    has = presence(cohort, names).sum(0).astype(np.float64)
    had = np.array([modality.present for modality in reference.modalities], dtype=np.float64)
    n, m = len(cohort), reference.n
    p_values = exact(had, np.full_like(had, m), has, np.full_like(has, n))
    for k, name in enumerate(names):
        before, now = float(had[k] / m), float(has[k] / n)
        note = f"{before:.0%} had it, {now:.0%} have it"
        yield ColumnDrift("presence", name, "", "difference", now - before, float(p_values[k]), n, m, before, now, note)
    yield columns.compare_categories(
        "pattern", "", reference.patterns, counted(patterns(cohort, names), reference.patterns)
    )


def _predictions(model: MultiModN, reference: Reference, patients: PatientTensors) -> Iterator[ColumnDrift]:
    of_members = member_predictions(model, patients) if reference.predictions else []
    for own in reference.predictions:
        counts, means = counted_predictions([predictions[own.task] for predictions in of_members], own.edges)
        yield from columns.compare_counted("prediction", own.task, own.values, counts, means)


def _labels(model: MultiModN, reference: Reference, cohort: Cohort) -> Iterator[ColumnDrift]:
    by_task = {label.name: label for label in reference.labels}
    for texts in label_texts(model, cohort):
        if len(texts) and texts.name in by_task:
            label = by_task[texts.name]
            yield columns.compare_categories("label", label.name, label, counted(texts, label))


def _verdicts(frame: pd.DataFrame) -> list[str]:
    is_share = (frame["statistic"] == "difference").to_numpy()
    size = frame["value"].abs().to_numpy()
    large = size >= np.where(is_share, DRIFTED_SHARE, DRIFTED) - 1e-9
    medium = size >= np.where(is_share, WATCH_SHARE, WATCH) - 1e-9
    adjusted, unadjusted = ((frame[name] <= ALPHA).to_numpy() for name in ("p_adjusted", "p_value"))
    watched = np.where((adjusted & medium) | (unadjusted & large), "watch", "stable")
    return list(np.where(adjusted & large, "drifted", watched))


def _of_inputs(frame: pd.DataFrame) -> str:
    inputs = frame[frame["kind"] == "input"]
    drifted = inputs[inputs["verdict"] == "drifted"].sort_values("p_value", kind="stable")
    named = ", ".join((drifted["modality"] + "." + drifted["column"]).head(3)) + (", ..." if len(drifted) > 3 else "")
    return f"{len(drifted)} of {len(inputs)} comparisons of inputs drifted ({named})" if len(drifted) else ""


def _of_presence(drifted: pd.DataFrame) -> str:
    rows = drifted[drifted["kind"] == "presence"].to_dict("records")
    changed = [f"{row['modality']} {row['reference']:.0%} to {row['batch']:.0%}" for row in rows]
    if not changed and "pattern" not in set(drifted["kind"]):
        return ""
    changes = ", ".join(changed) or str(drifted.loc[drifted["kind"] == "pattern", "note"].iloc[0])
    return f"presence of modalities changed: {changes}"


def _of_outcomes(drifted: pd.DataFrame) -> str:
    parts = []
    for kind, words in (("prediction", "predictions of {} shifted"), ("label", "outcomes of {} changed")):
        for task, part in drifted[drifted["kind"] == kind].groupby("modality", sort=False):
            parts.append(f"{words.format(task)} ({part['note'].iloc[int(np.argmin(part['p_value'].to_numpy()))]})")
    return "; ".join(parts)
