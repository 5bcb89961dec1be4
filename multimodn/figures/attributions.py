"""Attributions inside a modality: to its columns, words or tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.figures.axes import Floats, draw_bars
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, only_patient, pick_name, require_columns, select_output
from multimodn.figures.theme import Theme
from multimodn.figures.wording import digits_for, shorten, slug
from multimodn.findings.frames import AttributedFrame
from multimodn.findings.numbers import counted, signed
from multimodn.statistics.bootstrap import bootstrap_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("modality", "task", "output", "feature", "position", "value", "attribution")
MOST = 15
N_RESAMPLES = 400


@dataclass(frozen=True)
class _Bars:
    """The largest first; ``low`` and ``high`` are NaN where there is no interval."""

    names: list[str]
    sizes: Floats
    low: Floats
    high: Floats
    notes: list[str]


def attribution_bars(
    attributions: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    modality: str | None = None,
    patient: object | None = None,
    most: int = MOST,
    seed: int = 0,
) -> Picture:
    """Draws the features with the largest attributions: of one patient with their values, of a cohort their mean size.

    A feature that a patient has several times, such as a word, counts with its sum; patients who have the modality and
    not the feature count with 0. Default: the first modality, task and output (of an ordinal task, the middle one), and
    the cohort or its only patient.
    """
    require_columns(attributions, COLUMNS, "attributions")
    modality = pick_name(attributions["modality"], modality, "modality")
    chosen = select_output(attributions[attributions["modality"].astype(str) == modality], task, output)
    rows, name = chosen.rows, None
    if patient is not None or rows.index.nunique() == 1:
        name, rows = only_patient(rows, patient, "A chart of attributions")
    n_features = rows["feature"].nunique()
    bars = _of_cohort(rows, most, seed) if name is None else _of_patient(rows, most)
    who = counted(rows.index.nunique(), "patient") if name is None else f"patient {shorten(name)}"
    top = ", ".join(f"{one} {note}" for one, note in list(zip(bars.names, bars.notes, strict=True))[:4])
    about = AttributedFrame.of(attributions)
    method = f" Method: {about.method}" if about.method else ""
    method += f", against the baseline '{about.baseline}'" if method and about.baseline else ""
    return Picture(
        slug("attributions", modality, chosen.task, chosen.output, name),
        f"{chosen.named(40)}: attributions in {shorten(modality)}" + (f", {who}" if name else ""),
        _caption(modality, who, n_features, len(bars.names), is_cohort=name is None) + (method and f"{method}."),
        f"Attributions in {modality} for {chosen.quantity}, {who}, the largest first: {top}.",
        lambda theme: _draw(bars, chosen, theme, is_cohort=name is None),
        pd.DataFrame({"feature": bars.names, "attribution": bars.sizes, "low": bars.low, "high": bars.high}),
    )


def _of_patient(rows: pd.DataFrame, most: int) -> _Bars:
    named = rows.assign(feature=rows["feature"].astype(str))
    sums = named.groupby("feature", sort=False)["attribution"].sum().astype(float)
    first = named.drop_duplicates("feature").set_index("feature")["value"]
    times = named["feature"].value_counts()
    kept = sums.abs().sort_values(ascending=False, kind="stable").index[:most]
    sizes = np.asarray(sums[kept], dtype=np.float64)
    digits = digits_for(sizes)
    names = [_named(str(name), first[name], int(times[name])) for name in kept]
    no_interval = np.full(len(kept), np.nan)
    return _Bars(names, sizes, no_interval, no_interval, [signed(size, digits) for size in sizes.tolist()])


def _named(feature: str, value: Any, times: int) -> str:
    """Writes ``age = 63``, ``carcinoma (3 times)``, or the feature alone where its value says nothing more."""
    if times > 1:
        return f"{shorten(feature, 28)} ({times} times)"
    is_empty = value is None or (not isinstance(value, (list, tuple)) and bool(pd.isna(value)))
    text = "empty" if is_empty else f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
    return shorten(feature, 40) if text == feature else f"{shorten(feature, 28)} = {shorten(text, 14)}"


def _of_cohort(rows: pd.DataFrame, most: int, seed: int) -> _Bars:
    patients, names = pd.factorize(rows.index)
    features, labels = pd.factorize(rows["feature"].astype(str))
    size = rows["attribution"].to_numpy(dtype=np.float64)
    pairs = pd.DataFrame({"patient": patients, "feature": features, "size": size})
    sums = pairs.groupby(["patient", "feature"])["size"].sum().reset_index()
    total = np.bincount(sums["feature"], sums["size"].abs(), len(labels))
    kept = np.argsort(-total, kind="stable")[:most]
    place = np.full(len(labels), -1)
    place[kept] = np.arange(len(kept))
    sums = sums[place[sums["feature"]] >= 0]
    wide = np.zeros((len(names), len(kept)))
    wide[sums["patient"], place[sums["feature"]]] = sums["size"].abs()
    low, high = np.quantile(bootstrap_means(wide, N_RESAMPLES, seed), [0.025, 0.975], axis=0)
    sizes = wide.mean(axis=0)
    has = np.bincount(place[sums["feature"]], minlength=len(kept))
    digits = digits_for(sizes)
    notes = [
        f"{size:.{digits}f}" + (f"   in {n:,}" if n < len(names) else "") for size, n in zip(sizes, has, strict=True)
    ]
    return _Bars([str(labels[k]) for k in kept], sizes, low, high, notes)


def _draw(bars: _Bars, chosen: OutputRows, theme: Theme, *, is_cohort: bool) -> Figure:
    scale = chosen.scale or "link scale"
    axis = f"mean |attribution| ({scale})" if is_cohort else f"◀ decrease     attribution ({scale})     increase ▶"
    colours = [(theme.low, 0.75) if is_cohort else (theme.high if size > 0 else theme.low, 1.0) for size in bars.sizes]
    return draw_bars(theme, bars.names, bars.sizes, bars.notes, axis, colours, low=bars.low, high=bars.high, longest=46)


def _caption(modality: str, who: str, n_features: int, n_drawn: int, *, is_cohort: bool) -> str:
    is_part = n_drawn < n_features
    shown = f"the {n_drawn} largest of {n_features:,} features" if is_part else f"all {counted(n_features, 'feature')}"
    text = f"n = {who if is_cohort else f'1 ({who})'}, {shown} of {shorten(modality)}. "
    if is_cohort:
        return text + (
            "Mean absolute attribution over patients with the modality, with its 95% interval (bootstrap); 'in': "
            "number of patients with the feature."
        )
    return f"{text}Beside each feature its value; no interval."


def strength(attribution: Floats) -> Floats:
    """Scales attributions to -1 ... 1 by the largest size; all 0 where there is none."""
    sizes = np.nan_to_num(attribution)
    return sizes / max(float(np.abs(sizes).max(initial=0.0)), 1e-300)


def in_order(rows: pd.DataFrame) -> tuple[Sequence[str], Floats]:
    """Returns the words of a patient and their attributions in the order of the text."""
    rows = rows.sort_values("position", kind="stable")
    return [str(word) for word in rows["feature"]], rows["attribution"].to_numpy(dtype=np.float64)
