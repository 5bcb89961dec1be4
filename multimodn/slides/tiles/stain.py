"""Stain normalisation, for tiles from laboratories that stain differently."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import StudyError, did_you_mean

NORMALISERS = ("macenko",)
STAINED = 206  # a pixel with all channels below absorbs > 0.15 of an intensity of 240, MONAI's bound for tissue
LEAST_STAINED = 0.01


class Normaliser:
    """Maps each of the tiles ``(n, h, w, 3)``, uint8, to one of the same form; this one changes nothing."""

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the tiles as they are."""
        return tiles


class MacenkoNormaliser(Normaliser):
    """Brings haematoxylin and eosin to reference colours and strengths, by MONAI's `NormalizeHEStains`.

    Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009. A tile is returned
    unchanged, and counted in ``n_unchanged``, where less than 1 % of its pixels are stained or MONAI finds no two
    stains.
    """

    def __init__(self) -> None:
        from monai.apps.pathology.transforms.stain.array import NormalizeHEStains

        self._transform: Any = NormalizeHEStains()
        self.n_unchanged = 0

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Normalises tiles ``(n, h, w, 3)``, each independently of the others."""
        stained = (tiles.max(axis=-1) < STAINED).mean(axis=(1, 2)) >= LEAST_STAINED
        result = tiles.copy()
        for i in np.flatnonzero(stained).tolist():
            try:
                with np.errstate(divide="raise", invalid="raise"):
                    result[i] = self._transform(tiles[i])
            except (ValueError, FloatingPointError, np.linalg.LinAlgError):
                stained[i] = False
        self.n_unchanged += int((~stained).sum())
        return result


def normaliser(name: str | None) -> Normaliser:
    """Returns the stain normalisation of a name (None = none), or raises a StudyError if there is none of that name."""
    if name is not None and name not in NORMALISERS:
        raise StudyError(f"Unknown stain normalisation '{name}'.{did_you_mean(name, NORMALISERS)}")
    return Normaliser() if name is None else MacenkoNormaliser()
