"""Reads the sources of a study, of one cohort or of several registries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from multimodn.data.cohort_tables import CohortTables
from multimodn.data.modality_frames import modality_frames, task_tables
from multimodn.data.registries import load_registries
from multimodn.data.tables import load_tables
from multimodn.errors import DataError, raise_all
from multimodn.study.study import Study


def read_cohort(
    study: Study, labelled: bool, sources: Mapping[str, str | Path | pd.DataFrame | None] | None
) -> tuple[CohortTables, pd.Index]:
    """Reads the sources of a study; see `multimodn.data.cohort.Cohort.load` for the arguments.

    Returns:
        What was read, joined but not yet checked, and the patients of the targets' sources.

    Raises:
        DataError: Listing every problem found in all sources.
    """
    if study.cohorts and sources is None:
        return load_registries(study, labelled)
    problems: list[str] = []
    notes: list[str] = []
    given = (dict.fromkeys(study.cohort.sources) if study.cohorts else {}) | dict(sources or {})
    tables = load_tables(study, labelled, given, problems)
    frames = modality_frames(study, tables, given, labelled, problems, notes)
    targets = task_tables(study, tables, problems) if labelled else {}
    raise_all(problems, DataError, f"The data of study '{study.name}' cannot be used")
    return CohortTables.of_tables(study, tables, frames, targets, notes, labelled=labelled)
