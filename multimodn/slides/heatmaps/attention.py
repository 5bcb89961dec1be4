"""Draws attention and attributions of a trained model on the slides of patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from multimodn.errors import DataError, raise_all, shown
from multimodn.figures.theme import LIGHT, Theme
from multimodn.files import make_folder
from multimodn.slides.feature_files.features import open_features
from multimodn.slides.heatmaps.heatmap import draw_heatmap
from multimodn.slides.reader.open import open_slide

SCORE = "attention relative to the mean of the patient's tiles"
EVIDENCE = "attribution on the link scale, positive: raises the prediction"


@dataclass(frozen=True)
class SlideTiles:
    """A slide of a patient and the tiles of its feature file."""

    patient: str
    slide: Path
    extent: int  # side of a tile, level-0 pixels
    mpp: float | None  # microns per level-0 pixel that the feature file states
    tiles: pd.DataFrame


def draw_attention(
    attention: pd.DataFrame, slides: Sequence[Path], out: Path, mpp: float | None = None, palette: Theme = LIGHT
) -> list[Path]:
    """Draws a heat map of attention, of a slide modality from `MultiModN.attention`, for each slide of some patients.

    A tile's score is its attention times the number of the patient's tiles: 1 if attention is the same everywhere.
    Returns the files written, ``<patient>-<slide>.png`` in the folder ``out``.

    Args:
        attention: Of a slide modality, from `MultiModN.attention`.
        slides: The slide files, or folders that hold them (searched through); the slide of a feature file is the one
            whose name the file states, else the one of the same name.
        out: The folder to write.
        mpp: Microns per level-0 pixel, where neither feature files nor slides state it.
        palette: `multimodn.figures.theme.LIGHT` or ``DARK``.

    Raises:
        DataError: If a slide is missing, or a feature file does not state where its tiles are; all are listed.
    """
    n_tiles = attention["patient"].value_counts()
    scores = attention["attention"] * attention["patient"].map(n_tiles).to_numpy()
    return _draw(attention.assign(score=scores), slides, out, mpp, palette, "Attention of the model", SCORE)


def draw_evidence(
    attributions: pd.DataFrame, slides: Sequence[Path], out: Path, mpp: float | None = None, palette: Theme = LIGHT
) -> list[Path]:
    """Draws a heat map of what each tile contributed to a prediction, for each slide of some patients.

    ``attributions`` are those of a slide modality, one task and one output, from `MultiModN.attributions`; a DataError
    if there are several. For the rest see `draw_attention`.
    """
    outputs = attributions[["task", "output"]].drop_duplicates()
    if len(outputs) != 1:
        listed = shown([f"{task}: {output}" for task, output in outputs.itertuples(index=False)])
        raise DataError(f"A heat map shows one task and output, these are {len(outputs)}: {listed}. Name one.")
    tiles = attributions.reset_index().assign(score=attributions["attribution"].to_numpy())
    task, output = outputs.iloc[0]
    name = task if task == output else f"{task}: {output}"
    return _draw(tiles, slides, out, mpp, palette, f"Attributions to {name}", EVIDENCE)


def _draw(
    tiles: pd.DataFrame, slides: Sequence[Path], out: Path, mpp: float | None, palette: Theme, title: str, name: str
) -> list[Path]:
    """Draws the column ``score`` of tiles, which is called ``name``."""
    if tiles.empty:
        raise DataError("There is nothing to draw: none of these patients has a tile.")
    places, files = find_places(tiles, slides), []
    make_folder(out)
    for place in places:
        files.append(out / f"{place.patient}-{place.slide.stem}.png")
        coords, scores = place.tiles[["x", "y"]].to_numpy(np.int64), place.tiles["score"].to_numpy()
        whole = f"{title}: patient {place.patient}"
        with open_slide(place.slide, mpp or place.mpp) as slide:
            draw_heatmap(slide, coords, place.extent, scores, files[-1], whole, palette=palette, score_name=name)
    return files


def find_places(tiles: pd.DataFrame, slides: Sequence[Path]) -> list[SlideTiles]:
    """Returns the slide and the tiles of each feature file; see `draw_attention`."""
    files = [file for place in slides for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    files = [file for file in files if file.is_file() and file.suffix != ".h5"]
    by_name = {file.stem: file for file in files} | {file.name: file for file in files}
    places, problems = list[SlideTiles](), list[str]()
    for key, part in tiles.groupby(["patient", "file"], sort=False, observed=True):
        patient, file = map(str, cast(tuple[object, object], key))
        with open_features(file) as features:
            meta = features.meta
        path = by_name.get(str(meta.slide)) or by_name.get(Path(file).stem)
        if path is None:
            problems.append(f"patient '{patient}': no slide '{meta.slide or Path(file).stem}' for {file}.")
        elif meta.extent is None or part["x"].isna().any():
            problems.append(f"patient '{patient}': {file} does not state where its tiles are, or how large.")
        else:
            places.append(SlideTiles(patient, path, meta.extent, meta.mpp, part))
    raise_all(problems, DataError, f"Heat maps from {shown([str(place) for place in slides])}")
    return places
