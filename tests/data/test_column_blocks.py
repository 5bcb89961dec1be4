"""Blocks of columns give what reading column by column gives, bit for bit and word for word."""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort, Study
from multimodn.data import checks, leaks
from multimodn.data.hashing import add_table
from multimodn.data.modality_frames import with_values
from multimodn.encoders.embedding import EmbeddingEncoder, EmbeddingOptions
from multimodn.encoders.table import TableEncoder, TableOptions
from multimodn.errors import DataError

N = 24
USERS = (
    "multimodn.encoders._reading",
    "multimodn.encoders._tables.columns",
    "multimodn.data.hashing",
    "multimodn.data.checks",
)


def blanked(rng, values):
    return pd.Series(values).astype(float).mask(rng.random(N) < 0.3)


GOOD = {
    "normal": lambda rng: rng.normal(size=N),
    "with empty cells": lambda rng: blanked(rng, rng.normal(100.0, 3.0, N)),
    "skewed": lambda rng: rng.exponential(size=N) ** 3,
    "single precision": lambda rng: rng.normal(size=N).astype(np.float32),
    "huge": lambda rng: rng.normal(size=N) * 1e300,
    "integers": lambda rng: rng.integers(-5, 60, N),
    "integers with empty cells": lambda rng: blanked(rng, rng.integers(0, 4, N)),
    "large integers": lambda rng: rng.integers(0, 3, N) + 2**60,
    "nullable integers": lambda rng: blanked(rng, rng.integers(0, 9, N)).astype("Int64"),
    "booleans": lambda rng: rng.random(N) < 0.5,
    "nullable booleans": lambda rng: pd.Series(rng.random(N) < 0.5).astype("boolean").mask(rng.random(N) < 0.3),
    "two values": lambda rng: np.where(rng.random(N) < 0.5, -0.0, 7.0),
    "two zeros": lambda rng: np.where(rng.random(N) < 0.5, -0.0, 0.0),
    "numbers as text": lambda rng: [f" {value:.3f}" if value > -1 else "" for value in rng.normal(size=N)],
    "numbers as objects": lambda rng: pd.Series(rng.integers(0, 9, N)).astype(object),
    "levels": lambda rng: rng.choice(["a", "b ", "", "c"], N),
    "categories": lambda rng: pd.Categorical(rng.choice([1, 2, 3], N)),
    "constant": lambda _: np.full(N, 3.5),
    "empty": lambda _: np.full(N, np.nan),
}
BAD = {
    "infinite": lambda rng: np.where(rng.random(N) < 0.2, -np.inf, rng.normal(size=N)),
    "unclean": lambda rng: np.where(rng.random(N) < 0.2, "?", rng.normal(size=N).astype(str)),
    "dates": lambda rng: pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 99, N), unit="D"),
}


def make_frame(kinds: list[str], seed: int) -> pd.DataFrame:
    rng, index = np.random.default_rng(seed), pd.Index([f"p{i}" for i in range(N)], name="patient")
    columns = [pd.Series(np.asarray(v) if isinstance(v := (GOOD | BAD)[kind](rng), list) else v) for kind in kinds]
    named = {f"{k} {kind}": column.set_axis(index) for k, (kind, column) in enumerate(zip(kinds, columns, strict=True))}
    return pd.DataFrame(named, index=index)


def in_blocks(work, *, of_cells: int, singly: bool):
    """Runs ``work`` with blocks of some cells; ``singly``: every column takes the path of those that are not plain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodn.base.column_blocks.BLOCK_CELLS", of_cells)
        for module in USERS if singly else ():
            patch.setattr(f"{module}.are_plain", lambda frame: np.zeros(frame.shape[1], dtype=bool))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = work()
            except DataError as error:
                result = str(error)
        return result, [str(warning.message) for warning in caught if warning.category.__module__ == "multimodn.errors"]


def fitted(kind, options, frame):
    encoder = kind.fit(frame, options)
    return (
        json.dumps(encoder.config()),
        {name: tensor.numpy().tobytes() for name, tensor in encoder.scaler.state_dict().items()},
        encoder.prepare(frame).numpy().tobytes(),
    )


@given(
    kinds=st.lists(st.sampled_from([*GOOD, *GOOD, *BAD]), min_size=1, max_size=9), seed=st.integers(0, 999),
    width=st.integers(1, 4), scaling=st.sampled_from(["standard", "quantile"]), indicate=st.booleans(),
)  # fmt: skip
def test_a_mixed_table_is_read_as_column_by_column(kinds, seed, width, scaling, indicate):
    frame = make_frame(kinds, seed)
    label = pd.DataFrame({"y": frame.iloc[:, 0].to_numpy()}, index=frame.index)

    def hashed() -> str:
        digest = hashlib.sha256()
        add_table(digest, "table", frame)
        return digest.hexdigest()

    for work in (
        lambda: fitted(TableEncoder, TableOptions(scaling=scaling, indicate_empty=indicate), frame),
        lambda: fitted(EmbeddingEncoder, EmbeddingOptions(), frame),
        lambda: checks.infinite_problems("m", frame),
        lambda: list(map(str, checks.column_notes("m", frame))),
        lambda: list(map(str, leaks.leak_notes("m", frame, {"task": label}))),
        lambda: with_values(frame).index.tolist(),
        hashed,
    ):
        assert in_blocks(work, of_cells=width * N, singly=False) == in_blocks(work, of_cells=1, singly=True)


def test_a_leak_of_a_label_of_different_values_is_found_in_blocks():
    rng, index = np.random.default_rng(0), pd.Index([f"p{i}" for i in range(40)], name="patient")
    frame = pd.DataFrame(rng.normal(size=(40, 50)), index=index).add_prefix("g")
    label = frame["g7"] * (1 + 1e-9)
    frame.loc["p3", "g7"] = np.nan
    notes = leaks.leak_notes("m", frame, {"task": label.to_frame("y")})
    assert ["g7" in str(note) for note in notes] == [True]


def test_numeric_columns_are_not_read_one_by_one(monkeypatch):
    n_columns, rng = 300, np.random.default_rng(0)
    index = pd.Index([f"p{i}" for i in range(30)], name="patient")
    wide = pd.DataFrame(rng.normal(size=(30, n_columns)), index=index).add_prefix("g")
    wide.iloc[4] = np.nan  # a patient without the modality
    targets = pd.DataFrame({"y": rng.normal(size=30)}, index=index)
    study = Study.from_dict(
        {
            "name": "wide",
            "cohort": {"patient": "patient", "sources": {"omics": "o.csv", "y": "y.csv"}},
            "modalities": [{"name": "omics", "kind": "table", "source": "omics"}],
            "tasks": [{"name": "y", "kind": "regression", "source": "y", "target": "y"}],
        },
        Path(),
    )
    counts = []

    def counted(kind):
        original = kind.__getitem__

        def get(self, key):
            counts.append(key)
            return original(self, key)

        monkeypatch.setattr(kind, "__getitem__", get)

    counted(pd.DataFrame)
    counted(type(wide.iloc))
    cohort = Cohort.load(study, sources={"omics": wide, "y": targets})
    cohort.hash()
    for kind, options in ((TableEncoder, TableOptions()), (EmbeddingEncoder, EmbeddingOptions())):
        kind.fit(cohort.modalities["omics"], options).prepare(cohort.modalities["omics"])
    assert cohort.modalities["omics"].shape == (29, n_columns)
    assert len(counts) < n_columns / 3
