"""Small tables for the encoders, and one fitted encoder of each kind and flavour."""

import copy
import functools

import numpy as np
import pandas as pd
import torch

from multimodn.base.ragged import Ragged
from multimodn.encoders import EmbeddingEncoder, EmbeddingOptions, TableEncoder, TableOptions
from multimodn.encoders._slides.bags import Bags
from tests.encoders._code_cases import CASES as CODES
from tests.encoders._image_cases import CASES as PICTURES
from tests.encoders._series_cases import CASES as SERIES
from tests.encoders._slide_cases import CASES as SLIDES
from tests.encoders._text_cases import CASES as TEXTS


def mixed_table(n_rows=60, seed=0):
    """Numbers, an integer count, a two-valued flag and text, each with some empty cells but the flag."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "lactate": rng.lognormal(size=n_rows),
            "age": rng.integers(20, 90, n_rows).astype(float),
            "nodes": rng.integers(0, 5, n_rows).astype(float),
            "smoker": rng.integers(0, 2, n_rows),
            "site": pd.Series(rng.choice(["larynx", "oral", "pharynx"], n_rows)),
        }
    ).set_axis([f"P{i}" for i in range(n_rows)])
    for name in ("lactate", "age", "nodes", "site"):
        frame.loc[rng.random(n_rows) < 0.2, name] = None
    return frame


def wide_table(n_rows=40, n_columns=200, seed=0):
    values = np.random.default_rng(seed).lognormal(size=(n_rows, n_columns))
    return pd.DataFrame(values, [f"P{i}" for i in range(n_rows)], [f"g{i}" for i in range(n_columns)])


def vectors(n_rows=40, n_columns=6, seed=0):
    return wide_table(n_rows, n_columns, seed)


COLUMNS = {
    "piecewise": (TableEncoder, TableOptions(dropout=0.2, units={"lactate": "mmol/l"}), mixed_table),
    "periodic": (TableEncoder, TableOptions(numeric="periodic"), mixed_table),
    "linear": (TableEncoder, TableOptions(n_layers=0, numeric="scaled", scaling="standard"), mixed_table),
    "indicated": (TableEncoder, TableOptions(indicate_empty=True), mixed_table),
    "few components": (TableEncoder, TableOptions(n_components=2), mixed_table),
    "wide": (TableEncoder, TableOptions(), wide_table),
    "embedding": (EmbeddingEncoder, EmbeddingOptions(), vectors),
    "wide embedding": (EmbeddingEncoder, EmbeddingOptions(embedding_size=5, n_layers=0), wide_table),
}


ALL = COLUMNS | TEXTS | SERIES | CODES | PICTURES | SLIDES
"""Every kind and flavour: `COLUMNS` read columns of numbers and levels, one row a patient, the others anything else."""


def fitted(name):
    """Returns an encoder in evaluation mode and the frame it was fitted on."""
    encoder, frame = _fitted(name)
    return copy.deepcopy(encoder), frame.copy()


@functools.cache
def _fitted(name):
    kind, options, make = ALL[name]
    frame = make()
    return kind.fit(frame, options).eval(), frame


def tensors(values):
    """What prepared values hold, as tensors."""
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, Ragged):
        return [values.items, values.lengths]
    if isinstance(values, Bags):
        return [values.features(0, values.n_tiles), values.positions(0, values.n_tiles), values.tiles.lengths]
    pictures = values.stacked()
    return [pictures.items, pictures.lengths]
