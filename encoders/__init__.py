"""The modality kinds of this package, one file each."""

from __future__ import annotations

from multimodn.encoders._tables.layout import TableOptions
from multimodn.encoders.codes import CodesEncoder, CodesOptions
from multimodn.encoders.embedding import EmbeddingEncoder, EmbeddingOptions
from multimodn.encoders.image import ImageEncoder, ImageOptions
from multimodn.encoders.series import SeriesEncoder, SeriesOptions
from multimodn.encoders.slide import SlideEncoder, SlideOptions
from multimodn.encoders.table import TableEncoder
from multimodn.encoders.text import TextEncoder, TextOptions
from multimodn.encoders.volume import VolumeEncoder, VolumeOptions

__all__ = [
    "CodesEncoder", "CodesOptions", "EmbeddingEncoder", "EmbeddingOptions", "ImageEncoder", "ImageOptions",
    "SeriesEncoder", "SeriesOptions", "SlideEncoder", "SlideOptions", "TableEncoder", "TableOptions", "TextEncoder",
    "TextOptions", "VolumeEncoder", "VolumeOptions",
]  # fmt: skip
