"""What the patients that a model learned from look like, kept beside it as summaries that identify nobody."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.errors import DataError
from multimodn.files import write_text
from multimodn.monitor.predicted import PredictionReference
from multimodn.monitor.summaries import (
    BINS,
    BINS_OF_MANY,
    MOST_COLUMNS,
    MOST_VALUES,
    Categories,
    Directions,
    Numbers,
    as_numbers,
    as_texts,
    fit_directions,
    one_row_each,
    summarise_categories,
    summarise_numbers,
    text_lengths,
)

if TYPE_CHECKING:
    from multimodn.base.encoder import Encoder
    from multimodn.model.multimodn import MultiModN

FILE = "reference.json"
FORMAT = 1
"""Version of the file."""
MIXED = 0.5
"""Share of cells with a frequent category from which on a column of text is one of categories."""


@dataclass(frozen=True)
class ModalityReference:
    """One modality of those patients who have it.

    Attributes:
        name: The step of the study.
        present: Patients who have it.
        columns: The columns that must be there.
        numbers: Columns of numbers.
        lengths: Columns of free text, by how long the text is.
        categories: Columns of categories.
        directions: Of a modality with many columns, where ``numbers`` is a family.
        embedding: What the encoder of the first member makes of patients whom it was not trained on, where columns
            say little, as in files, free texts, and several rows a patient.
    """

    name: str
    present: int
    columns: tuple[str, ...]
    numbers: Numbers
    lengths: Numbers
    categories: tuple[Categories, ...]
    directions: Directions | None
    embedding: Directions | None


@dataclass(frozen=True)
class Reference:
    """Summaries of the training and validation patients of a model; see the module.

    Nothing in it stands for fewer than five patients but counts of what is pooled, such as "any other category".

    Attributes:
        format: Version of the file.
        study: SHA-256 of the study.
        data: Hash of the data that the model was trained on, as in its provenance.
        split: Hash of the split.
        n: Patients.
        modalities: One for each step of the study.
        patterns: Which modalities patients have.
        predictions: One for each task; none if nobody was held out.
        predicted: Whose predictions these are, in words.
        labels: Outcome strata of each task.
    """

    format: int
    study: str
    data: str
    split: str
    n: int
    modalities: tuple[ModalityReference, ...]
    patterns: Categories
    predictions: tuple[PredictionReference, ...]
    predicted: str
    labels: tuple[Categories, ...]

    def to_json(self) -> str:
        """Returns the text that `from_json` reads."""
        from pydantic import TypeAdapter

        return TypeAdapter(Reference).dump_json(self).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Reads what `to_json` wrote.

        Raises:
            DataError: If it is damaged, or of another version.
        """
        import json

        from pydantic import TypeAdapter, ValidationError

        try:
            found = json.loads(text)
            version = found.get("format") if isinstance(found, dict) else None
            if version != FORMAT:
                raise DataError(f"The reference has format {version!r}, expected {FORMAT}. Fit the study again.")
            return TypeAdapter(Reference).validate_json(text)
        except (ValidationError, json.JSONDecodeError) as error:
            raise DataError(
                f"The reference cannot be read: {str(error).splitlines()[0]}. Fit the study again."
            ) from None

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Reads the reference of a run folder, or a file.

        Raises:
            DataError: If there is none, or it cannot be read.
        """
        file = path / FILE if path.is_dir() else path
        if not file.is_file():
            raise DataError(
                f"{path} has no {FILE}: it was trained before there was one. Fit the study again, or write one with "
                f"multimodn.monitor.reference.write_reference(model, cohort, folder), which trains nothing."
            )
        return cls.from_json(file.read_text(encoding="utf-8"))


def write_reference(model: MultiModN, cohort: Cohort, folder: Path) -> Path:
    """Writes ``reference.json``, from which `multimodn.monitor.drift.drift` tells how other patients differ.

    Args:
        model: A trained model.
        cohort: Its training and validation patients, and perhaps more.
        folder: Where to write, such as the run folder.

    Returns:
        The file.
    """
    write_text(folder / FILE, make_reference(model, cohort).to_json())
    return folder / FILE


def make_reference(model: MultiModN, cohort: Cohort) -> Reference:
    """Summarises the training and validation patients of a model; predictions out of sample, test patients' too.

    Raises:
        NotFittedError: Before training.
        DataError: If patients of the model's split are not in the cohort.
    """
    from multimodn.data.splits import make_split
    from multimodn.monitor.predicted import held_out_embedding, label_texts, summarise_predictions

    network = model.trained.ensemble.first
    split = model.split or make_split(model.study, cohort)
    seen = cohort.subset([*split.train, *split.validation])
    modalities = []
    for name in network.modalities:
        frame = seen.modalities.get(name, pd.DataFrame())
        encoder: Any = network.encoders[name]
        found = summarise(name, frame, encoder, model.study.steps[name].file_columns)
        if is_opaque(found, encoder, frame):
            found = _with(found, embedding=held_out_embedding(model, cohort, split, name))
        modalities.append(found)
    predictions, whose = summarise_predictions(model, cohort, split)
    return Reference(
        format=FORMAT,
        study=hashlib.sha256(model.study.to_yaml().encode()).hexdigest(),
        data=str(model.provenance.get("data_hash", "")),
        split=split.hash(),
        n=len(seen),
        modalities=tuple(modalities),
        patterns=summarise_categories(patterns(seen, network.modalities)),
        predictions=predictions,
        predicted=whose,
        labels=tuple(summarise_categories(texts) for texts in label_texts(model, seen)),
    )


def patterns(cohort: Cohort, modalities: list[str]) -> pd.Series[Any]:
    """Names the modalities that each patient has, such as ``labs+image``."""
    has = presence(cohort, modalities)
    distinct, codes = np.unique(has, axis=0, return_inverse=True)
    names = ["+".join(np.array(modalities, dtype=object)[row]) or "(none)" for row in distinct]
    return pd.Series(np.array(names, dtype=object)[codes.ravel()], cohort.patients, name="(which modalities)")


def presence(cohort: Cohort, modalities: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Says who has which modality, bool ``(n, M)``."""
    nobody = np.zeros(len(cohort), dtype=bool)
    frames = [cohort.modalities.get(name) for name in modalities]
    return np.stack([nobody if f is None else cohort.patients.isin(f.index) for f in frames], axis=1)


def cells(frame: pd.DataFrame, several_rows: bool) -> pd.DataFrame:
    """Returns a frame with one row for each patient."""
    return one_row_each(frame) if several_rows and len(frame) else frame


def is_opaque(found: ModalityReference, encoder: Encoder, frame: pd.DataFrame) -> bool:
    """Says whether columns tell little of a modality: files, free texts, several rows a patient."""
    looked_at = len(found.numbers.names) + len(found.categories)
    return bool(len(frame)) and (encoder.several_rows or bool(found.lengths.names) or not looked_at)


def summarise(name: str, frame: pd.DataFrame, encoder: Encoder, files: list[str]) -> ModalityReference:
    """Summarises those columns of a modality that its encoder reads.

    Args:
        name: The step's name.
        frame: The rows of the patients who have it.
        encoder: Its fitted encoder.
        files: Columns that name files, which are not looked at.
    """
    columns = [column for column in encoder.columns if column in frame]
    rows = cells(frame[columns], encoder.several_rows)
    named = [column for column in rows.columns if column not in files]
    is_number = {column: pd.api.types.is_numeric_dtype(rows[column].dtype) for column in named}
    numbers = [column for column in named if is_number[column]]
    is_wide = len(numbers) > MOST_COLUMNS
    few = [] if is_wide else [column for column in numbers if rows[column].nunique() <= MOST_VALUES]
    numbers = [column for column in numbers if column not in few]
    texts = {c: summarise_categories(as_texts(rows[c])) for c in named if c in few or not is_number[c]}
    lengths = [
        c for c, found in texts.items() if c not in few and sum(found.counts) < MIXED * (len(rows) - found.empty)
    ]
    values = as_numbers(rows, numbers)
    return ModalityReference(
        name=name,
        present=int(rows.index.nunique()),
        columns=tuple(columns),
        numbers=summarise_numbers(numbers, values, BINS_OF_MANY if is_wide else BINS),
        lengths=summarise_numbers(lengths, text_lengths(rows, lengths) if lengths else np.empty((len(rows), 0))),
        categories=tuple(found for c, found in texts.items() if c not in lengths),
        directions=fit_directions(numbers, values) if is_wide else None,
        embedding=None,
    )


def _with(found: ModalityReference, **changes: Any) -> ModalityReference:
    given = {field.name: getattr(found, field.name) for field in fields(found)}
    return ModalityReference(**{**given, **changes})
