"""Covariates of presence, read from a cohort."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, did_you_mean, raise_all, shown


def read_covariates(cohort: Cohort, covariates: Sequence[str]) -> pd.DataFrame:
    """Returns columns named as ``modality.column``, complete, one row for each patient."""
    problems: list[str] = []
    columns = {}
    for name in covariates:
        modality, _, column = name.partition(".")
        frame = cohort.modalities.get(modality, pd.DataFrame(index=cohort.patients))
        if column not in frame:
            nearest = did_you_mean(column, map(str, frame.columns))
            problems.append(f"modality '{modality}' has no column '{column}'.{nearest}")
            continue
        columns[name] = frame[column].reindex(cohort.patients)
        lacking = list(cohort.patients[columns[name].isna()])
        if lacking:
            repair = "must be complete: fill it in, exclude these patients, or remove the covariate."
            empty = f"'{name}' is empty for {len(lacking)} patient(s): {shown(lacking)}"
            problems.append(f"{empty}. Covariates of presence {repair}")
    raise_all(problems, DataError, "The covariates of presence cannot be used")
    return pd.DataFrame(columns)
