"""Design matrices: the columns of tables and embeddings, which simple models read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import StudyError
from multimodn.study.study import ModalitySpec, Study
from multimodn.training.build import fit_tasks

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Target = tuple[Task, Array, Bools]
"""A fitted task, the link-scale targets of the labelled patients, and whether each patient is labelled."""


@dataclass(frozen=True)
class Tabular:
    """The part of a study that simple models can read."""

    study: Study  # the study without unreadable modalities, and without tasks that see no other
    cohort: Cohort  # the same patients without these modalities
    left_out: list[str]  # the modalities that were left out, such as slides and texts
    tasks_left_out: list[str]  # the tasks that were left out


def tabular_study(study: Study, cohort: Cohort) -> Tabular:
    """Keeps the modalities that are tables or embeddings with one row a patient; the cohort may lack some, and targets.

    Raises:
        StudyError: If no modality is left.
    """
    kept = [spec for spec in study.modalities if _is_readable(spec)]
    if not kept:
        names = ", ".join(spec.name for spec in study.modalities)
        raise StudyError(f"Simple baselines read tables and embeddings; this study has none, only {names}.")
    tasks = [task for task in study.tasks if any(task.name not in spec.exclude_for for spec in kept)]
    steps = [name for spec in kept for name in spec.step_names]

    named = {key: getattr(study, key) for key in ("presence_covariates", "subgroups")}  # modality.column
    named = {key: [column for column in columns if column.partition(".")[0] in steps] for key, columns in named.items()}
    changes = {"modalities": kept, "tasks": tasks, "order": [name for name in study.order if name in steps], **named}
    frames = {name: frame for name, frame in cohort.modalities.items() if name in steps}
    left_out = [spec.name for spec in study.modalities if spec not in kept]
    tasks_left_out = [task.name for task in study.tasks if task not in tasks]
    readable = replace(cohort, modalities=frames, files={})
    return Tabular(study.model_copy(update=changes), readable, left_out, tasks_left_out)


def inputs(study: Study) -> list[ModalitySpec]:
    """Returns the modalities, with one for each reading of a repeated modality.

    Raises:
        StudyError: If one is no table of numbers and categories with one row a patient.
    """
    if other := [spec.name for spec in study.modalities if not _is_readable(spec)]:
        raise StudyError(
            f"This baseline reads tables and embeddings only; leave out {', '.join(other)}, as tabular_study does."
        )
    return [spec.model_copy(update={"name": name, "repeats": None}) for name, spec in study.steps.items()]


def _is_readable(spec: ModalitySpec) -> bool:
    return not (spec.takes_several_rows or spec.file_columns)


class Design:
    """The columns of some modalities side by side, fitted on training rows."""

    def __init__(self, modalities: Sequence[ModalitySpec], training: Cohort, *, scaled: bool = True) -> None:
        self.scaled = scaled
        self.transforms = {spec.name: _columns(spec, training.modalities[spec.name], scaled) for spec in modalities}

    def blocks(self, cohort: Cohort) -> dict[str, Array]:
        """Returns for each modality ``(n, its columns)``; the cells of an absent one are 0 (scaled) or NaN."""
        blocks = {}
        for name, transform in self.transforms.items():
            frame = rows_of(cohort, name)
            values = transform(frame)
            blocks[name] = np.full((len(cohort), values.shape[1]), 0.0 if self.scaled else np.nan)
            blocks[name][cohort.patients.get_indexer(frame.index)] = values
        return blocks

    def rows(self, cohort: Cohort) -> Array:
        """Returns all `blocks` side by side, ``(n, columns)``."""
        return np.hstack(list(self.blocks(cohort).values()))

    def has(self, cohort: Cohort) -> Bools:
        """Says which patients have any of the modalities, bool ``(n,)``."""
        has: Bools = np.any([cohort.patients.isin(rows_of(cohort, name).index) for name in self.transforms], axis=0)
        return has


def designs(
    modalities: Sequence[ModalitySpec], tasks: Sequence[str], training: Cohort, *, scaled: bool = True
) -> dict[str, Design]:
    """Returns the design of each task that sees any of the modalities; the same for tasks that see the same ones."""
    by_names: dict[tuple[str, ...], Design] = {}
    of_task = {}
    for task in tasks:
        if seen := [spec for spec in modalities if task not in spec.exclude_for]:
            names = tuple(spec.name for spec in seen)
            if names not in by_names:
                by_names[names] = Design(seen, training, scaled=scaled)
            of_task[task] = by_names[names]
    return of_task


def _columns(spec: ModalitySpec, frame: pd.DataFrame, scaled: bool) -> Callable[[pd.DataFrame], Array]:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    declared = set(getattr(spec.options, "categorical", []))
    numeric = [str(c) for c in frame if c not in declared and pd.api.types.is_numeric_dtype(frame[c].dtype)]
    numeric = [c for c in numeric if frame[c].notna().any()]
    categorical = [str(c) for c in frame if c not in numeric and frame[c].notna().any()]
    scaler = make_pipeline(SimpleImputer(), StandardScaler()) if scaled else "passthrough"
    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transformer = ColumnTransformer([("numeric", scaler, numeric), ("levels", levels, categorical)])

    def texts(rows: pd.DataFrame) -> pd.DataFrame:  # one type for a column with numbers and words
        levels = {c: rows[c].astype(object).where(rows[c].notna(), "empty").astype(str) for c in categorical}
        return rows.assign(**{c: column.astype(object) for c, column in levels.items()})

    transformer.fit(texts(frame))
    width = transformer.transform(texts(frame.head(1))).shape[1]
    return lambda rows: transformer.transform(texts(rows)).astype(np.float64) if len(rows) else np.empty((0, width))


def rows_of(cohort: Cohort, modality: str) -> pd.DataFrame:
    """Returns the rows of a modality; none where the cohort does not have it."""
    return cohort.modalities.get(modality, pd.DataFrame())


def targets_of(study: Study, training: Cohort) -> list[Target]:
    """Fits the tasks of a study and reads their targets."""
    targets = []
    for task in fit_tasks(study, training):
        target, labelled = task.prepare(training.targets[task.name])
        targets.append((task, task.link_target(target[labelled]).numpy().astype(np.float64), labelled.numpy()))
    return targets
