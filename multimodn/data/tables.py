"""Reads the sources of a study, and says which of their columns are labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from multimodn.data import checks
from multimodn.data.checks import Note
from multimodn.data.keys import key_problems as keys_apart
from multimodn.data.keys import with_keys
from multimodn.data.reading.cells import with_options
from multimodn.data.sources import Given, Tables, from_frame, read_source
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.study.keys import KeySpec
from multimodn.study.study import ColumnSplit, SourceSpec, Study
from multimodn.study.time import index_columns

_SUMMARY = "some cells were read as the options of the source say, or are in doubt"


def load_tables(
    study: Study, labelled: bool, replaced: Mapping[str, Given], problems: list[str], notes: list[Note]
) -> Tables:
    """Reads each source that is needed, once; see `Cohort.load`. Adds to ``problems`` and ``notes``."""
    for name in replaced:
        if name not in study.cohort.sources:
            raise StudyError(f"Unknown source '{name}'.{did_you_mean(name, study.cohort.sources)}")
    of_labels = [task.source for task in study.tasks]  # with one row for each patient
    if isinstance(study.split, ColumnSplit) and study.split.source is not None:
        of_labels.append(study.split.source)
    tables: Tables = {}
    rules: dict[str, KeySpec | None] = {}
    of_moments = index_columns(study.index, study.tasks[0].source)
    needed = [*(of_labels if labelled else []), *(modality.source for modality in study.modalities), *of_moments]
    for name in dict.fromkeys(needed):
        given = replaced.get(name, study.cohort.sources[name])
        if given is None and not (labelled and name in of_labels):
            continue
        readers = [modality for modality in study.modalities if modality.source == name]
        several_rows = name not in of_labels and all(modality.has_several_rows for modality in readers)
        several_rows |= name in of_moments  # landmarks
        rule = key_rule(study, name, given)
        try:
            table = _without_blank_rows(_read(study, name, given, notes), name, notes)
            table = with_keys(table, rule, several_rows=several_rows)
        except DataError as error:
            problems.append(f"source '{name}': {error}")
            continue
        key_problems = checks.key_problems(name, table, several_rows=several_rows)
        problems += key_problems
        if not key_problems:
            tables[name], rules[name] = table, rule
    keys = {name: table.index for name, table in tables.items()}
    problems += map(str, keys_apart(keys, rules, must_meet=labelled))
    return tables


def _without_blank_rows(table: pd.DataFrame, source: str, notes: list[Note]) -> pd.DataFrame:
    """Leaves out rows without a patient and without any value, such as those that Excel writes below a table."""
    blank = np.asarray(table.index.astype(str).str.strip() == "")
    if not blank.any():
        return table
    cells = table.loc[blank].astype(object)
    blank[blank] = (cells.isna() | cells.isin(["", " "])).to_numpy().all(axis=1)
    n = int(blank.sum())
    if n:
        text = f"source '{source}': {n} rows are blank; they are left out."
        notes.append(Note(text, "source {}: {} blank rows are left out", (source, n)))
    return table.loc[~blank]


def key_rule(study: Study, name: str, given: Given) -> KeySpec | None:
    """Returns how the identifiers of a source are rewritten; what replaces it is rewritten alike."""
    return (given if isinstance(given, SourceSpec) else study.cohort.sources[name]).key


def _read(study: Study, name: str, given: Given, notes: list[Note]) -> pd.DataFrame:
    if given is None:
        raise DataError("it is None, but targets or the split are read from it.")
    own, texts, patient = study.cohort.sources[name], list[str](), study.cohort.patient
    exact, verbatim = exact_columns(study, name), verbatim_columns(study, name)
    literal = {column for spec in study.modalities if spec.source == name for column in spec.exact_columns} | verbatim
    if isinstance(given, pd.DataFrame):
        table = with_options(from_frame(given, patient), own, literal, texts)
    else:
        spec, folder = (given, study.folder) if isinstance(given, SourceSpec) else (own.elsewhere(given), Path())
        table = read_source(spec, folder, patient, exact, verbatim, literal, texts)
    notes += [Note(f"source '{name}': {text}", f"source {{}}: {_SUMMARY}", (name,)) for text in texts]
    return table


def exact_columns(study: Study, source: str) -> set[str]:
    """Returns the columns of a source that keep every digit: labels, what orders readings, times and codes."""
    readers = [modality for modality in study.modalities if modality.source == source]
    ordering = {modality.repeats.by for modality in readers if modality.repeats is not None}
    ordering |= {str(modality.window.time) for modality in readers if modality.window is not None}
    ordering |= index_columns(study.index, study.tasks[0].source).get(source, set())
    return {*label_columns(study, source), *ordering, *(name for spec in readers for name in spec.exact_columns)}


def verbatim_columns(study: Study, source: str) -> set[str]:
    """Returns the columns of a source that are text as it is written, such as codes."""
    readers = [modality for modality in study.modalities if modality.source == source]
    return {name for spec in readers for name in spec.verbatim_columns} - label_columns(study, source).keys()


def label_columns(study: Study, source: str) -> dict[str, str]:
    """Returns the columns of a source that are no inputs, each with its role."""
    columns: dict[str, str] = {}
    first = study.tasks[0].source
    if study.cohort.group is not None and source == first:
        columns[study.cohort.group] = "the grouping key"
    if isinstance(study.split, ColumnSplit) and source == (study.split.source or first):
        columns[study.split.column] = "the split"
    for task in study.tasks:
        if task.source == source:
            columns |= dict.fromkeys(task.target_columns, f"a target of task '{task.name}'")
    return columns
