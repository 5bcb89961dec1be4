"""Whole-slide images: reading, tissue, tiles, their embeddings, heat maps.

What this package exports is imported when it is first used, so that a command that needs no slides does not wait for
the libraries that do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multimodn.slides.embed import EmbedOptions, SlideResult, embed_slide
    from multimodn.slides.features import FeatureMeta, SlideFeatures, open_features, read_features, write_features
    from multimodn.slides.heatmap import draw_heatmap
    from multimodn.slides.many import EmbedError, embed_slides, find_slides
    from multimodn.slides.reading import Slide, SlideError, open_slide
    from multimodn.slides.stain import normaliser
    from multimodn.slides.tile_encoders import TileEncoder, load_tile_encoder
    from multimodn.slides.tiling import Tiling, tile_extent, tile_grid
    from multimodn.slides.tissue import Tissue, TissueOptions, draw_tissue, find_tissue

_HOME = {
    "EmbedError": "many",
    "EmbedOptions": "embed",
    "FeatureMeta": "features",
    "Slide": "reading",
    "SlideError": "reading",
    "SlideFeatures": "features",
    "SlideResult": "embed",
    "TileEncoder": "tile_encoders",
    "Tiling": "tiling",
    "Tissue": "tissue",
    "TissueOptions": "tissue",
    "draw_heatmap": "heatmap",
    "draw_tissue": "tissue",
    "embed_slide": "embed",
    "embed_slides": "many",
    "find_slides": "many",
    "find_tissue": "tissue",
    "load_tile_encoder": "tile_encoders",
    "normaliser": "stain",
    "open_features": "features",
    "open_slide": "reading",
    "read_features": "features",
    "tile_extent": "tiling",
    "tile_grid": "tiling",
    "write_features": "features",
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
