"""What holds for the parts of every encoder kind and flavour."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from multimodn.base.encoder import Encoder
from multimodn.base.ragged import Ragged
from multimodn.errors import StudyError
from tests.encoders._frames import ALL, COLUMNS, fitted
from tests.encoders._text_cases import through_tokens

every_kind = pytest.mark.parametrize("name", ALL)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "cache"))


def cut(name, n=8, patch=8):
    """An encoder in double precision whose layers are all awake, prepared values, and their parts."""
    encoder, frame = fitted(name)
    frame = frame[frame.index.isin(frame.index.unique()[:n])]
    values = encoder.prepare(frame)
    parts = encoder.parts(frame, values, patch)
    with torch.no_grad():
        for weight in encoder.double().parameters():
            weight += 0.1 * torch.randn_like(weight)
    return encoder, values, parts, frame


def groups(parts):
    """Rows of patients with equally many gates."""
    lengths = parts.gates.lengths
    return [(lengths == size).nonzero().squeeze(1) for size in lengths.unique()]


def embedded(encoded):
    return encoded[0] if isinstance(encoded, tuple) else encoded


@every_kind
def test_open_gates_encode_what_the_patient_has(name):
    encoder, values, parts, _ = cut(name)
    for rows in groups(parts):
        found = encoder.encode_parts(parts, rows, torch.ones(len(rows), parts.gates.lengths[rows[0]]))
        assert_close(embedded(found), encoder(values[rows]), rtol=1e-4, atol=1e-4)
        if encoder.token_size:
            _, tokens = encoder.with_tokens(values[rows])
            assert torch.equal(found[1].lengths, tokens.lengths)
            assert_close(found[1].items, tokens.items, rtol=1e-6, atol=1e-6)


@every_kind
def test_every_gate_opens_a_part_of_its_patient(name):
    _, values, parts, _ = cut(name)
    assert len(parts.lengths) == len(parts.gates) == len(values)
    assert len(parts.names) == int(parts.lengths.sum())
    assert parts.names["feature"].notna().all()
    for items, n_parts in zip(parts.gates.split(), parts.lengths.tolist(), strict=True):
        assert set(items.tolist()) == set(range(n_parts))


@every_kind
def test_a_row_of_gates_does_not_depend_on_the_others(name):
    encoder, _, parts, _ = cut(name)
    rows = max(groups(parts), key=len)
    rows = torch.cat([rows, rows.flip(0), rows[:1]])
    gates = torch.rand(len(rows), int(parts.gates.lengths[rows[0]]))
    together = embedded(encoder.encode_parts(parts, rows, gates))
    alone = [embedded(encoder.encode_parts(parts, rows[[k]], gates[[k]])) for k in range(len(rows))]
    assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)


@every_kind
def test_gradients_of_gates_are_those_of_differences(name):
    encoder, _, parts, _ = cut(name, 3)
    rows = torch.tensor([0])
    size = int(parts.gates.lengths[0])
    gates = torch.full((1, size), 0.6, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(encoder.embedding_size, dtype=torch.float64)
    change = torch.randn(1, size, dtype=torch.float64)

    def value(gates):
        return (embedded(encoder.encode_parts(parts, rows, gates)) @ direction).sum()

    (gradient,) = torch.autograd.grad(value(gates), gates)
    step = 1e-4 if name.startswith(("text", "frozen")) else 1e-6  # frozen networks are in single precision
    with torch.no_grad():
        expected = (value(gates + step * change) - value(gates - step * change)) / (2 * step)
    assert_close((gradient * change).sum(), expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("name", COLUMNS)
def test_behind_closed_gates_every_patient_is_the_average_one(name):
    encoder, _, parts, frame = cut(name)
    rows = torch.arange(len(frame))
    closed = encoder.encode_parts(parts, rows, torch.zeros(len(rows), len(encoder.columns)))
    assert_close(closed, closed[:1].expand_as(closed))
    if name not in ("embedding", "wide embedding", "indicated"):
        empty = frame.iloc[:1].astype(object)
        empty[:] = None
        encoder = encoder.float()
        assert_close(closed[:1].float(), encoder(encoder.prepare(empty)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_parts_of_columns_are_named_as_the_user_does(name):
    encoder, _, parts, frame = cut(name)
    assert parts.names["feature"].tolist() == encoder.columns * len(frame)
    for k in (0, len(encoder.columns) - 1):
        own = frame[encoder.columns[k]].astype(object).tolist()
        found = parts.names["value"].tolist()[k :: len(encoder.columns)]
        assert [a for a in found if a == a and a is not None] == [b for b in own if b == b and b is not None]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_reference_stands_behind_closed_gates(name):
    from dataclasses import replace

    encoder, values, parts, frame = cut(name)
    with_reference = replace(parts, reference=parts.content[2:3])
    rows = torch.arange(len(frame))
    for gates, expected in ((torch.zeros, encoder(values)[[2] * len(rows)]), (torch.ones, encoder(values))):
        found = encoder.encode_parts(with_reference, rows, gates(len(rows), len(encoder.columns)))
        assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["text", "text files"])
def test_words_are_integrated_as_captum_does_it_at_the_layer_of_words(name):
    from captum.attr import IntegratedGradients, LayerIntegratedGradients

    encoder, _, parts, _ = cut(name, 3)
    patient = next(k for k, reports in enumerate(parts.content.reports) if len(reports) == 1)
    (ids,) = parts.content.reports[patient]
    direction = torch.randn(encoder.embedding_size, dtype=torch.float64)
    mask = torch.full_like(ids, parts.content.network.tokenizer.mask_token_id)
    layer = LayerIntegratedGradients(
        lambda ids: through_tokens(encoder, ids) @ direction, parts.content.network.word_embeddings
    )
    expected = layer.attribute(ids[None], mask[None], n_steps=8).sum(-1)[0]
    gates = torch.ones(1, len(ids), dtype=torch.float64)
    rows = torch.tensor([patient])
    found = IntegratedGradients(lambda gates, rows: encoder.encode_parts(parts, rows, gates) @ direction).attribute(
        gates, additional_forward_args=(rows,), n_steps=8
    )[0]
    assert_close(found.float(), expected.float(), rtol=1e-3, atol=1e-5)


def test_the_words_of_a_report_are_where_they_are_said_to_be():
    _, _, parts, frame = cut("text")
    patients = list(frame.index.unique())
    owner = [patients[k] for k, n in enumerate(parts.lengths.tolist()) for _ in range(n)]
    for patient, word, report, start, stop in zip(
        owner, *(parts.names[c] for c in ("feature", "report", "start", "stop")), strict=True
    ):
        assert frame.loc[[patient], "report"].iloc[report][start:stop] == word


def test_measurements_say_what_was_measured_and_when():
    _, values, parts, frame = cut("series")
    own = frame.reset_index().sort_values(["patient", "time"], kind="stable")
    found = parts.names.assign(patient=frame.index.unique()[values.rows.numpy()])
    found = found.sort_values(["patient", "time"], kind="stable")
    assert found["value"].tolist() == own["value"].tolist()
    assert found["feature"].tolist() == own["variable"].tolist()
    assert set(parts.names.columns) == {"feature", "value", "time"}


def test_tiles_say_where_they_are():
    _, values, parts, _ = cut("slide with places")
    places = values.places()
    assert parts.names["x"].tolist() == places["x"].tolist()
    assert parts.names["file"].tolist() == places["file"].tolist()
    first = places.iloc[0]
    assert parts.names["feature"].iloc[0] == f"tile at {first['x']:.0f}, {first['y']:.0f} of {Path(first['file']).stem}"


@pytest.mark.parametrize("top_k", [1, 3])
def test_which_tiles_count_is_decided_with_open_gates(top_k):
    encoder, values, parts, _ = cut("slide")
    encoder.options = encoder.options.model_copy(update={"top_k": top_k})
    for rows in groups(parts):
        size = int(parts.gates.lengths[rows[0]])
        found, tokens = encoder.encode_parts(parts, rows, torch.ones(len(rows), size))
        assert_close(found, encoder(values[rows]), rtol=1e-6, atol=1e-6)
        assert_close(tokens.items, encoder.with_tokens(values[rows])[1].items)
        fewer, _ = encoder.encode_parts(parts, rows, torch.full((len(rows), size), 1 - 1e-9))
        assert_close(fewer, found, rtol=1e-6, atol=1e-6)


def test_many_tiles_are_pooled_block_by_block(monkeypatch):
    encoder, _, parts, _ = cut("slide")
    rows = max(groups(parts), key=len)
    gates = torch.rand(len(rows), int(parts.gates.lengths[rows[0]]), dtype=torch.float64, requires_grad=True)

    def run():
        embedding, _ = encoder.encode_parts(parts, rows, gates)
        return embedding, *torch.autograd.grad(embedding.square().sum(), gates)

    whole = run()
    monkeypatch.setattr("multimodn.encoders.slide.BLOCK_TILES", 3)
    for one, other in zip(run(), whole, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(("name", "axes"), [("image", ["x", "y"]), ("volume", ["x", "y", "z"])])
def test_patches_cover_a_picture_once(name, axes):
    _, values, parts, _ = cut(name, n=3, patch=10)
    items = values.stacked().items.float()
    for number, (_, patch) in enumerate(parts.names.iterrows()):
        if number == parts.lengths[0]:
            break
        inside = (parts.gates.split()[0] == number).view(parts.grid)
        shown = items[0][:, inside]
        assert shown.mean().item() == pytest.approx(patch["value"], abs=1e-5)
        corner = inside.nonzero().amin(0).tolist()
        expected = [patch["y"], patch["x"]] if len(axes) == 2 else [patch[axis] for axis in axes]
        assert corner == expected


@pytest.mark.parametrize("name", ["image", "frozen image"])
def test_several_pictures_of_a_patient_have_their_own_parts(name):
    encoder, frame = fitted(name)
    frame = frame.iloc[[0, 1, 2]].set_axis(["P0", "P1", "P0"])
    values = encoder.prepare(frame)
    parts = encoder.parts(frame, values, 8)
    assert parts.lengths.tolist() == [18, 9]
    for row in (0, 1):
        rows = torch.tensor([row])
        found = encoder.encode_parts(parts, rows, torch.ones(1, int(parts.gates.lengths[row])))
        assert_close(found, encoder(values[rows]), rtol=1e-4, atol=1e-4)


def test_members_share_what_a_frozen_network_makes_of_gates():
    encoder, _, parts, _ = cut("text", 3)
    calls = []
    network = parts.content.network
    handle = network.word_embeddings.register_forward_hook(lambda *_: calls.append(1))
    gates = torch.ones(1, int(parts.gates.lengths[0]))
    found = [encoder.encode_parts(parts, torch.tensor([0]), gates) for _ in range(3)]
    handle.remove()
    assert len(calls) == len(parts.content.reports[0])
    assert torch.equal(found[0], found[2])


def test_a_kind_without_parts_says_who_has_them():
    class Plain(Encoder):
        fit = prepare = forward = config = from_config = None

    with pytest.raises(StudyError, match=r"Plain has no parts.*embedding, image, series, slide, table, text, volume"):
        Plain().parts(None, None, 16)
    with pytest.raises(NotImplementedError, match="Plain has no parts"):
        Plain().encode_parts(None, None, None)


def test_ragged_gates_of_different_patients_stand_apart():
    _, _, parts, _ = cut("series")
    assert isinstance(parts.gates, Ragged)
    assert all(items.tolist() == list(range(len(items))) for items in parts.gates.split())
