"""Sources and cohorts of a study file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_serializer, model_validator
from torch import nn

from multimodn.errors import StudyError
from multimodn.study.keys import KeySpec
from multimodn.study.yaml_file import Spec

ORIGIN = {"path", "patients", "query", "database", "files", "patient_from"}  # keys of a source that say what is read


def check_name(name: str) -> str:
    """Returns ``name`` if modules can be stored under it, else raises a ValueError that says why."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"'{name}' is not a valid name: use letters, digits, '_' and '-' only.")
    if hasattr(nn.ModuleDict, name):  # names become keys of a ModuleDict, which refuses the names of its own attributes
        raise ValueError(f"'{name}' is reserved by torch.nn.ModuleDict; choose another name, such as '{name}_'.")
    return name


class SourceSpec(Spec):
    """Where one table comes from: a file, a query, or the names of files in a folder.

    Attributes:
        path: A ``.csv``, ``.csv.gz``, ``.tsv``, ``.parquet``, ``.npy`` or ``.npz`` file; the last holds the arrays
            ``patient`` (identifiers) and ``features`` (n, d), or a vector for each patient under the identifier.
        patients: For a ``.npy``: a CSV with the patient of each row.
        query: A query in SQL for DuckDB; paths in it are relative to the folder of the study.
        database: A DuckDB file for the query; default: the query reads files.
        files: A pattern such as ``slides/*.h5`` or ``scans/*.{png,jpg}``: each file is a row with one column, ``file``.
        patient_from: For ``files``: a regular expression whose only group is the patient in the path, from the first
            part of the pattern with a wildcard on; default: the patient is the file's name without its suffix.
        date_format: How its dates are written, such as ``%d/%m/%Y`` (as in `strptime`), where that is in doubt.
        key: How to rewrite the patient identifiers, where other sources write them otherwise.
    """

    path: str | None = None
    patients: str | None = None
    query: str | None = None
    database: str | None = None
    files: str | None = None
    patient_from: str | None = None
    date_format: str | None = None
    key: KeySpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"path": str(data)} if isinstance(data, str | Path) else data

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if [self.path, self.query, self.files].count(None) != 2:
            raise ValueError("give one of `path`, `query` and `files`.")
        if self.patient_from is not None:
            if self.files is None:
                raise ValueError("`patient_from` needs `files`.")
            try:
                n = re.compile(self.patient_from).groups
            except re.error as error:
                raise ValueError(f"`patient_from` is not a regular expression: {error}.") from None
            if n != 1:
                raise ValueError(f"`patient_from` has {n} groups, expected one, such as (P[0-9]+)_.*: the patient.")
        if self.database is not None and self.query is None:
            raise ValueError("`database` needs a `query`.")
        if (self.patients is not None) != str(self.path).endswith(".npy"):
            raise ValueError("a .npy `path`, and no other, needs `patients`, a CSV with the patient of each row.")
        return self

    def elsewhere(self, path: str | Path) -> SourceSpec:
        """Returns the source of another file, which is read with the same options."""
        if str(path).endswith(".npy"):
            text = f"{path}: the patients of its rows are not known; save a .npz with arrays `patient` and `features`."
            raise StudyError(text)
        options = {name: getattr(self, name) for name in self.model_fields_set - ORIGIN}
        return SourceSpec(path=str(path), **options)

    @model_serializer
    def _dump(self) -> Any:
        given = {name: value for name, value in self if value is not None}
        if self.key is not None:
            given["key"] = self.key.model_dump()
        return given["path"] if list(given) == ["path"] else given


class CohortSpec(Spec):
    """The patients and the tables about them.

    Attributes:
        patient: The key column, in every source; read as text, so that leading zeros are kept.
        group: A column of the first task's source, such as site or family; a group is never in two parts of a split.
        sources: The tables by name.
    """

    patient: str
    group: str | None = None
    sources: dict[str, SourceSpec] = Field(min_length=1)


class RegistrySpec(Spec):
    """One of several registries that train one model together, each with its own patients, labels and files.

    Attributes:
        sources: Its own versions of the cohort's sources, never another registry's; null: none; default: the cohort's.
        patient: Its key column; default: the cohort's.
        tasks: The tasks that it has labels for; default: those whose target columns it has.
    """

    sources: dict[str, SourceSpec | None] = Field(default_factory=dict)
    patient: str | None = None
    tasks: list[str] | None = None
