"""Whole-slide images by the features of their tiles: gated attention over all tiles of all slides of a patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

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
from multimodn.encoders._slides.tiles import encode_tiles, tile_parts

N_SPREAD_PATIENTS = 64
"""Training patients, evenly spaced, on whom the first contrasts are measured."""
N_FREQUENCIES = 4
"""Frequencies of the position embedding, along either side: half a wave over the tissue, then 2, 4 and 8 halves."""


class SlideOptions(FileOptions):
    """Options of a slide modality.

    Attributes:
        column: The column of feature files: HDF5 as `slides.feature_files.features` writes or reads it, a slide a file.
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width to which a tile's features are mapped, and that of a token; the attention has twice as many
            gates.
        dropout: Share of the hidden units behind the pool that are set to 0 in training.
        n_heads: Attentions side by side, each with a mean of its own.
        coordinates: Whether a tile's place in its slide enters, relative to the extent of the slide's tiles.
        max_tiles: Tiles of a patient that a training pass sees, drawn anew in each; null = all. Evaluation sees all.
            Few are quick, and make attention sharper, which need not be sharp to tell classes apart by all of them.
        top_k: In evaluation only this many tiles of a patient, those of highest attention, enter the attention's mean
            and the tokens; null = all. The plain mean is over all tiles either way, as in training.
        n_tokens: How many tiles of a patient, those of highest attention, the state may look at one by one.
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
    same weight. A linear map reduces a tile to h. What `Layers` maps to the embedding is the mean m of h over the
    patient's tiles, and for each head ``asinh((a - m) / s)``, where a is the mean by attention: its contrast. At first
    attention is mildly uneven and contrasts are small; s is their size then, as too small an input would be learnt from
    too slowly. They grow a hundredfold once attention finds a few tiles, which the asinh bounds. The plain mean is a
    straight path to the embedding. Neither the order of tiles nor that of slides counts.

    All feature files of a study must come from the same tile encoder, told by its hash, at the same resolution and with
    the same stain normaliser. Beside files without a hash (CLAM's and TRIDENT's) only the number of features can be
    checked, and the encoder's name where both of two such files say it: the rest is up to you.

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
        """Builds the encoder from training rows; see `Encoder.fit`.

        Raises:
            DataError: If two files come from different tile encoders or have different numbers of features.
            UnreadableError: If files are missing, damaged, without a tile, or hold numbers that are not finite.
            MissingExtraError: If h5py is not installed.
        """
        bags, source = load_bags(frame, options.column, options.memory_gb, needs_coords=options.coordinates)
        encoder = cls(source, options)
        mean, variance = _moments(bags)
        is_constant = variance <= 1e-12 * (variance + mean.square())
        scale = torch.where(is_constant, 0.0, variance.clamp(min=torch.finfo(torch.float32).tiny).rsqrt())
        encoder.mean.copy_(mean)
        encoder.scale.copy_(scale)
        encoder._fit_spread(bags)
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Bags:
        """Reads the feature files of any patients who have slides; see `Encoder.prepare`.

        Raises:
            DataError: If a file comes from another tile encoder than the training files.
            UnreadableError: If files are missing, damaged, without a tile, or hold numbers that are not finite.
        """
        options = self.options
        bags, _ = load_bags(frame, options.column, options.memory_gb, self.source, needs_coords=options.coordinates)
        return bags

    def forward(self, values: Bags) -> Tensor:
        """Encodes n patients to ``(n, embedding_size)``; each for itself."""
        bags = self._seen(values)
        pool, scores = self._pool(bags)
        return self._embed(bags, pool, scores)

    def with_tokens(self, values: Bags) -> tuple[Tensor, Ragged]:
        """Encodes n patients, and returns their tiles of highest attention.

        Returns:
            The embedding ``(n, embedding_size)``; for each patient at most ``n_tokens`` tiles h,
            ``(n_tokens, hidden_size)``, in the order of its tiles. `token_tiles` says which they are.
        """
        bags = self._seen(values)
        pool, scores = self._pool(bags)
        embedding = self._embed(bags, pool, scores)
        chosen = self._top(bags, scores, self.options.n_tokens)
        tokens = self._tiles(chosen, 0, chosen.n_tiles)
        return embedding, Ragged(tokens, chosen.tiles.lengths.to(tokens.device))

    @torch.no_grad()
    def token_tiles(self, values: Bags) -> Bags:
        """Returns the tiles that `with_tokens` gives in evaluation."""
        return self._top(values, self._pool(values)[1], self.options.n_tokens)

    @torch.no_grad()
    def attention(self, values: Bags) -> Ragged:
        """Returns the weight of every tile in its patient's mean by attention, for heat maps.

        Returns:
            Items ``(n_tiles,)``, the mean over heads; they add up to 1 for each patient. With ``top_k`` all other tiles
            have weight 0. `Bags.places` says in the same order from which file and place each tile comes.
        """
        scores = self._pool(values)[1]
        rows = values.tiles.rows.to(scores.device)
        weights = softmax(scores, rows, len(values))
        if self.options.top_k is not None:
            kept, _ = highest(weights.mean(1), rows, values.tiles.lengths.to(rows.device), self.options.top_k)
            weights = torch.zeros_like(scores).index_copy(0, kept, softmax(scores[kept], rows[kept], len(values)))
        return Ragged(weights.mean(1), values.tiles.lengths.to(scores.device))

    def parts(self, frame: pd.DataFrame, values: Bags, patch: int) -> Parts:
        """Makes each tile a part; see `Encoder.parts`."""
        return tile_parts(values, self.options.hidden_size)

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> tuple[Tensor, Ragged]:
        """Encodes tiles behind gates; see `Encoder.encode_parts` and `multimodn.encoders._slides.tiles`."""
        return encode_tiles(self, parts.content, rows, gates)

    def config(self) -> dict[str, JSON]:
        """Returns options and tile encoder; the rest is in the state."""
        return {"options": self.options.model_dump(mode="json"), "source": self.source.to_dict()}

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        return cls(TileSource(**config["source"]), SlideOptions.model_validate(config["options"]))

    def _seen(self, bags: Bags) -> Bags:
        """In training, draws ``max_tiles`` tiles of each patient."""
        most = self.options.max_tiles
        if not self.training or most is None or not (bags.tiles.lengths > most).any():
            return bags
        return bags.keep(*highest(torch.rand(bags.n_tiles), bags.tiles.rows, bags.tiles.lengths, most))

    def tiles_of(self, bags: Bags) -> tuple[Tensor, Tensor | None]:
        """Returns what h holds of the features of all tiles and, where it counts, of their place.

        Both are ``(n_tiles, hidden_size)``.
        """
        starts = range(0, max(bags.n_tiles, 1), BLOCK_TILES)
        parts = [self._parted(bags, start, min(start + BLOCK_TILES, bags.n_tiles)) for start in starts]
        places = [place for _, place in parts if place is not None]
        return torch.cat([content for content, _ in parts]), torch.cat(places) if places else None

    def _tiles(self, bags: Bags, start: int, stop: int) -> Tensor:
        """Returns h of tiles ``start`` to ``stop``, ``(stop - start, hidden_size)``."""
        content, place = self._parted(bags, start, stop)
        return content if place is None else content + place

    def _parted(self, bags: Bags, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        features = bags.features(start, stop).to(self.mean)
        content: Tensor = self.reduce((features - self.mean) * self.scale)
        if self.place is None:
            return content, None
        return content, self.place(_waves(bags.positions(start, stop).to(self.mean)))

    def _part(self, bags: Bags, rows: Tensor, start: int, stop: int) -> tuple[Tensor, ...]:
        tiles = self._tiles(bags, start, stop)
        scores = self.attend(tiles)
        return *Pool.of(tiles, scores, rows[start:stop], len(bags)), scores

    def _pool(self, bags: Bags) -> tuple[Pool, Tensor]:
        """Pools all tiles, and returns their scores ``(n_tiles, n_heads)`` too."""
        rows = bags.tiles.rows.to(self.mean.device)
        starts = range(0, max(bags.n_tiles, 1), BLOCK_TILES)
        pool, scores = None, []
        for start in starts:
            part: Any = (bags, rows, start, min(start + BLOCK_TILES, bags.n_tiles))
            if torch.is_grad_enabled() and len(starts) > 1:  # else a batch of many tiles is held several times over
                *sums, score = checkpoint(self._part, *part, use_reentrant=False, preserve_rng_state=False)
            else:
                *sums, score = self._part(*part)
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

    def _embed(self, bags: Bags, pool: Pool, scores: Tensor) -> Tensor:
        return self.embed_means(*self._means(bags, pool, scores))

    def embed_means(self, mean: Tensor, contrast: Tensor) -> Tensor:
        """Maps mean tiles ``(n, hidden_size)`` and contrasts ``(n, n_heads x hidden_size)`` to embeddings."""
        embedding: Tensor = self.layers(torch.cat([mean, torch.asinh(contrast / self.spread)], dim=1))
        return embedding

    def _means(self, bags: Bags, pool: Pool, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean tiles ``(n, hidden_size)`` and for each head by how much attention moves them."""
        n_tiles = bags.tiles.lengths.to(scores).unsqueeze(1)
        mean = pool.summed / n_tiles
        attended = pool.attention_mean()
        if self.options.top_k is not None and not self.training:
            top = self._top(bags, scores, self.options.top_k)
            attended = self._pool(top)[0].attention_mean()
        contrast = (attended - mean.unsqueeze(1)).flatten(1)
        return mean, contrast

    @torch.no_grad()
    def _fit_spread(self, bags: Bags) -> None:
        """Measures the first contrasts of some training patients."""
        some = bags[torch.linspace(0, len(bags) - 1, min(len(bags), N_SPREAD_PATIENTS)).long()]
        self.attend.start(self._pool(some)[1])
        spread = self._means(some, *self._pool(some))[1].square().mean().sqrt()
        if spread > 1e-6:  # else there is no patient with two different tiles
            self.spread.copy_(spread)


def _moments(bags: Bags) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of tiles, float64 ``(feature_size,)`` each.

    Every patient has the same weight, whatever the number of tiles.
    """
    n, size = len(bags), bags.store.feature_size
    sums, squares = torch.zeros(2, n, size, dtype=torch.float64)
    rows = bags.tiles.rows
    for start in range(0, bags.n_tiles, BLOCK_TILES):
        stop = min(start + BLOCK_TILES, bags.n_tiles)
        features = bags.features(start, stop).double()
        sums += total(features, rows[start:stop], n)
        squares += total(features.square(), rows[start:stop], n)
    n_tiles = bags.tiles.lengths.unsqueeze(1)
    mean = (sums / n_tiles).mean(0)
    return mean, (squares / n_tiles).mean(0) - mean.square()


def _waves(positions: Tensor) -> Tensor:
    """Returns sines and cosines of positions ``(n, 2)`` in 0 to 1, ``(n, 4 * N_FREQUENCIES)``."""
    frequencies = torch.pi * 2.0 ** torch.arange(N_FREQUENCIES, device=positions.device, dtype=positions.dtype)
    angles = (positions.unsqueeze(2) * frequencies).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
