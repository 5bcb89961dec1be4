"""Draws where a trained model looked on the slides of patients, and what it found there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from multimodn.errors import DataError, raise_all, shown
from multimodn.figures.theme import LIGHT, Theme
from multimodn.slides.feature_files.features import open_features
from multimodn.slides.heatmaps.heatmap import draw_heatmap
from multimodn.slides.reader.open import open_slide

SCORE = "attention, times the mean over the patient's tiles"
EVIDENCE = "attribution on the link scale, + raises the prediction"


def draw_attention(
    found: pd.DataFrame,
    slides: Sequence[Path],
    out: Path,
    mpp: float | None = None,
    palette: Theme = LIGHT,
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
        palette: `multimodn.slides.heatmaps.heatmap.LIGHT` or ``DARK``.

    Returns:
        The pictures.

    Raises:
        DataError: If a slide is not found, or a feature file does not say where its tiles are; all are listed.
    """
    n_tiles = found["patient"].value_counts()
    scores = found["attention"] * found["patient"].map(n_tiles).to_numpy()
    return _draw(found.assign(score=scores), slides, out, mpp, palette, "Where the model looked", SCORE)


def draw_evidence(
    found: pd.DataFrame,
    slides: Sequence[Path],
    out: Path,
    mpp: float | None = None,
    palette: Theme = LIGHT,
) -> list[Path]:
    """Draws a heat map of what each tile did to a prediction, for each slide of some patients.

    Args:
        found: What `MultiModN.attributions` returned for a slide modality, of one task and output.
        slides: See `draw_attention`.
        out: The folder to write.
        mpp: See `draw_attention`.
        palette: See `draw_attention`.

    Returns:
        The pictures.

    Raises:
        DataError: See `draw_attention`; also if there are several tasks or outputs.
    """
    asked = found[["task", "output"]].drop_duplicates()
    if len(asked) != 1:
        listed = shown([f"{task}: {output}" for task, output in asked.itertuples(index=False)])
        raise DataError(f"A heat map shows one task and output, these are {len(asked)}: {listed}. Name one.")
    tiles = found.reset_index().assign(score=found["attribution"].to_numpy())
    task, output = asked.iloc[0]
    words = task if task == output else f"{task}: {output}"
    return _draw(tiles, slides, out, mpp, palette, f"What the model found for {words}", EVIDENCE)


def _draw(
    found: pd.DataFrame,
    slides: Sequence[Path],
    out: Path,
    mpp: float | None,
    palette: Theme,
    title: str,
    score_name: str,
) -> list[Path]:
    """Draws the column ``score`` of tiles."""
    places = find_places(found, slides)
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    for patient, path, extent, tiles in places:
        pictures.append(out / f"{patient}-{path.stem}.png")
        with open_slide(path, mpp) as slide:
            coords, scores = tiles[["x", "y"]].to_numpy().astype(np.int64), tiles["score"].to_numpy()
            whole = f"{title}: patient {patient}"
            draw_heatmap(slide, coords, extent, scores, pictures[-1], whole, palette=palette, score_name=score_name)
    return pictures


def find_places(found: pd.DataFrame, slides: Sequence[Path]) -> list[tuple[str, Path, int, pd.DataFrame]]:
    """Finds the slide of each feature file.

    Args:
        found: Tiles: ``patient``, ``file``, ``x``, ``y`` and whatever else.
        slides: See `draw_attention`.

    Returns:
        For each patient and feature file the patient, the slide, the side of a tile in level-0 pixels, and the tiles.

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
    return places


def _by_name(slides: Sequence[Path]) -> dict[str, Path]:
    """Returns slide files by their name, with and without suffix."""
    files = [file for place in slides for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    files = [file for file in files if file.is_file() and file.suffix != ".h5"]
    return {file.stem: file for file in files} | {file.name: file for file in files}
