"""Which patients a report shows one by one, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase

import numpy as np
import pandas as pd

from multimodn.findings.frames import AttributedFrame

RULE = (
    "They are the patients with the highest, the median and the lowest prediction of the study's first task, the one "
    "whose prediction the last step changed most, and the one with the fewest modalities; none is shown twice."
)


def main_quantity(trajectory: pd.DataFrame, task: str) -> tuple[str, str]:
    """Returns the output of a task by which patients are ranked, and words for it."""
    rows = trajectory[trajectory["task"] == task]
    for name, words in (
        ("probability", f"predicted probability of {task}"),
        ("risk", f"predicted risk in {task}"),
        ("expected", f"expected {task}"),
        ("mean", f"predicted {task}"),
    ):
        if (rows["output"] == name).any():
            return name, words
    spread = last_values(rows).groupby("output", sort=False)["value"].std().fillna(0.0)
    widest = str(spread.idxmax())
    return widest, f"predicted probability of {task} = {widest}"


def last_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each patient's rows after the last step."""
    last = rows.groupby([rows.index, "task", "output"], sort=False)["step"].transform("max")
    return rows[rows["step"] == last]


def choose_patients(trajectory: pd.DataFrame, n_modalities: pd.Series[int], task: str) -> dict[str, str]:
    """Chooses a handful of patients by `RULE`; says for each of them why."""
    output, words = main_quantity(trajectory, task)
    rows = trajectory[(trajectory["task"] == task) & (trajectory["output"] == output)]
    wide = rows.set_index("step", append=True)["value"].astype(float).unstack().sort_index(axis=1)
    values = wide.to_numpy(dtype=np.float64)
    n_steps = np.isfinite(values).sum(1)
    last = values[np.arange(len(values)), n_steps - 1]
    before = values[np.arange(len(values)), np.maximum(n_steps - 2, 0)]
    lines = [
        (f"highest {words}", np.argsort(-last, kind="stable")),
        (f"median {words}", np.argsort(np.abs(last - np.median(last)), kind="stable")),
        (f"lowest {words}", np.argsort(last, kind="stable")),
        ("most changed by the last step", np.argsort(-np.abs(last - before), kind="stable")),
        ("fewest modalities", np.argsort(n_modalities.reindex(wide.index).to_numpy(), kind="stable")),
    ]
    chosen: dict[str, str] = {}
    for why, order in lines:
        free = [patient for patient in map(str, wide.index[order]) if patient not in chosen]
        chosen |= dict.fromkeys(free[:1], why)
    return chosen


def labels_for(everyone: Iterable[str], chosen: Sequence[str], named: Iterable[str], seed: int) -> dict[str, str]:
    """Gives patients labels: names to the ``named``, letters to the chosen ones, numbers in random order to others."""
    kept = set(named)
    labels = {patient: patient for patient in kept}
    letters = iter([*ascii_uppercase, *(a + b for a in ascii_uppercase for b in ascii_uppercase)])
    labels |= {patient: next(letters) for patient in chosen if patient not in kept}
    rest = [patient for patient in everyone if patient not in labels]
    numbers = np.random.default_rng(seed).permutation(len(rest)) + 1
    return labels | {patient: f"other {number}" for patient, number in zip(rest, numbers, strict=True)}


def relabelled(frame: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Returns a frame indexed by patient under their labels; a field that holds patients' names is emptied."""
    relabelled = frame.set_axis(pd.Index([labels[str(one)] for one in frame.index], name=frame.index.name))
    return relabelled.of(relabelled, convergence_delta={}) if isinstance(relabelled, AttributedFrame) else relabelled
