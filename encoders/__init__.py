"""The modality kinds of this package, one file each."""

from __future__ import annotations

from multimodn.encoders._layout import TableOptions
from multimodn.encoders.embedding import EmbeddingEncoder, EmbeddingOptions
from multimodn.encoders.table import TableEncoder

__all__ = ["EmbeddingEncoder", "EmbeddingOptions", "TableEncoder", "TableOptions"]
