"""Heat maps of attention for a report: of few slides, small, and without the names of the files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.model.multimodn import MultiModN

if TYPE_CHECKING:
    from multimodn.slides.heatmaps.attention import SlideTiles

MOST_SLIDES, MOST_PICTURES = 3, 8  # slides of a patient; of all patients, but for the first slide of each
PIXELS = 900  # the longest side of a picture
COLOURS = 128


def draw_maps(model: MultiModN, few: Cohort, labels: Mapping[str, str], slides: Path) -> list[tuple[str, int, bytes]]:
    """Draws a model's attention on the slides of each patient; returns patient, number of the slide, and a PNG.

    Slides are numbered: the names of their files, which often name the patient, stand nowhere in the pictures.

    Raises:
        DataError: If a slide is not found, or a feature file does not say where its tiles are; all are listed.
    """
    from multimodn.explain.attention import with_parts
    from multimodn.slides.heatmaps.attention import find_places

    drawn: list[tuple[str, int, bytes]] = []
    for modality in with_parts(model.trained.ensemble):
        tiles = model.explain.attention(modality, few)
        n_tiles = tiles["patient"].map(tiles["patient"].value_counts())
        most = min(MOST_SLIDES, max(1, MOST_PICTURES // max(1, tiles["patient"].nunique())))
        number_of_file = tiles.groupby("patient", sort=False)["file"].transform(lambda files: pd.factorize(files)[0])
        first = tiles.assign(score=tiles["attention"] * n_tiles)[number_of_file < most]
        for place in find_places(first, [slides]):
            number = 1 + sum(one == place.patient for one, _, _ in drawn)
            drawn.append((place.patient, number, _drawn(place, f"patient {labels[place.patient]}", number)))
    return drawn


def _drawn(place: SlideTiles, who: str, number: int) -> bytes:
    from PIL import Image

    from multimodn.slides.heatmaps.attention import SCORE
    from multimodn.slides.heatmaps.heatmap import draw_heatmap
    from multimodn.slides.reader.open import open_slide

    with TemporaryDirectory() as folder, open_slide(place.slide, place.mpp) as slide:
        slide.path = Path(f"slide {number}")  # an open slide has it for words only
        file = Path(folder) / "map.png"
        coords, scores = place.tiles[["x", "y"]].to_numpy().astype(np.int64), place.tiles["score"].to_numpy()
        draw_heatmap(slide, coords, place.extent, scores, file, f"Attention of the model: {who}", score_name=SCORE)
        with Image.open(file) as picture:
            small = picture.convert("RGB")
    small.thumbnail((PIXELS, PIXELS))
    buffer = io.BytesIO()
    small.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
