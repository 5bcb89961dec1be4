"""Draws where a trained model looked on the slides of patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from multimodn.errors import DataError, raise_all, shown
from multimodn.missingness.audit_picture import LIGHT, Palette
from multimodn.slides.features import open_features
from multimodn.slides.heatmap import draw_heatmap
from multimodn.slides.reading import open_slide

SCORE = "attention, times the mean over the patient's tiles"


def draw_attention(
    found: pd.DataFrame,
    slides: Sequence[Path],
    out: Path,
    mpp: float | None = None,
    palette: Palette = LIGHT,
) -> list[Path]:
    """Draws a heat map for each slide of some patients.

    A tile's score is its attention times the number of the patient's tiles: 1 is what it would have if the model looked
    everywhere alike.

    Args:
        found: What `MultiModN.attention` returned for a slide modality.
        slides: The slide files, or folders that hold them (searched through); a feature file finds its slide by the
            name that it was written with, else by its own.
        out: The folder to write, ``<patient>-<slide>.png`` each.
        mpp: Microns per level-0 pixel, where slides do not say.
        palette: `multimodn.slides.heatmap.LIGHT` or ``DARK``.

    Returns:
        The pictures.

    Raises:
        DataError: If a slide is not found, or a feature file does not say where its tiles are; all are listed.
    """
    known = _by_name(slides)
    places: list[tuple[str, Path, int, pd.DataFrame]] = []
    problems: list[str] = []
    for key, tiles in found.groupby(["patient", "file"], sort=False, observed=True):
        patient, file = map(str, cast(tuple[object, object], key))
        with open_features(file) as features:
            meta = features.meta
        path = known.get(str(meta.slide)) or known.get(Path(file).stem)
        if path is None:
            problems.append(f"patient '{patient}': no slide '{meta.slide or Path(file).stem}' for {file}.")
        elif meta.extent is None or tiles["x"].isna().any():
            problems.append(f"patient '{patient}': {file} does not say where its tiles are, or how large.")
        else:
            places.append((patient, path, meta.extent, tiles))
    raise_all(problems, DataError, f"Heat maps from {shown([str(place) for place in slides])}")
    out.mkdir(parents=True, exist_ok=True)
    n_tiles: dict[object, int] = found["patient"].value_counts().to_dict()
    pictures = []
    for patient, path, extent, tiles in places:
        pictures.append(out / f"{patient}-{path.stem}.png")
        scores = tiles["attention"].to_numpy() * n_tiles[patient]
        with open_slide(path, mpp) as slide:
            coords = tiles[["x", "y"]].to_numpy().astype(np.int64)
            title = f"Where the model looked: patient {patient}"
            draw_heatmap(slide, coords, extent, scores, pictures[-1], title, palette=palette, score_name=SCORE)
    return pictures


def _by_name(slides: Sequence[Path]) -> dict[str, Path]:
    """Returns slide files by their name, with and without suffix."""
    files = [file for place in slides for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    files = [file for file in files if file.is_file() and file.suffix != ".h5"]
    return {file.stem: file for file in files} | {file.name: file for file in files}
