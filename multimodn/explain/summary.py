"""Mean contributions of modalities in a cohort, with bootstrap intervals over its patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from multimodn.errors import DataError, shown
from multimodn.findings.frames import DescribedFrame
from multimodn.statistics.bootstrap import bootstrap_means


def summarise(
    contributions: pd.DataFrame,
    groups: pd.Series[Any] | pd.DataFrame | None = None,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Averages contributions, as `MultiModN.contributions` returns them, over the patients who have each modality.

    ``mean_abs`` is how much a modality moves predictions, ``mean`` its average direction: the interval of the mean
    covers 0 where a modality is uninformative, or raises and lowers predictions alike.

    ``groups`` is a group for each patient, such as the site, or a frame with a column for each task, such as the
    classes (empty = the patient does not count); without, all patients are one group.

    Returns:
        One row for each task, output, group and modality: ``task``, ``output``, ``group`` (``all`` without groups),
        ``modality``, ``n`` (patients who have it), ``mean_abs``, ``mean_abs_low``, ``mean_abs_high``, ``mean``,
        ``mean_low``, ``mean_high`` (95 %, by the bootstrap over patients).

    Raises:
        DataError: If a patient has no group.
    """
    if isinstance(groups, pd.Series):
        lacking = contributions.index.unique().difference(groups.dropna().index)
        if len(lacking):
            raise DataError(
                f"{len(lacking)} patient(s) have no group: {shown(list(lacking))}. Leave them out, or name a group for "
                "the unknown."
            )
    modalities = list(dict.fromkeys(contributions["modality"]))
    parts = []
    for (task, output), part in contributions.groupby(["task", "output"], sort=False):
        wide = part.set_index("modality", append=True)["contribution"].unstack().reindex(columns=modalities)
        of_task = groups[task] if isinstance(groups, pd.DataFrame) else groups
        labels = pd.Series("all", wide.index) if of_task is None else of_task.reindex(wide.index)
        for group, rows in wide.groupby(labels, sort=True, observed=True):
            parts.append(_means(rows, n_resamples, seed).assign(task=str(task), output=str(output), group=str(group)))
    columns = ["task", "output", "group", "modality", "n"]
    columns += [f"{name}{end}" for name in ("mean_abs", "mean") for end in ("", "_low", "_high")]
    if not parts:
        return pd.DataFrame(columns=columns)
    return DescribedFrame.of(pd.concat(parts, ignore_index=True)[columns], like=contributions)


def _means(wide: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    """Averages the columns of one group."""
    wide = wide.loc[:, wide.notna().any()]
    means = pd.DataFrame({"modality": wide.columns, "n": wide.notna().sum().to_numpy()})
    values = wide.to_numpy(dtype=np.float64)
    for name, each in (("mean_abs", np.abs(values)), ("mean", values)):
        means[name] = np.nanmean(each, axis=0)
        resampled = bootstrap_means(each, n_resamples, seed)
        means[f"{name}_low"], means[f"{name}_high"] = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    return means
