"""The pixels of pictures, behind gates before a network."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from multimodn.base.feature_groups import Once, Parts
from multimodn.base.ragged import Ragged, total
from multimodn.encoders._images.values import FileList, Pictures

AXES = {2: ("y", "x"), 3: ("x", "y", "z")}
N_AT_ONCE = 16  # pictures whose pixels are averaged together

BASELINES = {
    "training": "a picture of the mean grey or colour of the training pictures",
    "imagenet": "a picture of the mean colour of ImageNet",
    "picture": "a picture of its own mean grey or colour",
}


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pictures of n patients, and the network that reads them where it is frozen."""

    pictures: Pictures  # as prepared for the network, before normalisation
    frozen: nn.Sequential | None  # normalisation and network; None = each encoder has its own
    once: Once = field(default_factory=Once)  # shares the frozen network's outputs among the members of an ensemble

    def items(self, rows: Tensor, gates: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Reads the pictures of some patients with q pictures each, those of a patient once, ``(u x q, C, *space)``.

        Also returns the patient of each row of ``gates``, long ``(k,)``; gates ``(k, q, 1, *space)``; q.
        """
        patients, which = torch.unique(rows, return_inverse=True)
        stacked = self.pictures[patients].stacked()
        q = int(stacked.lengths[0])
        return stacked.items, which, gates.view(len(rows), q, 1, *stacked.items.shape[2:]), q


def gated(items: Tensor, which: Tensor, gates: Tensor, q: int) -> Tensor:
    """Returns normalised pictures behind gates, ``(k x q, C, *space)``; closed gates give 0."""
    own = items.view(-1, q, *items.shape[1:])[which]
    return (own * gates.to(items)).flatten(0, 1)


def cut_patches(
    pictures: Pictures, listing: FileList, patch: int, normalise: str, frozen: nn.Sequential | None
) -> Parts:
    """Makes each patch of each picture a part, with its ``file`` and its first pixel ``x``, ``y`` (and ``z``).

    Pixels are those of the prepared picture; ``value`` is their mean, 0 to 1.
    """
    store = pictures.store
    channels, *grid = store.shape[1:] if isinstance(store, Tensor) else store.shape
    sizes = [-(-length // patch) for length in grid]
    along = torch.meshgrid(*[torch.arange(length) // patch for length in grid], indexing="ij")
    of_pixel = torch.zeros(grid, dtype=torch.long)
    for place, size in zip(along, sizes, strict=True):
        of_pixel = of_pixel * size + place
    n_patches, n_files = int(np.prod(sizes)), len(listing.files)
    corners = np.stack(np.unravel_index(np.arange(n_patches), sizes), 1) * patch
    columns = dict(sorted(zip(AXES[len(grid)], corners.T, strict=True)))
    shown = [f"patch at {', '.join(map(str, corner))}" for corner in zip(*columns.values(), strict=True)]
    of_pixel = of_pixel.flatten()
    cells = {
        "feature": np.tile(np.array(shown, dtype=object), n_files),
        "value": _means(pictures, of_pixel, n_patches).astype(object),
        "file": np.repeat(np.array(listing.files, dtype=object), n_patches),
    }
    names = pd.DataFrame(cells | {name: np.tile(column, n_files) for name, column in columns.items()})
    lengths = pictures.files.lengths
    places = [(of_pixel + n_patches * torch.arange(n)[:, None]).flatten() for n in lengths.tolist()]
    content = Pixels(pictures, frozen)
    return Parts(names, lengths * n_patches, Ragged.cat(places), content, BASELINES[normalise], channels, tuple(grid))


def _means(pictures: Pictures, of_pixel: Tensor, n_patches: int) -> np.ndarray:
    """Returns the mean of the pixels of each patch of each picture, ``(n_pictures x n_patches,)``."""
    counts, means = torch.bincount(of_pixel, minlength=n_patches), []
    for start in range(0, max(len(pictures.files.items), 1), N_AT_ONCE):
        pixels = pictures.store[pictures.files.items[start : start + N_AT_ONCE]].float().mean(1).flatten(1)
        means.append((total(pixels.T, of_pixel, n_patches) / counts[:, None]).T)
    return torch.cat(means).flatten().double().numpy()
