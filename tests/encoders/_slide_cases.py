"""Small feature files for the slide encoder, and its flavours."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from multimodn.encoders.slide import SlideEncoder, SlideOptions
from multimodn.slides.feature_files.features import FeatureMeta, write_features

F = 6


def write(path, features, coords=None, **meta):
    """Writes a feature file; without coordinates the tiles lie in a row."""
    if coords is None:
        coords = np.stack([np.arange(len(features)) * 256, np.full(len(features), 512)], axis=1)
    meta = {"encoder": "small", "encoder_hash": "a" * 64, **meta}
    write_features(path, np.asarray(features), coords, FeatureMeta(**meta))
    return str(path)


def frame_of(files):
    """The frame of ``(patient, path)`` pairs."""
    index = pd.Index([patient for patient, _ in files], dtype=object, name="patient")
    return pd.DataFrame({"file": pd.Series([str(path) for _, path in files], index=index, dtype=object)})


def slides(n_rows=24, seed=0, folder=None, second=0.0):
    """A file for each patient, and for a share ``second`` of them another one, in mixed order."""
    return _slides(n_rows, seed, None if folder is None else str(folder), second).copy()


@functools.cache
def _slides(n_rows, seed, folder, second):
    if folder is None:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rng = np.random.default_rng(seed)
    files = [(f"P{i}", "first") for i in range(n_rows)]
    files += [(f"P{i}", "second") for i in np.flatnonzero(rng.random(n_rows) < second)]
    centres = rng.normal(size=(n_rows, F))
    rows = []
    for patient, name in files:
        n_tiles = int(rng.integers(1, 12))
        noise = rng.normal(size=(n_tiles, F)) * [1, 2, 3, 0.1, 5, 1] + [0, 9, 0, 0, -9, 2]
        coords = rng.integers(0, 40, size=(n_tiles, 2)) * 256
        path = Path(folder) / f"{seed}-{patient}-{name}.h5"
        rows.append((patient, write(path, (centres[int(patient[1:])] + noise).astype(np.float16), coords)))
    return frame_of(rows)


CASES = {
    "slide": (SlideEncoder, SlideOptions(), slides),
    "slide with places": (
        SlideEncoder,
        SlideOptions(coordinates=True, n_heads=2, hidden_size=16, embedding_size=8, n_tokens=4),
        functools.partial(slides, second=0.4),
    ),
}
