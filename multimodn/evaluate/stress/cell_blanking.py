"""Cells of modalities that a stress test empties."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from multimodn.base.encoder import Encoder
from multimodn.base.kinds import load_kind
from multimodn.data.cohort import Cohort
from multimodn.errors import DataWarning, StudyError, did_you_mean, shown
from multimodn.missingness.patterns import Bools
from multimodn.study.study import ModalitySpec

Columns = Sequence[tuple[str, str]]  # modality and column of its table, or variable of its series


def filled_cells(cohort: Cohort, columns: Columns, specs: Mapping[str, ModalitySpec], what: str) -> Bools:
    """Returns whether each patient has a filled cell in each column ``(n, C)``; False without the modality.

    Args:
        cohort: The patients.
        columns: The C columns.
        specs: What the study says of each modality.
        what: Who asks, for messages.

    Raises:
        StudyError: If a modality or a column is unknown.
    """
    has = np.zeros((len(cohort), len(columns)), dtype=np.bool_)
    for k, (modality, column) in enumerate(columns):
        empty = _empty_cells(cohort, modality, [column], specs, what)
        has[cohort.patients.get_indexer(empty.index), k] = ~empty[column].to_numpy()
    return has


def with_empty_cells(
    cohort: Cohort, lost: Mapping[tuple[str, str], Bools], specs: Mapping[str, ModalitySpec], what: str
) -> Cohort:
    """Returns the cohort without some cells; a patient who would keep no cell of a modality keeps all, with a warning.

    Args:
        cohort: The patients; not changed.
        lost: By modality and column whether each patient loses the cell ``(n,)``.
        specs: What the study says of each modality.
        what: Who asks, for messages.

    Raises:
        StudyError: If a modality or a column is unknown.

    Warns:
        DataWarning: Naming patients who keep their cells.
    """
    frames = dict(cohort.modalities)
    for modality in dict.fromkeys(name for name, _ in lost):
        columns = [column for name, column in lost if name == modality]
        empty = _empty_cells(cohort, modality, columns, specs, what)
        rows = cohort.patients.get_indexer(empty.index)
        emptied = pd.DataFrame({column: lost[modality, column][rows] for column in columns}, empty.index)
        after = empty.copy()
        after[columns] |= emptied
        nothing_left = after.all(axis=1).to_numpy() & ~empty.all(axis=1).to_numpy()
        if nothing_left.any():
            who = shown(list(empty.index[nothing_left]))
            text = f"would leave {int(nothing_left.sum())} patient(s) without any cell of '{modality}'; they keep them"
            warnings.warn(f"Mechanism '{what}' {text}: {who}.", DataWarning, stacklevel=3)
            emptied[nothing_left] = False
        kind, options = load_kind("encoders", specs[modality].kind), specs[modality].options
        frames[modality] = kind.with_empty_cells(frames[modality], emptied, options)
    return replace(cohort, modalities=frames)


def _empty_cells(
    cohort: Cohort, modality: str, columns: Sequence[str], specs: Mapping[str, ModalitySpec], what: str
) -> pd.DataFrame:
    """Which cells of a modality are empty, with all its columns."""
    if modality not in specs or modality not in cohort.modalities:
        hint = did_you_mean(modality, [name for name in specs if name in cohort.modalities])
        raise StudyError(f"Mechanism '{what}': unknown modality '{modality}' of a column.{hint}")
    spec = specs[modality]
    kind: type[Encoder] = load_kind("encoders", spec.kind)
    empty = kind.empty_cells(cohort.modalities[modality], spec.options)
    if unknown := [column for column in columns if column not in empty]:
        have = f"has no column '{unknown[0]}'" if len(empty.columns) else f"is of kind '{spec.kind}', without cells"
        raise StudyError(f"Mechanism '{what}': '{modality}' {have}.{did_you_mean(unknown[0], map(str, empty))}")
    return empty
