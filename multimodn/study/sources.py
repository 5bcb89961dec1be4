"""Sources and cohorts of a study file."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_serializer, model_validator
from torch import nn

from multimodn.errors import StudyError
from multimodn.study.health_records import FORMATS, RECORD_KEYS, HealthRecordSpec
from multimodn.study.keys import KeySpec
from multimodn.study.yaml_file import Spec

ORIGIN = {"path", "patients", "query", "database", "files", "patient_from", *RECORD_KEYS}  # what is read
TEXT_FILES = (".csv", ".tsv", ".txt")  # and the same with .gz
WORKBOOKS = (".xlsx", ".xlsm")
EMPTY = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL", "NaN",
    "n/a", "nan", "null",
)  # fmt: skip
Limit = Literal["half", "limit", "flag"]


def flag_column(name: str) -> str:
    """Returns the name of the column that tells which cells of a column are below or above a detection limit."""
    return f"{name} (limit)"


def _options_of_other_files(path: str) -> set[str]:
    """Returns the options of a source that files of this kind do not have."""
    name = re.sub(r"\.gz\Z", "", path.lower())
    of_text = set() if name.endswith(TEXT_FILES) else {"delimiter", "encoding"}
    return of_text | (set() if name.endswith(WORKBOOKS) else {"sheet"})


def check_name(name: str) -> str:
    """Returns ``name`` if modules can be stored under it, else raises a ValueError that says why."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"'{name}' is not a valid name: use letters, digits, '_' and '-' only.")
    if hasattr(nn.ModuleDict, name):  # names become keys of a ModuleDict, which refuses the names of its own attributes
        raise ValueError(f"'{name}' is reserved by torch.nn.ModuleDict; choose another name, such as '{name}_'.")
    return name


class SourceSpec(HealthRecordSpec):
    """Where one table comes from: a file, a query, the names of files in a folder, or health records.

    Attributes:
        path: A ``.csv``, ``.tsv`` or ``.txt`` file (also with ``.gz``), ``.parquet``, ``.npy``, ``.npz``, or a file of
            Excel, Stata, SPSS or SAS (extra ``files``). An ``.npz`` holds the arrays ``patient`` (identifiers) and
            ``features`` (n, d), or a vector for each patient under the identifier.
        patients: For a ``.npy``: a CSV with the patient of each row.
        query: A query in SQL for DuckDB; paths in it are relative to the folder of the study.
        database: A DuckDB file for the query; default: the query reads files.
        files: A pattern such as ``slides/*.h5`` or ``scans/*.{png,jpg}``: each file is a row with one column, ``file``.
        patient_from: For ``files``: a regular expression whose only group is the patient in the path, from the first
            part of the pattern with a wildcard on; default: the patient is the file's name without its suffix.
        date_format: How its dates are written, such as ``%d/%m/%Y`` (as in `strptime`), where that is in doubt.
        key: How to rewrite the patient identifiers, where other sources write them otherwise.
        delimiter: The sign between the cells of a text file, or ``tab``, the default for ``.tsv`` and ``.txt``; of
            others a comma.
        encoding: The encoding of a text file, such as ``cp1252`` (Windows); default: UTF-8, or UTF-16 if the file
            begins with its mark.
        sheet: The sheet of an Excel workbook, by name or by number from 1; default: its only one.
        decimal: The sign before decimals; default: a dot.
        thousands: The sign between thousands; default: none, but dots where ``decimal`` is a comma.
        empty: The cells that are empty, such as ``["NA", "-999"]``, beside blank ones; default: `EMPTY`. In columns of
            numbers those are empty in any case.
        detection_limit: How `<0.5` is read: as ``half`` the limit, as the ``limit`` (as `>100` always is), or as the
            ``limit`` with a further column (see `flag_column`) that ``flag`` adds: -1 below, 1 above a limit, else 0.
            For all columns, or by column. Default: such a cell is no number.
        units: ``strip``: `4.2 mmol/L` and `21 %` are numbers where a column has one unit; or the unit of each column.
        ranges: ``middle``: `42-47` is 44.5.
    """

    path: str | None = None
    patients: str | None = None
    query: str | None = None
    database: str | None = None
    files: str | None = None
    patient_from: str | None = None
    date_format: str | None = None
    key: KeySpec | None = None
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | int | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", "'", " "] | None = None
    empty: list[str] | None = None
    detection_limit: Limit | dict[str, Limit] | None = None
    units: Literal["strip"] | dict[str, str] | None = None
    ranges: Literal["middle"] | None = None

    @field_validator("empty", mode="before")
    @classmethod
    def _marks(cls, given: Any) -> Any:
        if not isinstance(given, list):
            return given
        return ["" if mark is None else str(mark) if isinstance(mark, int | float) else mark for mark in given]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"path": str(data)} if isinstance(data, str | Path) else data

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = ("path", "query", "files", *FORMATS)
        if [getattr(self, name) for name in origins].count(None) != len(origins) - 1:
            raise ValueError("give one of `path`, `query` and `files`, or `meds`, `omop` or `fhir` with a `part`.")
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
        self._check_format()
        return self

    def _check_format(self) -> None:
        """Raises a ValueError if the options of a format do not fit the file, or each other."""
        for option in _options_of_other_files(str(self.path)) & self.model_fields_set:
            if getattr(self, option) is not None:
                fitting = WORKBOOKS if option == "sheet" else TEXT_FILES
                raise ValueError(f"`{option}` is for {', '.join(fitting)} files.")
        if self.delimiter is not None and len(self.delimiter) != 1 and self.delimiter != "tab":
            raise ValueError(f"`delimiter` is one sign or tab, found '{self.delimiter}'.")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(f"there is no encoding '{self.encoding}'; cp1252 is that of Windows.") from None
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError(f"`decimal` and `thousands` are both '{self.thousands}'.")

    def elsewhere(self, path: str | Path) -> SourceSpec:
        """Returns the source of another file, which is read with the same options, if files of its kind have them."""
        if str(path).endswith(".npy"):
            text = f"{path}: the patients of its rows are not known; save a .npz with arrays `patient` and `features`."
            raise StudyError(text)
        kept = self.model_fields_set - ORIGIN - _options_of_other_files(str(path))
        options = {name: getattr(self, name) for name in kept}
        if self.record_format is not None and not str(path).lower().endswith((*TEXT_FILES, ".gz", ".npz", *WORKBOOKS)):
            return SourceSpec(**self.of_records(str(path)), **options)
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
