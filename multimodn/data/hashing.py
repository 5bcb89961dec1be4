"""A hash of tables that depends on neither the order of rows and columns nor the place of files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import are_plain, column_blocks, plain_numbers
from multimodn.data.files import path_hash


def with_contents(frame: pd.DataFrame, files: list[str]) -> pd.DataFrame:
    """Replaces paths by the hashes of their files."""
    if not files:
        return frame
    return frame.assign(**{name: frame[name].map(path_hash, na_action="ignore") for name in files if name in frame})


def add_table(digest: Any, name: str, frame: pd.DataFrame) -> None:
    """Adds a table, indexed by patient, to a hash of `hashlib`."""
    keys = frame.index.to_numpy(dtype=object).astype(str)
    if frame.index.is_unique:
        order = np.argsort(keys, kind="stable")
    else:  # rows of one patient by what they hold
        ranks = [pd.factorize(frame[name].astype(str), sort=True)[0] for name in sorted(frame.columns, key=str)]
        order = np.lexsort([*ranks, keys])
    _digest_texts(digest, name, keys[order].tolist())
    columns, plain = list(frame.columns), are_plain(frame)
    places = np.array(sorted(range(len(columns)), key=lambda place: str(columns[place])), dtype=np.intp)
    for block in column_blocks(len(frame), len(places)):
        some = places[block]
        numbers = iter(plain_numbers(frame, some[plain[some]]))
        for place in some.tolist():
            if plain[place]:
                _digest_numbers(digest, columns[place], next(numbers)[order])
            else:
                _digest_column(digest, frame.iloc[:, place], order)


def _digest_column(digest: Any, values: pd.Series[Any], order: NDArray[np.intp]) -> None:
    if pd.api.types.is_numeric_dtype(values.dtype):
        _digest_numbers(digest, values.name, values.to_numpy(dtype=float, na_value=np.nan)[order])
        return
    texts = values.to_numpy(dtype=object)[order]
    empty = pd.isna(texts)
    digest.update(empty.tobytes())
    _digest_texts(digest, str(values.name), np.where(empty, "", texts).tolist())


def _digest_numbers(digest: Any, name: Any, numbers: NDArray[np.float64]) -> None:
    numbers[np.isnan(numbers)] = np.nan  # one bit pattern for all of them
    digest.update(f"\0{name}\0number\0".encode() + numbers.tobytes())


def _digest_texts(digest: Any, name: str, texts: list[Any]) -> None:
    lengths = np.fromiter((len(text) for text in map(str, texts)), dtype=np.int64, count=len(texts))
    digest.update(f"\0{name}\0text\0".encode() + lengths.tobytes() + "".join(map(str, texts)).encode())
