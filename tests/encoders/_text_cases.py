"""A tiny transformer with random weights, and reports of its words."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from multimodn.encoders._texts.reports import clean
from multimodn.encoders.text import TextEncoder, TextOptions

_WORDS = "patient has no carcinoma larynx tumour size large small margin clear invasion of the with left right"
WORDS = _WORDS.split()
LONGEST = 40  # tokens that the network takes, special ones included


def tokens(encoder, text):
    """The token numbers of a report, and where in it each begins and ends."""
    network, cleaned = encoder._network(), clean(text)
    return torch.from_numpy(network.token_ids([cleaned])[0]), network.offsets(cleaned)


def through_tokens(encoder, ids):
    """Encodes reports of equal length from their tokens, with a path for gradients."""
    vectors = encoder._network().differentiable(ids, encoder.options.windowing)
    return encoder(encoder._project(vectors.to(encoder.centre)))


def write_network(folder, seed=0, hidden_size=16):
    """Writes a BERT of two layers whose words are `WORDS` and single letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "[", "]", *letters, *(f"##{c}" for c in letters)]
    vocabulary += WORDS
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden_size,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=LONGEST,
            initializer_range=0.5,
        )
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(str(folder), local_files_only=True).save_pretrained(folder)
    return folder


FOLDER = tempfile.mkdtemp(prefix="multimodn-text-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@functools.cache
def network():
    """Returns the folder of the network, written once a process."""
    return write_network(Path(FOLDER) / "network")


def report(rng, n_words):
    return " ".join(rng.choice(WORDS, n_words))


def reports(n_rows=40, seed=0):
    """One report a patient, of one to three windows; every fifth patient has a second one."""
    network()
    rng = np.random.default_rng(seed)
    patients = [f"P{i}" for i in range(n_rows)]
    twice = patients[::5]
    texts = [report(rng, rng.integers(3, 60)) for _ in [*patients, *twice]]
    return pd.DataFrame({"report": texts}, pd.Index([*patients, *twice], name="patient"))


@functools.cache
def _files(n_rows, seed):
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    frame = reports(n_rows, seed)
    paths = []
    for number, text in enumerate(frame["report"]):
        paths.append(str(folder / f"{number}.txt"))
        Path(paths[-1]).write_text(text)
    return frame.index, paths


def report_files(n_rows=40, seed=0):
    """The same reports as files."""
    index, paths = _files(n_rows, seed)
    return pd.DataFrame({"path": paths}, index)


TINY = {"model": str(Path(FOLDER) / "network"), "overlap": 4}

CASES = {
    "text": (TextEncoder, TextOptions(**TINY), reports),
    "text files": (TextEncoder, TextOptions(**TINY, file_column="path", n_layers=0, n_components=5), report_files),
}
