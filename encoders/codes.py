"""Bags of codes: the diagnoses, drugs or procedures of a patient, as rows or as lists in cells."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from multimodn.base.encoder import JSON, Encoder, FileOptions, Options
from multimodn.base.feature_groups import Parts
from multimodn.base.ragged import Ragged
from multimodn.data.outcome_words import is_empty_word
from multimodn.encoders._codes.layers import BagInput, dense
from multimodn.encoders._codes.parts import CodeParts, code_parts
from multimodn.encoders._codes.rows import HEADER, CodeCells, CodeRows, read_rows
from multimodn.encoders._codes.vocabulary import (
    CodeBag,
    Feature,
    Weight,
    bag,
    code_amounts,
    code_hashes,
    feature_numbers,
    fit_features,
    vector_features,
)
from multimodn.encoders._layers import Layers
from multimodn.encoders._reading import first_shown
from multimodn.errors import DataError, DataWarning

NO_CODE = {"", "0", "nil", "none", "no"}  # beside the words for what is not known


class CodesOptions(FileOptions):
    """Options of a modality of codes.

    Attributes:
        code: The column of codes: one in each row, or several in a cell: ``I10;E11``, or a list (JSON, Parquet).
        time: The column of times: dates, with or without a clock, or numbers of days; ``recency`` needs it.
        value: A column of amounts, such as packs or days of supply: they are added up instead of counting rows.
        weight: What a code weighs: ``count``, log(1 + its rows or amounts), or ``recency``, 2^(-age / half-life) of its
            latest row.
        half_life: The age, in days, at which a code weighs half; of ``recency``.
        index: From when ages count back: a column, or a number in the unit of ``time``, such as 0 where the study has
            an ``index``; default: the latest row of the patient.
        levels: The levels of the hierarchy: lengths of prefixes, without dots, and ``full``, the code itself. ICD-10:
            1 = chapter letter, 3 = category. ATC: 1, 3, 4, 5. Where digits mean nothing, as in SNOMED CT: ``[full]``.
        min_patients: Training patients that a code or prefix must have; rarer ones, and codes that training did not
            see, count by their prefixes, and at least as any code.
        separators: Characters that separate the codes of one cell.
        fold: Whether codes that differ in case or dots alone are the same code; ``false`` for Read codes.
        n_vector: Codes and prefixes, those that vary most, that experts read.
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width of the vector of a code, and of hidden layers.
        n_layers: Hidden layers behind the sum of vectors; 0 = a linear map.
        dropout: Share of hidden units (without hidden layers: of the sum of vectors) set to 0 in training.
        on_error: What to do with patients whose cells are all empty; see `FileOptions`.
    """

    code: str = "code"
    time: str | None = None
    value: str | None = None
    weight: Weight = "count"
    half_life: float = Field(default=365.25, gt=0.0, allow_inf_nan=False)
    index: float | str | None = None
    levels: list[Annotated[int, Field(ge=1)] | Literal["full"]] = Field(default=[3, "full"], min_length=1)
    min_patients: int = Field(default=5, ge=1)
    separators: str = ";,|\n"
    fold: bool = True
    n_vector: int = Field(default=256, ge=1, le=1024)
    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=32, ge=1)
    n_layers: int = Field(default=1, ge=0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @field_validator("levels")
    @classmethod
    def _levels_rise(cls, levels: list[int | Literal["full"]]) -> list[int | Literal["full"]]:
        lengths = [10**6 if level == "full" else level for level in levels]
        if sorted(set(lengths)) != lengths:
            raise ValueError(f"write {levels} from the shortest prefix to `full`, each once, such as [1, 3, full].")
        return levels

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.weight == "recency" and self.time is None:
            raise ValueError("`weight: recency` needs `time`, the column of times.")
        if self.weight == "recency" and self.value is not None:
            raise ValueError("`value` holds amounts, which `weight: recency` does not use; leave one of them out.")
        if self.weight == "count" and self.index is not None:
            raise ValueError("`index` is used by `weight: recency` alone; remove it.")
        names = [name for name in (self.code, self.time, self.value, self.index) if isinstance(name, str)]
        if len(set(names)) < len(names):
            raise ValueError("`code`, `time`, `value` and `index` must name different columns.")
        return self

    @property
    def cells(self) -> CodeCells:
        """How the cells are read; times are read where they are needed."""
        time, since = (self.time, self.index) if self.weight == "recency" else (None, None)
        since = since if isinstance(since, str) else None
        return CodeCells(self.code, time, self.value, since, self.separators, self.fold)


@dataclass(frozen=True)
class _Read:
    rows: CodeRows
    codes: CodeBag


class CodesEncoder(Encoder):
    """Encodes the codes that a patient has, of any number, as the sum of the vectors of codes and of their prefixes.

    A patient is a sparse vector over the features: any code, prefixes, and codes that enough training patients have
    (`fit_features`). It is multiplied with a matrix, a row for each feature, and hidden layers bend the result, so
    100,000 codes need no table of patients x codes. Experts read the features that vary most among training patients.

    The order of a table's rows does not matter. A patient whose cell holds ``[]`` has the modality, and no codes.
    """

    Options: ClassVar[type[Options]] = CodesOptions
    several_rows: ClassVar[bool] = True
    known: Tensor
    place: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, features: Sequence[Feature], n_known: int, options: CodesOptions) -> None:
        super().__init__()
        self.options, self.on_error, self.features = options, options.on_error, list(features)
        self.embedding_size, self.columns = options.embedding_size, options.cells.columns
        self.input = BagInput(len(self.features), options.hidden_size)
        self.layers = Layers(
            options.hidden_size, options.hidden_size, options.n_layers, options.embedding_size, options.dropout
        )
        chosen = torch.from_numpy(vector_features(self.features, options.n_vector))
        self.vector_size = len(chosen)
        place = torch.full((len(self.features),), -1)
        place[chosen] = torch.arange(len(chosen))
        # these follow from the configuration, so they are not in the state
        mean, spread = (torch.tensor([getattr(f, name) for f in self.features]) for name in ("mean", "spread"))
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("centre", mean[chosen], persistent=False)
        self.register_buffer("spread", spread[chosen], persistent=False)
        self.input.fit(mean, spread)
        self.register_buffer("known", torch.zeros(n_known, dtype=torch.long))

    @staticmethod
    def verbatim_columns(options: CodesOptions) -> list[str]:
        """Returns the column of codes; see `Encoder.verbatim_columns`."""
        return [options.code]

    @staticmethod
    def exact_columns(options: CodesOptions) -> list[str]:
        """Returns the columns of times; see `Encoder.exact_columns`."""
        return CodesEncoder.time_columns(options)

    @staticmethod
    def time_columns(options: CodesOptions) -> list[str]:
        """Returns the columns of times and of the moment from which ages count; see `Encoder.time_columns`."""
        return [name for name in (options.time, options.index) if isinstance(name, str)]

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: CodesOptions) -> Self:
        """Builds the encoder from training rows, one a code or list; see `Encoder.fit`, and `read_rows` for errors.

        Warns:
            DataWarning: If codes that are written in several ways are one code, or cells may hold no code, or several.
        """
        read = _read(frame, options)
        if not len(read.rows.code):
            raise DataError(f"{HEADER}: there is no code in the training rows.")
        _note_spellings(read.rows)
        _note_doubts(read.rows)
        features = fit_features(read.rows, read.codes, options.levels, options.min_patients, options.weight)
        encoder = cls(features, len(read.rows.codes), options)
        encoder.known.copy_(torch.from_numpy(np.sort(code_hashes(read.rows.codes))))
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Ragged:
        """Reads codes; see `read_rows` for errors.

        A patient's items ``(n_features, 2)``, float32, are the number in `features` and its weight, at least that of
        any code.

        Warns:
            DataWarning: If codes are not in the training rows; they count by their prefixes.
        """
        read = _read(frame, self.options)
        self._note_unknown(read.rows)
        numbers = self._numbers(read.rows)
        patient, feature, weight = bag(read.codes, numbers, len(self.features), self.options.weight)
        n = len(read.rows.patients)
        without = np.setdiff1d(np.arange(n), patient)  # who has no code has any code 0 times
        patient, feature = np.concatenate([patient, without]), np.concatenate([feature, np.zeros_like(without)])
        weight = np.concatenate([weight, np.zeros(len(without))])
        order = np.argsort(patient, kind="stable")
        items = np.stack([feature[order], weight[order]], 1).astype(np.float32)
        return Ragged(torch.from_numpy(items), torch.from_numpy(np.bincount(patient, minlength=n)).long())

    def forward(self, values: Ragged) -> Tensor:
        """Encodes n prepared rows to ``(n, embedding_size)``, each independently of the others."""
        return self.layers(self.input(values))

    def vector(self, values: Ragged) -> Tensor:
        """Returns the standardised weights of the features that vary most; see `Encoder.vector`."""
        dtype = self.layers.straight.weight.dtype
        items = values.items.to(dtype)
        columns = dense(Ragged(items, values.lengths), self.place, self.vector_size)
        return (columns - self.centre.to(dtype)) / self.spread.to(dtype)

    def parts(self, frame: pd.DataFrame, values: Ragged, patch: int) -> Parts:
        """Makes each code of a patient, with all its prefixes, a part; see `Encoder.parts`.

        Its ``value`` is the number of its rows, or their amounts, or its age in days. Closed gates leave a patient
        without codes.
        """
        read = _read(frame, self.options)
        numbers, width = self._numbers(read.rows), self.options.hidden_size
        return code_parts(read.rows, read.codes, numbers, self.options.weight, width)

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Encodes patients with their codes behind gates; see `Encoder.encode_parts`."""
        return self(self._gated(parts, rows, gates))

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns vectors of patients with their codes behind gates; see `Encoder.vector_parts`."""
        return self.vector(self._gated(parts, rows, gates))

    def _gated(self, parts: Parts, rows: Tensor, gates: Tensor) -> Ragged:
        content: CodeParts = parts.content
        return content.gated(rows, gates.to(self.layers.straight.weight), len(self.features), self.options.weight)

    def summary(self) -> pd.DataFrame:
        """Returns ``n_patients``, ``mean`` and ``spread`` of the weight of every code and prefix of the training."""
        rows = [asdict(feature) for feature in self.features]
        return pd.DataFrame(rows).set_index("name").rename_axis("code")[["n_patients", "mean", "spread"]]

    def config(self) -> dict[str, JSON]:
        """Returns options and features; the rest is in the state."""
        return {
            "options": self.options.model_dump(mode="json"),
            "features": [[*asdict(feature).values()] for feature in self.features],
            "n_known": len(self.known),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        features = [Feature(*feature) for feature in config["features"]]
        return cls(features, config["n_known"], CodesOptions.model_validate(config["options"]))

    def _numbers(self, rows: CodeRows) -> Any:
        names = [feature.name for feature in self.features]
        return feature_numbers(rows.codes, self.options.levels, names)

    def _note_unknown(self, rows: CodeRows) -> None:
        """Warns of codes that no training patient has, and says what they count as."""
        is_unknown = ~np.isin(code_hashes(rows.codes), self.known.cpu().numpy())
        if not is_unknown.any():
            return
        n_rows = np.bincount(rows.code, minlength=len(rows.codes))
        numbers = self._numbers(rows)
        names = [self.features[i].name for i in np.where(numbers >= 0, numbers, 0).max(1, initial=0)]
        unknown = np.flatnonzero(is_unknown)
        ordered = unknown[np.argsort(-n_rows[unknown], kind="stable")].tolist()
        named = first_shown(
            (f"'{rows.spellings[i][0]}' ({n_rows[i]} rows) as {names[i]}" for i in ordered), len(ordered)
        )
        text = f"{n_rows[unknown].sum()} of {len(rows.code)} codes are not in the training rows, and count by what is"
        warnings.warn(f"{HEADER}: {text} known of them: {named}.", DataWarning, stacklevel=3)


def _read(frame: pd.DataFrame, options: CodesOptions) -> _Read:
    rows = read_rows(frame, options.cells)
    since = None if isinstance(options.index, str) else options.index
    codes = code_amounts(rows, options.weight, options.half_life, since)
    later = np.unique(codes.patient[codes.age < 0]).tolist()
    if later:
        named = first_shown((f"'{rows.patients[i]}'" for i in later), len(later))
        raise DataError(
            f"{HEADER}: codes of {len(later)} patient(s) lie after their `index`, {options.index}: {named}. Leave out "
            f"what is not known yet, for example by an `index` of the study."
        )
    return _Read(rows, codes)


def _note_spellings(rows: CodeRows) -> None:
    """Warns of codes that are one code only because case and dots do not count."""
    several = [" = ".join(spellings) for spellings in rows.spellings if len(spellings) > 1]
    if several:
        text = f"{HEADER}: {len(several)} codes are written in several ways: {first_shown(several, len(several))}. Each"
        warnings.warn(f"{text} is one code; `fold: false` keeps them apart.", DataWarning, stacklevel=3)


def _note_doubts(rows: CodeRows) -> None:
    """Warns of codes that may be words for none, or several codes with blanks between them."""
    n_rows = np.bincount(rows.code, minlength=len(rows.codes))
    codes = [(spellings[0], int(n)) for spellings, n in zip(rows.spellings, n_rows, strict=True)]
    words = [f"'{code}' ({n} rows)" for code, n in codes if code.lower().strip(" .") in NO_CODE or is_empty_word(code)]
    if words:
        text = (
            f"{HEADER}: {first_shown(words, len(words))} count as codes; if they are none, leave the cell empty where"
        )
        warnings.warn(f"{text} nothing is known, or write [] for a patient without codes.", DataWarning, stacklevel=3)
    blanks = [f"'{code}' ({n} rows)" for code, n in codes if " " in code]
    if blanks:
        text = (
            f"{HEADER}: {len(blanks)} codes hold blanks: {first_shown(blanks, len(blanks))}. If blanks separate codes,"
        )
        warnings.warn(f"{text} add one to `separators`.", DataWarning, stacklevel=3)
