"""Reads vectors of patients from NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data.arrow_table import text_keys
from multimodn.data.reading.delimited import read_patients
from multimodn.errors import DataError, did_you_mean
from multimodn.study.study import SourceSpec


def _members(path: Path, arrays: dict[str, Any]) -> tuple[Any, pd.Index]:
    """Returns features and patients, from two arrays or from one vector per patient, named by patient."""
    missing = [name for name in ("patient", "features") if name not in arrays]
    if not missing:
        return arrays["features"], text_keys(arrays["patient"])
    forms = {(array.shape, array.dtype.kind) for array in arrays.values()}
    if len(missing) == 2 and len(forms) == 1 and all(len(shape) == 1 and kind in "fiu" for shape, kind in forms):
        return np.stack(list(arrays.values())), text_keys(list(arrays))
    raise DataError(f"{path} has no array '{missing[0]}'.{did_you_mean(missing[0], arrays)}")


def read_arrays(spec: SourceSpec, folder: Path, path: Path, patient: str) -> pd.DataFrame:
    """Reads ``features`` (n, d) and the patient of each row; the columns are e0 to e{d-1}.

    Raises a DataError if the file is damaged, or its arrays do not fit each other.
    """
    try:
        with path.open("rb") as file:  # NumPy does not close a damaged file that it has opened
            if path.suffix.lower() == ".npy":
                features = np.load(file, allow_pickle=False)
                keys = read_patients(folder / str(spec.patients), patient)
            else:
                with np.load(file, allow_pickle=False) as arrays:
                    features, keys = _members(path, dict(arrays))
    except DataError:
        raise
    except Exception as error:  # whatever NumPy raises for a damaged file
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}. Is it damaged?") from None
    if features.ndim != 2 or len(features) != len(keys) or features.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: `features` is {features.dtype} of shape {features.shape}, expected numbers of shape "
            f"({len(keys)}, d), one row for each of the {len(keys)} patients."
        )
    names = [f"e{i}" for i in range(features.shape[1])]
    with np.errstate(over="ignore"):  # infinite numbers are an error later on, which names the patient
        return pd.DataFrame(features.astype(np.float32, copy=False), index=keys, columns=names)
