"""Groups of patients by what their modalities say, such as sex or age: where does a model do worse?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, did_you_mean, raise_all

FEW_VALUES = 8  # A number with at most so many values is a group for each value; one with more is cut in three
MOST_GROUPS = 10  # groups of a column of text; beyond, the rare values are one group
UNKNOWN = "not known"


def read_subgroups(cohort: Cohort, columns: Sequence[str], training: pd.Index | None = None) -> pd.DataFrame:
    """Says which group each patient belongs to, by each column.

    Args:
        cohort: The patients.
        columns: Columns as ``modality.column``.
        training: Those among them at whose tertiles numbers with more than `FEW_VALUES` values are cut; default: all.

    Returns:
        A name for each patient and column, such as ``clinical.sex = f``, ``clinical.age 54 to 65`` (over 54, up to
        65) or ``clinical.sex not known``, which is where the cell is empty or the modality absent. Categories in the
        order in which groups should stand: numbers from low to high, text by frequency, the unknown last.

    Raises:
        DataError: If a column does not exist, or a patient has several rows of its modality; every problem is listed.
    """
    problems: list[str] = []
    found = {}
    for name in columns:
        values = _column(cohort, name, problems)
        if values is not None:
            found[name] = _grouped(name, values, training)
    raise_all(problems, DataError, "The subgroups cannot be read")
    return pd.DataFrame(found, index=cohort.patients)


def _column(cohort: Cohort, name: str, problems: list[str]) -> pd.Series[Any] | None:
    modality, _, column = name.partition(".")
    if modality not in cohort.modalities:
        problems.append(f"'{name}': unknown modality '{modality}'.{did_you_mean(modality, cohort.modalities)}")
        return None
    frame = cohort.modalities[modality]
    if column not in frame:
        nearest = did_you_mean(column, map(str, frame.columns))
        problems.append(f"modality '{modality}' has no column '{column}'.{nearest}")
        return None
    if not frame.index.is_unique:
        problems.append(f"'{name}': patients have several rows of '{modality}'; name a column with one value each.")
        return None
    values = frame[column].reindex(cohort.patients)
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values
    return values.mask(values.astype(str).str.strip() == "")


def _grouped(name: str, values: pd.Series[Any], training: pd.Index | None) -> pd.Series[Any]:
    is_number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    if is_number and values.nunique() > FEW_VALUES:
        groups, names = _thirds(name, values.astype(np.float64), training)
    else:
        groups, names = _values(name, values, in_order=is_number)
    groups = groups.where(values.notna().to_numpy(), f"{name} {UNKNOWN}")
    return groups.astype(pd.CategoricalDtype([*names, f"{name} {UNKNOWN}"], ordered=True))


def _thirds(name: str, numbers: pd.Series[Any], training: pd.Index | None) -> tuple[pd.Series[Any], list[str]]:
    seen = numbers if training is None else numbers[numbers.index.isin(training)]
    seen = seen.dropna() if seen.notna().any() else numbers.dropna()
    cuts = np.unique(np.quantile(seen, [1 / 3, 2 / 3], method="inverted_cdf"))
    shown = [f"{cut:.4g}" for cut in cuts]
    if len(set(shown)) < len(shown):
        shown = [repr(float(cut)) for cut in cuts]
    names = [f"{name} up to {shown[0]}"]
    names += [f"{name} {low} to {high}" for low, high in pairwise(shown)]
    names += [f"{name} over {shown[-1]}"]
    codes = np.searchsorted(cuts, numbers.to_numpy(), side="left")
    return pd.Series(np.array(names, dtype=object)[codes], numbers.index), names


def _values(name: str, values: pd.Series[Any], *, in_order: bool) -> tuple[pd.Series[Any], list[str]]:
    texts = values.map(_text, na_action="ignore")
    counts = texts.value_counts(sort=True)
    kept = [str(_text(value)) for value in sorted(values.dropna().unique())] if in_order else list(counts.index)
    kept = [text for k, text in enumerate(kept) if text not in kept[:k]]
    rest = kept[MOST_GROUPS - 1 :] if len(kept) > MOST_GROUPS else []
    kept = kept[: MOST_GROUPS - 1] if rest else kept
    other = f"{name}: {len(rest)} rarer values"
    groups = (f"{name} = " + texts.astype(object)).mask(texts.isin(rest).to_numpy(), other)
    return groups, [f"{name} = {text}" for text in kept] + ([other] if rest else [])


def _text(value: Any) -> str:
    """Writes a cell: whole numbers without a decimal point, truth values as yes and no."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return str(value)
