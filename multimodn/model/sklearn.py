"""`MultiModNClassifier`: the model as a scikit-learn estimator, for cross-validation and grid search."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split
from multimodn.errors import DataWarning, StudyError, did_you_mean, shown
from multimodn.model.multimodn import MultiModN
from multimodn.study.study import Study
from multimodn.training.fit import TrainerFlags

TASK, ALL = "target", "features"
_TRAINING = ("epochs", "batch_size", "learning_rate", "penalty", "patience", "members", "state_size", "update")
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class MultiModNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies rows from whichever modalities each of them has.

    A row that is empty in all columns of a modality does not have it: it is skipped for that row alone.

    Args:
        modalities: For each modality its columns: a DataFrame's names, or an array's positions. A column may stand in
            several or in none. None = one modality of all columns.
        encoder_options: For each modality its encoder's options, `kind` among them (default `table`).
        epochs: Passes over the training rows, at most.
        batch_size: Rows in a batch.
        learning_rate: First step size of Adam.
        penalty: Strength of the L2 penalty, like 1 / C of a logistic regression.
        patience: Epochs without a better validation loss before training stops.
        members: Networks in the ensemble; each leaves out another fold, which stops it.
        state_size: Width of the state.
        update: How an embedding changes the state: ``residual``, ``gated`` or ``linear``.
        validation: Share of the rows that stops the training of a single member; 0 = none. It is drawn class by class
            where there are rows enough, and left out where a class would have no training row.
        random_state: Seed of the draw, the first weights, and the shuffling.

    Attributes:
        classes_: The classes, sorted.
        class_prior_: Their shares among the rows of `fit`.
        model_: The trained model; None where no column says anything, so that everybody gets `class_prior_`.
        modalities_: The columns of each modality that is used.
    """

    def __init__(
        self,
        modalities: Mapping[str, Sequence[Hashable]] | None = None,
        *,
        encoder_options: Mapping[str, Mapping[str, Any]] | None = None,
        epochs: int = 60,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        penalty: float = 0.3,
        patience: int = 20,
        members: int = 1,
        state_size: int = 32,
        update: str = "residual",
        validation: float = 0.2,
        random_state: Any = 0,
    ) -> None:
        self.modalities = modalities
        self.encoder_options = encoder_options
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.penalty = penalty
        self.patience = patience
        self.members = members
        self.state_size = state_size
        self.update = update
        self.validation = validation
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on rows ``X``, a DataFrame or array ``(n, n_features)``, with classes ``y``, ``(n,)``.

        Raises:
            DataError: If a cell cannot be used; the message names row and column.
            StudyError: If `modalities` or `encoder_options` name what is not there.
        """
        frame = self._checked(X, y, reset=True)
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        check_consistent_length(frame, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; a classifier needs two classes.")
        self.class_prior_ = np.bincount(codes) / len(codes)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        train, validation = self._draw(codes, seed)
        self.modalities_ = self._useful(frame.iloc[train])
        self.model_ = self._trained(frame, codes, train, validation, seed) if self.modalities_ else None
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Returns the probability of each class, ``(n, n_classes)``; without any modality, the prior.

        Raises:
            DataError: If a cell cannot be read; the message names row and column.
        """
        check_is_fitted(self)
        frame = self._checked(X)
        if self.model_ is None:
            return np.tile(self.class_prior_, (len(frame), 1))
        values = self.model_.predict(self._cohort(frame))["value"].to_numpy(np.float64)
        if len(self.classes_) == 2:
            return np.stack([1 - values, values], axis=1)
        probabilities = values.reshape(len(frame), len(self.classes_))
        return np.asarray(probabilities / probabilities.sum(1, keepdims=True), dtype=np.float64)

    def predict(self, X: Any) -> NDArray[Any]:
        """Returns the most probable class of each row, ``(n,)``."""
        codes = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[codes])

    def contributions(self, X: Any) -> pd.DataFrame:
        """Shares each prediction out among the row's modalities; see `MultiModN.contributions`.

        Returns:
            One row for each row of ``X``, class (of two: the second) and present modality, indexed as ``X``:
            ``output`` (the class), ``modality``, ``contribution``, ``standard_error``, ``prior``,
            ``prediction``, in log-odds.
        """
        check_is_fitted(self)
        frame = self._checked(X)
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(frame))
        if self.model_ is None:
            columns = ["output", "modality", "contribution", "standard_error", "prior", "prediction"]
            return pd.DataFrame(columns=columns, index=index[:0])
        shares = self.model_.contributions(self._cohort(frame)).drop(columns="task")
        codes = shares["output"].replace(TASK, "1").astype(int)
        shares["output"] = self.classes_[codes.to_numpy()]
        return shares.set_axis(index[shares.index.astype(int)], axis=0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _checked(self, X: Any, y: Any = "no_validation", *, reset: bool = False) -> pd.DataFrame:
        """Returns the rows as a frame with text for columns and row numbers for patients; ``X`` stays."""
        if not isinstance(X, pd.DataFrame) or X.empty:
            X = check_array(X, ensure_all_finite="allow-nan", input_name="X")
        validate_data(self, X, y, reset=reset, skip_check_array=True)
        frame = pd.DataFrame(X, copy=False).copy(deep=False)
        frame.columns = pd.Index([str(name) for name in frame.columns])
        return frame.set_axis([str(i) for i in range(len(frame))], axis=0)

    def _draw(self, codes: Integers, seed: int) -> tuple[Integers, Integers]:
        """Draws training and validation rows; every class is among the training rows."""
        from sklearn.model_selection import train_test_split

        rows = np.arange(len(codes))
        for stratify in (codes, None) if self.validation and self.members == 1 else ():
            try:
                options = {"test_size": self.validation, "stratify": stratify, "random_state": seed}
                train, validation = train_test_split(rows, **options)
            except ValueError:  # too few rows for that
                continue
            if len(np.unique(codes[train])) == len(self.classes_):
                return train, validation
        return rows, rows[:0]

    def _useful(self, frame: pd.DataFrame) -> dict[str, list[str]]:
        """Returns the modalities with a column that is not the same for all training rows."""
        given = self.modalities if self.modalities is not None else {ALL: list(frame.columns)}
        if not given:
            raise StudyError("`modalities` is empty: name the columns of at least one, or leave it None.")
        useful, constant = {}, []
        for name, columns in given.items():
            names = [str(column) for column in columns]
            if unknown := [column for column in names if column not in frame.columns]:
                nearest = did_you_mean(unknown[0], frame.columns)
                raise StudyError(f"modality '{name}': X has no column '{unknown[0]}'.{nearest}")
            if any(frame[column].nunique() > 1 for column in names):
                useful[name] = names
            else:
                constant.append(name)
        if constant:
            text = f"Left out modalities in which all training rows are the same: {shown(constant)}."
            warnings.warn(text, DataWarning, stacklevel=3)
        return useful

    def _cohort(self, frame: pd.DataFrame, codes: Integers | None = None) -> Cohort:
        tables = {name: frame[columns] for name, columns in self.modalities_.items()}
        labels = None if codes is None else pd.DataFrame({TASK: codes.astype(str)}, index=frame.index)
        targets = None if labels is None else {TASK: labels}
        return Cohort.from_frames(tables, targets, patients=frame.index)

    def _trained(
        self, frame: pd.DataFrame, codes: Integers, train: Integers, validation: Integers, seed: int
    ) -> MultiModN:
        ids = frame.index.to_numpy(dtype=object)
        split = Split(ids[train], ids[validation], ids[:0])
        cohort, flags = self._cohort(frame, codes), TrainerFlags(progress=False)
        model = MultiModN(self._study(seed)).fit(cohort, split=split, flags=flags)
        model.trained.ensemble.double()  # so that a row's prediction is the same in any company, to the last digits
        return model

    def _study(self, seed: int) -> Study:
        options = dict(self.encoder_options or {})
        named = list(self.modalities if self.modalities is not None else (ALL,))
        if unknown := [name for name in options if name not in named]:
            nearest = did_you_mean(unknown[0], named)
            raise StudyError(f"`encoder_options` name an unknown modality '{unknown[0]}'.{nearest}")
        two = len(self.classes_) == 2
        kind = "binary" if two else "multiclass"
        classes = {"positive": "1"} if two else {"classes": [str(k) for k in range(len(self.classes_))]}
        table = {"kind": "table"}
        modalities = [table | dict(options.get(name, {})) | {"name": name, "source": "X"} for name in self.modalities_]
        return Study(
            name="scikit-learn",
            cohort={"patient": "row", "sources": {"X": "X.csv"}},
            modalities=modalities,
            tasks=[{"name": TASK, "kind": kind, "source": "X", "target": TASK, **classes}],
            split={"validation": 0.0, "test": 0.0, "stratify": TASK},
            training={name: getattr(self, name) for name in _TRAINING} | {"seed": seed},
        )
