"""The tiles of slides, behind gates in front of the pool."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from multimodn.base.feature_groups import Parts
from multimodn.base.ragged import Ragged, softmax
from multimodn.encoders._slides.bags import BLOCK_TILES, Bags
from multimodn.encoders._slides.pooling import Pool, highest

if TYPE_CHECKING:
    from multimodn.encoders.slide import SlideEncoder

BASELINE = "every tile replaced by the mean tile of the training patients, at its own place"


def tile_parts(bags: Bags, hidden_size: int) -> Parts:
    """Makes each tile a part, with its ``file`` and its corner ``x``, ``y`` in level-0 pixels."""
    places = bags.places().drop(columns="patient").astype({"file": object})
    stems = {file: Path(file).stem for file in places["file"].unique()}
    numbers = places.groupby("file", sort=False).cumcount() + 1
    named = [
        f"tile {number if isnan(x) else f'at {x:.0f}, {y:.0f}'} of {stems[file]}"
        for file, x, y, number in zip(places["file"], places["x"], places["y"], numbers, strict=True)
    ]
    names = places.assign(feature=named, value=named)
    return Parts.one_by_one(names, bags.tiles.lengths, bags, BASELINE, hidden_size)


def encode_tiles(encoder: SlideEncoder, bags: Bags, rows: Tensor, gates: Tensor) -> tuple[Tensor, Ragged]:
    """Encodes bags whose tiles stand behind gates ``(k, P)``.

    Which tiles are among the ``top_k``, and which the state looks at, is decided with open gates and stays so: else the
    embedding would jump on the way.
    """
    patients, which = torch.unique(rows, return_inverse=True)
    n, n_tiles = gates.shape
    some = bags[patients]
    content, place = encoder.tiles_of(some)
    by_patient = (len(patients), n_tiles, -1)
    # one patient is not copied: a large bag is held once
    opened = content.view(by_patient)[which] if len(patients) > 1 else content.view(by_patient)
    tiles = opened * gates.to(content).unsqueeze(2)
    if place is not None:
        tiles = tiles + place.view(by_patient)[which]
        content = content + place
    rows_of_tiles = torch.arange(n, device=content.device).repeat_interleave(n_tiles)
    with torch.no_grad():
        weights = softmax(encoder.attend(content), some.tiles.rows.to(content.device), len(patients)).mean(1)
        weights = weights.view(len(patients), n_tiles)[which].flatten()
    tiles = tiles.flatten(0, 1)
    pool = _pool(encoder, tiles, rows_of_tiles, n)
    top_k = encoder.options.top_k
    attended = pool
    lengths = torch.full((n,), n_tiles, device=content.device)
    if top_k is not None:
        kept, _ = highest(weights, rows_of_tiles, lengths, top_k)
        attended = _pool(encoder, tiles[kept], rows_of_tiles[kept], n)
    mean = pool.summed / n_tiles
    contrast = (attended.attention_mean() - mean.unsqueeze(1)).flatten(1)
    kept, counts = highest(weights, rows_of_tiles, lengths, min(encoder.options.n_tokens, top_k or n_tiles))
    return encoder.embed_means(mean, contrast), Ragged(tiles[kept], counts)


def _pool(encoder: SlideEncoder, tiles: Tensor, rows: Tensor, n: int) -> Pool:
    """Pools tiles part by part; of many tiles only their h is held."""

    def part(some: Tensor, of_row: Tensor) -> tuple[Tensor, ...]:
        return tuple(Pool.of(some, encoder.attend(some), of_row, n))

    blocks: Any = zip(torch.split(tiles, BLOCK_TILES), torch.split(rows, BLOCK_TILES), strict=True)
    if len(tiles) <= BLOCK_TILES or not torch.is_grad_enabled():
        pools = [Pool(*part(*block)) for block in blocks]
    else:
        pools = [Pool(*checkpoint(part, *b, use_reentrant=False, preserve_rng_state=False)) for b in blocks]
    pool = pools[0]
    for other in pools[1:]:
        pool = pool.join(other)
    return pool
