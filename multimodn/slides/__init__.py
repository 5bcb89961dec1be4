"""Whole-slide images: reading, tissue, tiles, their embeddings, heat maps.

Exported names are imported when they are first used, so that commands without slides start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multimodn.slides.embedding.cohort import EmbedError, embed_slides, find_slides
    from multimodn.slides.embedding.embed import EmbedOptions, SlideResult, embed_slide
    from multimodn.slides.embedding.tile_encoders import TileEncoder, load_tile_encoder
    from multimodn.slides.feature_files.features import SlideFeatures, open_features, read_features, write_features
    from multimodn.slides.feature_files.metadata import FeatureMeta
    from multimodn.slides.heatmaps.heatmap import draw_heatmap
    from multimodn.slides.reader.open import open_slide
    from multimodn.slides.reader.slide import Slide, SlideError
    from multimodn.slides.tiles.stain import normaliser
    from multimodn.slides.tiles.tiling import Tiling, tile_extent, tile_grid
    from multimodn.slides.tiles.tissue import Tissue, TissueOptions, draw_tissue, find_tissue

_MODULES = {
    "embedding.cohort": ("EmbedError", "embed_slides", "find_slides"),
    "embedding.embed": ("EmbedOptions", "SlideResult", "embed_slide"),
    "embedding.tile_encoders": ("TileEncoder", "load_tile_encoder"),
    "feature_files.features": ("FeatureMeta", "SlideFeatures", "open_features", "read_features", "write_features"),
    "heatmaps.heatmap": ("draw_heatmap",),
    "reader.open": ("open_slide",),
    "reader.slide": ("Slide", "SlideError"),
    "tiles.stain": ("normaliser",),
    "tiles.tiling": ("Tiling", "tile_extent", "tile_grid"),
    "tiles.tissue": ("Tissue", "TissueOptions", "draw_tissue", "find_tissue"),
}

__all__ = [
    "EmbedError", "EmbedOptions", "FeatureMeta", "Slide", "SlideError", "SlideFeatures", "SlideResult", "TileEncoder",
    "Tiling", "Tissue", "TissueOptions", "draw_heatmap", "draw_tissue", "embed_slide", "embed_slides", "find_slides",
    "find_tissue", "load_tile_encoder", "normaliser", "open_features", "open_slide", "read_features", "tile_extent",
    "tile_grid", "write_features",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
