"""Whole-slide images by the features of their tiles: gated attention over all tiles of all slides of a patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Annotated, ClassVar, Self

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from multimodn.base.encoder import JSON, Encoder, FileOptions, Options
from multimodn.base.feature_groups import Parts
from multimodn.base.ragged import Ragged, softmax, total
from multimodn.encoders._layers import Layers
from multimodn.encoders._slides.bags import BLOCK_TILES, Bags
from multimodn.encoders._slides.files import TileSource, load_bags
from multimodn.encoders._slides.pooling import GatedAttention, Pool, highest

N_SPREAD_PATIENTS = 64  # training patients, evenly spaced, on whom the first contrasts are measured
N_FREQUENCIES = 4  # frequencies of the position embedding, along either side: 1, 2, 4 and 8 half waves over the tissue
BASELINE = "every tile replaced by the mean tile of the training patients, at its own place"


class SlideOptions(FileOptions):
    """Options of a slide modality.

    Attributes:
        column: The column of feature files, one for each slide; see `multimodn.slides.open_features`.
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width to which a tile's features are mapped, and of a token; the attention has twice as many gates.
        dropout: Share of the hidden units behind the pool that are set to 0 in training.
        n_heads: Attention heads, each with its own mean.
        coordinates: Whether a tile's position, relative to the extent of the slide's tiles, is an input.
        max_tiles: Tiles of a patient in a training pass, drawn anew in each; null = all. Evaluation sees all. Few are
            quick and make attention sharper.
        top_k: In evaluation only this many tiles of a patient, those of highest attention, enter the attention's mean
            and the tokens; null = all. The plain mean is over all tiles, as in training.
        n_tokens: How many tiles of a patient, those of highest attention, the state may attend to one by one.
        memory_gb: Features of more than this many gigabytes (10^9 bytes) stay in their files and are read when needed.
    """

    column: str = "file"
    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    n_heads: int = Field(default=1, ge=1)
    coordinates: bool = False
    max_tiles: Annotated[int, Field(ge=1)] | None = 1024
    top_k: Annotated[int, Field(ge=1)] | None = None
    n_tokens: int = Field(default=64, ge=1)
    memory_gb: float = Field(default=4.0, ge=0.0)


class SlideEncoder(Encoder):
    """Pools the tiles of all slides of a patient, by gated attention and by their plain mean.

    Features are standardised by mean and standard deviation of the training patients' tiles, each patient with the
    same weight. A linear map reduces a tile to h. `Layers` maps to the embedding the mean m of h over the patient's
    tiles, and for each head its contrast ``asinh((a - m) / s)``, where a is the mean by attention. At first attention
    is mildly uneven and contrasts are small; s is their initial size, as the network would learn too slowly from too
    small an input. They grow a hundredfold once attention finds a few tiles, which the asinh bounds. The order of tiles
    and slides does not matter.

    All feature files of a study must come from the same tile encoder (by its hash), at the same resolution and with the
    same stain normaliser. For files without a hash (CLAM's and TRIDENT's) only the number of features is checked, and
    the encoder's name where both of two such files state it.

    Attributes:
        source: The tile encoder of the training files.

    References:
        Ilse, Tomczak and Welling (2018), equations 8 and 9, https://arxiv.org/abs/1802.04712
    """

    Options: ClassVar[type[Options]] = SlideOptions
    several_rows: ClassVar[bool] = True
    mean: Tensor
    scale: Tensor
    spread: Tensor

    def __init__(self, source: TileSource, options: SlideOptions) -> None:
        super().__init__()
        self.options, self.source, self.on_error = options, source, options.on_error
        hidden_size, n_heads = options.hidden_size, options.n_heads
        self.embedding_size, self.columns, self.token_size = options.embedding_size, [options.column], hidden_size
        self.vector_size = source.feature_size
        self.register_buffer("mean", torch.zeros(source.feature_size))
        self.register_buffer("scale", torch.ones(source.feature_size))
        self.register_buffer("spread", torch.ones(()))
        self.reduce = nn.Linear(source.feature_size, hidden_size, bias=False)
        nn.init.orthogonal_(self.reduce.weight)
        self.place = nn.Linear(4 * N_FREQUENCIES, hidden_size, bias=False) if options.coordinates else None
        if self.place is not None:
            nn.init.zeros_(self.place.weight)
        self.attend = GatedAttention(hidden_size, 2 * hidden_size, n_heads)
        self.layers = Layers((1 + n_heads) * hidden_size, hidden_size, 1, options.embedding_size, options.dropout)

    @staticmethod
    def file_columns(options: SlideOptions) -> list[str]:
        """Returns the column of feature files."""
        return [options.column]

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: SlideOptions) -> Self:
        """Builds the encoder from training rows; see `Encoder.fit`, and `load_bags` for the errors."""
        bags, source = load_bags(frame, options.column, options.memory_gb, needs_coords=options.coordinates)
        encoder = cls(source, options)
        mean, variance = _moments(bags)
        is_constant = variance <= 1e-12 * (variance + mean.square())
        encoder.mean.copy_(mean)
        scale = torch.where(is_constant, 0.0, variance.clamp(min=torch.finfo(torch.float32).tiny).rsqrt())
        encoder.scale.copy_(scale)
        encoder._fit_spread(bags)
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Bags:
        """Reads the feature files of patients; see `Encoder.prepare`, and `fit` for the errors."""
        options = self.options
        bags, _ = load_bags(frame, options.column, options.memory_gb, self.source, needs_coords=options.coordinates)
        return bags

    def forward(self, values: Bags) -> Tensor:
        """Encodes n patients to ``(n, embedding_size)``, each independently of the others."""
        bags = self._drawn(values)
        return self._embed(*self._means(bags, *self._pool(bags)))

    @torch.no_grad()
    def vector(self, values: Bags) -> Tensor:
        """Returns the mean of each patient's standardised tiles; see `Encoder.vector`."""
        sums, rows = self.mean.new_zeros(len(values), len(self.mean)), values.tiles.rows.to(self.mean.device)
        for start, stop in _blocks(values.n_tiles):
            sums += total(values.features(start, stop).to(self.mean), rows[start:stop], len(values))
        return (sums / values.tiles.lengths.to(self.mean).unsqueeze(1) - self.mean) * self.scale

    def with_tokens(self, values: Bags) -> tuple[Tensor, Ragged]:
        """Encodes n patients to ``(n, embedding_size)``, and returns their tiles of highest attention.

        Those are, for each patient, at most ``n_tokens`` h, ``(n_tokens, hidden_size)``, in the order of its tiles.
        """
        bags = self._drawn(values)
        pool, scores = self._pool(bags)
        embedding = self._embed(*self._means(bags, pool, scores))
        chosen = self._top(bags, scores, self.options.n_tokens)
        tokens = self._tiles(chosen, 0, chosen.n_tiles)
        return embedding, Ragged(tokens, chosen.tiles.lengths.to(tokens.device))

    @torch.no_grad()
    def attention(self, values: Bags) -> Ragged:
        """Returns the weight of every tile in its patient's mean by attention, for heat maps.

        Items ``(n_tiles,)`` are means over heads that add up to 1 for each patient. With ``top_k`` all other tiles have
        weight 0. `Bags.places` returns file and position of each tile in the same order.
        """
        scores = self._pool(values)[1]
        rows = values.tiles.rows.to(scores.device)
        weights = softmax(scores, rows, len(values))
        if self.options.top_k is not None:
            kept, _ = highest(weights.mean(1), rows, values.tiles.lengths.to(rows.device), self.options.top_k)
            weights = torch.zeros_like(scores).index_copy(0, kept, softmax(scores[kept], rows[kept], len(values)))
        return Ragged(weights.mean(1), values.tiles.lengths.to(scores.device))

    def parts(self, frame: pd.DataFrame, values: Bags, patch: int) -> Parts:
        """Makes each tile a part, with ``file`` and corner ``x``, ``y`` in level-0 pixels; see `Encoder.parts`."""
        places = values.places().drop(columns="patient").astype({"file": object})
        stems = {file: Path(file).stem for file in places["file"].unique()}
        numbers = places.groupby("file", sort=False).cumcount() + 1
        named = [
            f"tile {number if isnan(x) else f'at {x:.0f}, {y:.0f}'} of {stems[file]}"
            for file, x, y, number in zip(places["file"], places["x"], places["y"], numbers, strict=True)
        ]
        names = places.assign(feature=named, value=named)
        return Parts.one_by_one(names, values.tiles.lengths, values, BASELINE, self.options.hidden_size)

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns means of tiles behind gates; a closed tile counts as the mean tile; see `Encoder.vector_parts`."""
        patients, which = torch.unique(rows, return_inverse=True)
        n_tiles, bags = gates.shape[1], parts.content[patients]
        blocks = [bags.features(start, stop).to(self.mean) for start, stop in _blocks(bags.n_tiles)]
        tiles = ((torch.cat(blocks) - self.mean) * self.scale).view(len(patients), n_tiles, -1)
        means = torch.zeros(len(rows), tiles.shape[2], dtype=tiles.dtype, device=tiles.device)
        for k in range(len(patients)):  # tiles of one patient are not copied for each row of gates
            own = (which == k).nonzero().squeeze(1)
            means = means.index_copy(0, own, gates[own].to(tiles) @ tiles[k] / n_tiles)
        return means

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> tuple[Tensor, Ragged]:
        """Encodes tiles behind gates; see `Encoder.encode_parts`.

        The tiles of ``top_k`` and of the tokens are those with open gates: else the embedding would jump on the way.
        """
        patients, which = torch.unique(rows, return_inverse=True)
        n, n_tiles = gates.shape
        bags = parts.content[patients]
        blocks = [self._parted(bags, start, stop) for start, stop in _blocks(bags.n_tiles)]
        content = torch.cat([block for block, _ in blocks])
        by_patient = (len(patients), n_tiles, -1)
        opened = content.view(by_patient)
        if len(patients) > 1:  # one patient is not copied: a large bag is held once
            opened = opened[which]
        gated = opened * gates.to(content).unsqueeze(2)
        if self.place is not None:
            place = torch.cat([block for _, block in blocks if block is not None])
            gated = gated + place.view(by_patient)[which]
            content = content + place
        tiles = gated.flatten(0, 1)
        of_row = torch.arange(n, device=content.device).repeat_interleave(n_tiles)
        with torch.no_grad():
            weights = softmax(self.attend(content), bags.tiles.rows.to(content.device), len(patients)).mean(1)
            weights = weights.view(len(patients), n_tiles)[which].flatten()
        pool, _ = self._pool_blocks(lambda start, stop: tiles[start:stop], len(tiles), of_row, n)
        attended, top_k, lengths = pool, self.options.top_k, torch.full((n,), n_tiles, device=content.device)
        if top_k is not None:
            kept, _ = highest(weights, of_row, lengths, top_k)
            top = tiles[kept]
            attended, _ = self._pool_blocks(lambda start, stop: top[start:stop], len(top), of_row[kept], n)
        mean = pool.summed / n_tiles
        contrast = (attended.attention_mean() - mean.unsqueeze(1)).flatten(1)
        kept, counts = highest(weights, of_row, lengths, min(self.options.n_tokens, top_k or n_tiles))
        return self._embed(mean, contrast), Ragged(tiles[kept], counts)

    def config(self) -> dict[str, JSON]:
        """Returns options and tile encoder; the rest is in the state."""
        return {"options": self.options.model_dump(mode="json"), "source": asdict(self.source)}

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        return cls(TileSource(**config["source"]), SlideOptions.model_validate(config["options"]))

    def _drawn(self, bags: Bags) -> Bags:
        """Draws ``max_tiles`` tiles of each patient in training."""
        most = self.options.max_tiles
        if not self.training or most is None or not (bags.tiles.lengths > most).any():
            return bags
        return bags.keep(*highest(torch.rand(bags.n_tiles), bags.tiles.rows, bags.tiles.lengths, most))

    def _tiles(self, bags: Bags, start: int, stop: int) -> Tensor:
        """Returns h of tiles ``start`` to ``stop``, ``(stop - start, hidden_size)``."""
        content, place = self._parted(bags, start, stop)
        return content if place is None else content + place

    def _parted(self, bags: Bags, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Returns the two summands of h: of the features and, with coordinates, of the position."""
        features = bags.features(start, stop).to(self.mean)
        content: Tensor = self.reduce((features - self.mean) * self.scale)
        place = None if self.place is None else self.place(_waves(bags.positions(start, stop).to(self.mean)))
        return content, place

    def _pool(self, bags: Bags) -> tuple[Pool, Tensor]:
        """Pools all tiles, and returns their scores ``(n_tiles, n_heads)`` too."""
        rows = bags.tiles.rows.to(self.mean.device)
        return self._pool_blocks(lambda start, stop: self._tiles(bags, start, stop), bags.n_tiles, rows, len(bags))

    def _pool_blocks(
        self, read: Callable[[int, int], Tensor], n_tiles: int, rows: Tensor, n_rows: int
    ) -> tuple[Pool, Tensor]:
        """Pools tiles that are read block by block."""

        def part(start: int, stop: int) -> tuple[Tensor, ...]:
            tiles = read(start, stop)
            scores = self.attend(tiles)
            return *Pool.of(tiles, scores, rows[start:stop], n_rows), scores

        pool, scores = None, []
        for start, stop in _blocks(n_tiles):
            if torch.is_grad_enabled() and n_tiles > BLOCK_TILES:  # else many tiles are held several times over
                *sums, score = checkpoint(part, start, stop, use_reentrant=False, preserve_rng_state=False)
            else:
                *sums, score = part(start, stop)
            scores.append(score)
            pool = Pool(*sums) if pool is None else pool.join(Pool(*sums))
        assert pool is not None
        return pool, torch.cat(scores)

    def _top(self, bags: Bags, scores: Tensor, n_most: int) -> Bags:
        """Returns the tiles of highest attention, ``n_most`` of each patient."""
        if self.options.top_k is not None and not self.training:
            n_most = min(n_most, self.options.top_k)
        rows, lengths = bags.tiles.rows.to(scores.device), bags.tiles.lengths.to(scores.device)
        weights = softmax(scores.detach(), rows, len(bags)).mean(1)
        return bags.keep(*highest(weights, rows, lengths, n_most))

    def _embed(self, mean: Tensor, contrast: Tensor) -> Tensor:
        """Maps mean tiles ``(n, hidden_size)`` and contrasts ``(n, n_heads x hidden_size)`` to embeddings."""
        return self.layers(torch.cat([mean, torch.asinh(contrast / self.spread)], dim=1))

    def _means(self, bags: Bags, pool: Pool, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean tiles ``(n, hidden_size)`` and for each head by how much attention moves them."""
        mean = pool.summed / bags.tiles.lengths.to(scores).unsqueeze(1)
        if self.options.top_k is not None and not self.training:
            pool, _ = self._pool(self._top(bags, scores, self.options.top_k))
        return mean, (pool.attention_mean() - mean.unsqueeze(1)).flatten(1)

    @torch.no_grad()
    def _fit_spread(self, bags: Bags) -> None:
        """Sets the scale of contrasts to that of the first contrasts of some training patients."""
        some = bags[torch.linspace(0, len(bags) - 1, min(len(bags), N_SPREAD_PATIENTS)).long()]
        self.attend.start(self._pool(some)[1])
        spread = self._means(some, *self._pool(some))[1].square().mean().sqrt()
        if spread > 1e-6:  # else there is no patient with two different tiles
            self.spread.copy_(spread)


def _moments(bags: Bags) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of tiles, float64 ``(feature_size,)`` each; every patient has the same weight."""
    n, size = len(bags), bags.store.feature_size
    sums, squares = torch.zeros(2, n, size, dtype=torch.float64)
    rows = bags.tiles.rows
    for start, stop in _blocks(bags.n_tiles):
        features = bags.features(start, stop).double()
        sums += total(features, rows[start:stop], n)
        squares += total(features.square(), rows[start:stop], n)
    n_tiles = bags.tiles.lengths.unsqueeze(1)
    mean = (sums / n_tiles).mean(0)
    return mean, (squares / n_tiles).mean(0) - mean.square()


def _blocks(n_tiles: int) -> list[tuple[int, int]]:
    """Returns the first tile of each block and the one after its last; one empty block if there are no tiles."""
    return [(start, min(start + BLOCK_TILES, n_tiles)) for start in range(0, max(n_tiles, 1), BLOCK_TILES)]


def _waves(positions: Tensor) -> Tensor:
    """Returns sines and cosines of positions ``(n, 2)`` in 0 to 1, ``(n, 4 * N_FREQUENCIES)``."""
    frequencies = torch.pi * 2.0 ** torch.arange(N_FREQUENCIES, device=positions.device, dtype=positions.dtype)
    angles = (positions.unsqueeze(2) * frequencies).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
