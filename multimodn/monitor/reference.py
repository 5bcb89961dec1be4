"""Reference of a model: summaries of its training patients that identify nobody, stored beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.data.splits import make_split
from multimodn.errors import DataError
from multimodn.files import write_text
from multimodn.missingness.patterns import pattern_names
from multimodn.monitor import summaries
from multimodn.monitor.predicted import PredictionReference, held_out_embedding, label_texts, summarise_predictions

if TYPE_CHECKING:
    from multimodn.base.encoder import Encoder
    from multimodn.model.multimodn import MultiModN

FILE = "reference.json"
FORMAT = 1  # version of the file
MIXED = 0.5  # smallest share of cells with a frequent category in a column of categories; other texts are free texts


@dataclass(frozen=True)
class ModalityReference:
    """One modality of those patients who have it."""

    name: str  # the step of the study
    present: int  # patients who have it
    columns: tuple[str, ...]
    numbers: summaries.NumberColumns  # columns of numbers
    lengths: summaries.NumberColumns  # lengths of free texts
    categories: tuple[summaries.Categories, ...]  # columns of categories
    directions: summaries.Directions | None  # projections of a modality with many columns
    # out-of-sample embeddings of the first member, where columns are uninformative: files, free texts, and several rows
    # a patient
    embedding: summaries.Directions | None


@dataclass(frozen=True)
class Reference:
    """Summaries of the training and validation patients of a model.

    Every number rests on at least five patients, except counts of what is pooled, such as "any other category".
    """

    format: int  # version of the file
    study: str  # SHA-256 of the study
    data: str  # hash of the training data, as in the model's provenance
    split: str  # hash of the split
    n: int  # number of patients
    modalities: tuple[ModalityReference, ...]  # one for each step of the study
    patterns: summaries.Categories  # presence patterns
    predictions: tuple[PredictionReference, ...]  # one for each task; none without held-out patients
    predicted: str  # the patients of these predictions, in words
    labels: tuple[summaries.Categories, ...]  # outcome strata of each task

    def to_json(self) -> str:
        """Returns the text for `from_json`."""
        from pydantic import TypeAdapter

        return TypeAdapter(Reference).dump_json(self).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Reads what `to_json` wrote.

        Raises:
            DataError: If it is damaged, or of another version.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            content = json.loads(text)
            version = content.get("format") if isinstance(content, dict) else None
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
    """Writes ``reference.json`` into a folder, with which `multimodn.monitor.drift.drift` compares other patients.

    Args:
        model: A trained model.
        cohort: Its training and validation patients, and perhaps more.
        folder: Such as the run folder.
    """
    write_text(folder / FILE, make_reference(model, cohort).to_json())
    return folder / FILE


def make_reference(model: MultiModN, cohort: Cohort) -> Reference:
    """Summarises the training and validation patients of a model, and out-of-sample predictions, also of test patients.

    Raises:
        NotFittedError: Before training.
        DataError: If patients of the model's split are not in the cohort.
    """
    network = model.trained.ensemble.first
    split = model.split or make_split(model.study, cohort)
    seen = cohort.subset([*split.train, *split.validation])
    modalities = []
    for name in network.modalities:
        frame = seen.modalities.get(name, pd.DataFrame())
        encoder: Any = network.encoders[name]
        summary = summarise(name, frame, encoder, model.study.steps[name].file_columns)
        if is_opaque(summary, encoder, frame):
            summary = replace(summary, embedding=held_out_embedding(model, cohort, split, name))
        modalities.append(summary)
    predictions, predicted = summarise_predictions(model, cohort, split)
    return Reference(
        format=FORMAT,
        study=hashlib.sha256(model.study.to_yaml().encode()).hexdigest(),
        data=str(model.provenance.get("data_hash", "")),
        split=split.hash(),
        n=len(seen),
        modalities=tuple(modalities),
        patterns=summaries.summarise_categories(patterns(seen, network.modalities)),
        predictions=predictions,
        predicted=predicted,
        labels=tuple(summaries.summarise_categories(texts) for texts in label_texts(model, seen)),
    )


def patterns(cohort: Cohort, modalities: list[str]) -> pd.Series[Any]:
    """Names the modalities that each patient has, such as ``labs+image``."""
    names = pattern_names(presence(cohort, modalities), modalities)
    return pd.Series(names, cohort.patients, name="(which modalities)")


def presence(cohort: Cohort, modalities: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns the presence of modalities, bool ``(n, M)``."""
    nobody = np.zeros(len(cohort), dtype=bool)
    frames = [cohort.modalities.get(name) for name in modalities]
    return np.stack([nobody if f is None else cohort.patients.isin(f.index) for f in frames], axis=1)


def cells(frame: pd.DataFrame, several_rows: bool) -> pd.DataFrame:
    """Returns a frame with one row for each patient."""
    return summaries.one_row_each(frame) if several_rows and len(frame) else frame


def is_opaque(summary: ModalityReference, encoder: Encoder, frame: pd.DataFrame) -> bool:
    """Says whether columns are uninformative: files, free texts, several rows a patient."""
    n_compared = len(summary.numbers.names) + len(summary.categories)
    return bool(len(frame)) and (encoder.several_rows or bool(summary.lengths.names) or not n_compared)


def summarise(name: str, frame: pd.DataFrame, encoder: Encoder, files: list[str]) -> ModalityReference:
    """Summarises the columns that an encoder reads of the patients who have its modality, but names of files."""
    columns = [column for column in encoder.columns if column in frame]
    rows = cells(frame[columns], encoder.several_rows)
    named = [column for column in rows.columns if column not in files]
    is_number = {column: pd.api.types.is_numeric_dtype(rows[column].dtype) for column in named}
    numbers = [column for column in named if is_number[column]]
    is_wide = len(numbers) > summaries.MOST_COLUMNS
    few = [] if is_wide else [column for column in numbers if rows[column].nunique() <= summaries.MOST_VALUES]
    numbers = [column for column in numbers if column not in few]
    texts = {
        c: summaries.summarise_categories(summaries.as_texts(rows[c])) for c in named if c in few or not is_number[c]
    }
    lengths = [c for c, t in texts.items() if c not in few and sum(t.counts) < MIXED * (len(rows) - t.empty)]
    values = summaries.as_numbers(rows, numbers)
    return ModalityReference(
        name=name,
        present=int(rows.index.nunique()),
        columns=tuple(columns),
        numbers=summaries.summarise_numbers(numbers, values, summaries.BINS_OF_MANY if is_wide else summaries.BINS),
        lengths=summaries.summarise_numbers(
            lengths, summaries.text_lengths(rows, lengths) if lengths else np.empty((len(rows), 0))
        ),
        categories=tuple(t for c, t in texts.items() if c not in lengths),
        directions=summaries.fit_directions(numbers, values) if is_wide else None,
        embedding=None,
    )
