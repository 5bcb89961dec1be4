"""Whole-slide images: reading, tissue, tiles, their embeddings, heat maps.

What this package exports is imported when it is first used, so that a command that needs no slides does not wait for
the libraries that do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multimodn.slides.embedding.cohort import EmbedError, embed_slides, find_slides
    from multimodn.slides.embedding.embed import EmbedOptions, SlideResult, embed_slide
    from multimodn.slides.embedding.tile_encoders import TileEncoder, load_tile_encoder
    from multimodn.slides.feature_files.features import (
        FeatureMeta,
        SlideFeatures,
        open_features,
        read_features,
        write_features,
    )
    from multimodn.slides.heatmaps.heatmap import draw_heatmap
    from multimodn.slides.reader.open import open_slide
    from multimodn.slides.reader.slide import Slide, SlideError
    from multimodn.slides.tiles.stain import normaliser
    from multimodn.slides.tiles.tiling import Tiling, tile_extent, tile_grid
    from multimodn.slides.tiles.tissue import Tissue, TissueOptions, draw_tissue, find_tissue

_HOME = {
    "EmbedError": "embedding.cohort",
    "EmbedOptions": "embedding.embed",
    "FeatureMeta": "feature_files.features",
    "Slide": "reader.slide",
    "SlideError": "reader.slide",
    "SlideFeatures": "feature_files.features",
    "SlideResult": "embedding.embed",
    "TileEncoder": "embedding.tile_encoders",
    "Tiling": "tiles.tiling",
    "Tissue": "tiles.tissue",
    "TissueOptions": "tiles.tissue",
    "draw_heatmap": "heatmaps.heatmap",
    "draw_tissue": "tiles.tissue",
    "embed_slide": "embedding.embed",
    "embed_slides": "embedding.cohort",
    "find_slides": "embedding.cohort",
    "find_tissue": "tiles.tissue",
    "load_tile_encoder": "embedding.tile_encoders",
    "normaliser": "tiles.stain",
    "open_features": "feature_files.features",
    "open_slide": "reader.open",
    "read_features": "feature_files.features",
    "tile_extent": "tiles.tiling",
    "tile_grid": "tiles.tiling",
    "write_features": "feature_files.features",
}

__all__ = [
    "EmbedError",
    "EmbedOptions",
    "FeatureMeta",
    "Slide",
    "SlideError",
    "SlideFeatures",
    "SlideResult",
    "TileEncoder",
    "Tiling",
    "Tissue",
    "TissueOptions",
    "draw_heatmap",
    "draw_tissue",
    "embed_slide",
    "embed_slides",
    "find_slides",
    "find_tissue",
    "load_tile_encoder",
    "normaliser",
    "open_features",
    "open_slide",
    "read_features",
    "tile_extent",
    "tile_grid",
    "write_features",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
