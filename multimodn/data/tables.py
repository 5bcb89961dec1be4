"""From the sources of a study to the columns of its modalities and tasks; every problem is collected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from multimodn.data import checks
from multimodn.data.column_roles import has_several_rows, label_columns
from multimodn.data.sources import Given, Tables, from_frame, read_source
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.study.study import ColumnSplit, SourceSpec, Study


def load_tables(
    study: Study,
    labelled: bool,
    replaced: Mapping[str, str | Path | pd.DataFrame | None],
    problems: list[str],
) -> Tables:
    """Reads each source that is needed, once; see `Cohort.load`.

    Raises:
        StudyError: If ``replaced`` names a source that the study does not have.
    """
    for name in replaced:
        if name not in study.cohort.sources:
            raise StudyError(f"Unknown source '{name}'.{did_you_mean(name, study.cohort.sources)}")
    tables: Tables = {}
    for name in _needed(study, labelled):
        given = replaced.get(name, study.cohort.sources[name])
        if given is None and not labelled:
            continue
        try:
            table = _read(study, name, given)
        except DataError as error:
            problems.append(f"source '{name}': {error}")
            continue
        found = checks.key_problems(name, table, several_rows=has_several_rows(study, name))
        problems += found
        if not found:
            tables[name] = table
    return tables


def _needed(study: Study, labelled: bool) -> list[str]:
    names = [task.source for task in study.tasks] if labelled else []
    if labelled and isinstance(study.split, ColumnSplit) and study.split.source is not None:
        names.append(study.split.source)
    return list(dict.fromkeys([*names, *(modality.source for modality in study.modalities)]))


def _read(study: Study, name: str, given: Given) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        return from_frame(given, study.cohort.patient)
    if given is None:
        raise DataError("it is None, which only a prediction can do without.")
    exact = label_columns(study, name)
    if isinstance(given, SourceSpec):
        return read_source(given, study.folder, study.cohort.patient, exact)
    return read_source(SourceSpec(path=str(given)), Path(), study.cohort.patient, exact)
