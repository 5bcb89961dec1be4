"""The slide encoder: bags of tiles, whatever their order, number and files."""

import copy
import pickle
import time

import h5py
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from multimodn.base.ragged import Ragged
from multimodn.encoders.slide import SlideEncoder, SlideOptions
from multimodn.errors import DataError, UnreadableError
from tests.encoders._slide_cases import CASES, F, frame_of, slides, write


def fitted(name="slide", **options):
    kind, base, make = CASES[name]
    frame = make()
    return kind.fit(frame, base.model_copy(update=options)).eval(), frame


def trained(**options):
    """An encoder whose attention is far from uniform."""
    encoder, frame = fitted(**options)
    with torch.no_grad():
        encoder.attend.heads.mul_(3.0)
    return encoder, frame


def tiles(n, seed=0, n_columns=F):
    return np.random.default_rng(seed).normal(size=(n, n_columns)).astype(np.float32)


def same(first, second):
    assert_close(first, second, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_of_the_values_encode_alike(copied):
    encoder, frame = fitted()
    values = encoder.prepare(frame)[torch.tensor([3, 1])]
    assert torch.equal(encoder(copied(values)), encoder(values))


def test_no_patients_have_no_places():
    encoder, frame = fitted()
    for values in (encoder.prepare(frame.iloc[:0]), encoder.prepare(frame)[torch.tensor([], dtype=torch.long)]):
        assert len(values.places()) == len(encoder.attention(values).items) == 0


def reference(encoder, features):
    """One bag, as the paper writes it."""
    h = ((torch.from_numpy(features).double() - encoder.mean) * encoder.scale) @ encoder.reduce.weight.T
    v, u = encoder.attend.gates.view(-1, h.shape[1]).chunk(2)
    bias_v, bias_u = encoder.attend.bias.chunk(2)
    gates = torch.tanh(h @ v.T + bias_v) * torch.sigmoid(h @ u.T + bias_u)
    weights = torch.stack([(gates @ w).softmax(0) for w in encoder.attend.heads.view(encoder.options.n_heads, -1)])
    contrast = (weights @ h - h.mean(0)) / encoder.spread
    return encoder.layers(torch.cat([h.mean(0), torch.asinh(contrast).flatten()])[None])[0], weights.mean(0)


def test_packed_bags_equal_each_bag_for_itself():
    encoder, frame = trained(n_heads=3)
    encoder = encoder.double()
    values = encoder.prepare(frame)
    embedding, attention = encoder(values), encoder.attention(values).split()
    for row, path in enumerate(frame["file"]):
        with h5py.File(path) as file:
            expected, weights = reference(encoder, file["features"][:])
        assert_close(embedding[row], expected)
        assert_close(attention[row], weights)


def test_blocks_change_neither_embedding_nor_gradients(monkeypatch):
    encoder, frame = trained()
    encoder = encoder.double()
    values, results = encoder.prepare(frame), []
    for block in (16_384, 7):
        monkeypatch.setattr("multimodn.encoders.slide.BLOCK_TILES", block)
        encoder.zero_grad()
        embedding = encoder(values)
        embedding.square().sum().backward()
        results.append((embedding.detach(), [parameter.grad.clone() for parameter in encoder.parameters()]))
    assert_close(results[1], results[0])


def test_order_of_tiles_and_of_slides_and_their_number_do_not_matter(tmp_path):
    encoder, _ = trained()
    encoder = encoder.double()
    features = tiles(40)
    shuffled = np.random.default_rng(1).permutation(features)
    whole = frame_of([("P", write(tmp_path / "whole.h5", features))])
    mixed = frame_of([("P", write(tmp_path / "mixed.h5", shuffled))])
    a, b = write(tmp_path / "a.h5", features[:11]), write(tmp_path / "b.h5", features[11:])
    expected = encoder(encoder.prepare(whole))
    for frame in (mixed, frame_of([("P", a), ("P", b)]), frame_of([("P", b), ("P", a)])):
        same(encoder(encoder.prepare(frame)), expected)


def test_splitting_a_slide_over_two_files_does_not_change_what_is_fitted(tmp_path):
    features = [tiles(40, seed) for seed in range(2)]
    whole = [(f"P{i}", write(tmp_path / f"{i}.h5", part)) for i, part in enumerate(features)]
    halves = [(f"P{i}", write(tmp_path / f"{i}{k}.h5", part[k::2])) for i, part in enumerate(features) for k in (0, 1)]
    first, second = (SlideEncoder.fit(frame_of(files), SlideOptions()) for files in (whole, halves))
    same(first.mean, second.mean)
    same(first.scale, second.scale)


def test_rows_of_a_patient_may_stand_apart():
    encoder, frame = fitted("slide with places")
    assert frame.index.has_duplicates
    values = encoder.prepare(frame)
    assert len(values) == frame.index.nunique()
    alone = encoder(encoder.prepare(frame.loc[["P3"]]))
    same(encoder(values)[[3]], alone)


def test_features_left_in_their_files_give_the_same_numbers():
    encoder, frame = trained()
    lazy, _ = trained(memory_gb=0.0)
    lazy.load_state_dict(encoder.state_dict())
    values, on_disk = encoder.prepare(frame), lazy.prepare(frame)
    assert values.store.features.dtype == torch.float16
    assert on_disk.store.features is None
    rows = torch.tensor([5, 2, 2, 9])
    assert torch.equal(encoder(values[rows]), lazy(on_disk[rows]))


def test_attention_adds_up_to_one_in_the_order_of_places():
    encoder, frame = trained(n_heads=2)
    values = encoder.prepare(frame)[torch.tensor([4, 1])]
    attention, places = encoder.attention(values), values.places()
    assert isinstance(attention, Ragged)
    assert len(places) == len(attention.items)
    for bag, patient in zip(attention.split(), ["P4", "P1"], strict=True):
        assert_close(bag.sum(), torch.tensor(1.0))
        mine = places[places["patient"] == patient]
        assert len(mine) == len(bag)
        with h5py.File(frame.loc[patient, "file"]) as file:
            assert np.array_equal(mine[["x", "y"]], file["coords"][:])
        assert set(mine["file"]) == {frame.loc[patient, "file"]}


def test_top_k_of_all_tiles_equals_none_and_of_one_the_best_alone():
    encoder, frame = trained()
    few, _ = trained(top_k=1)
    many, _ = trained(top_k=1000)
    for other in (few, many):
        other.load_state_dict(encoder.state_dict())
    values = encoder.prepare(frame)
    assert torch.equal(many(values), encoder(values))
    assert (few(values) - encoder(values)).abs().max() > 1e-3
    for kept, weights in zip(few.attention(values).split(), encoder.attention(values).split(), strict=True):
        assert kept[weights.argmax()] == 1.0
        assert kept.sum() == 1.0


def test_tokens_are_the_tiles_of_highest_attention():
    encoder, frame = trained(n_tokens=3)
    values = encoder.prepare(frame)
    embedding, tokens = encoder.with_tokens(values)
    assert torch.equal(embedding, encoder(values))
    assert tokens.lengths.tolist() == values.tiles.lengths.clamp(max=3).tolist()
    assert tokens.items.shape[1] == encoder.token_size
    chosen = encoder._top(values, encoder._pool(values)[1], 3)
    assert torch.equal(encoder._tiles(chosen, 0, chosen.n_tiles), tokens.items)
    kept = torch.isin(values.tiles.items, chosen.tiles.items).split(values.tiles.lengths.tolist())
    for weights, is_kept in zip(encoder.attention(values).split(), kept, strict=True):
        assert is_kept.all() or weights[is_kept].min() >= weights[~is_kept].max()


def test_training_draws_tiles_anew_and_evaluation_sees_all():
    encoder, frame = trained(max_tiles=2, dropout=0.0)
    values = encoder.prepare(frame)
    whole = encoder(values)
    encoder.train()
    torch.manual_seed(1)
    first, second = encoder(values), encoder(values)
    torch.manual_seed(1)
    assert torch.equal(encoder(values), first)
    assert not torch.equal(first, second)
    assert torch.equal(encoder.eval()(values), whole)


def test_places_matter_only_if_asked_for(tmp_path):
    features, corners = tiles(30), np.random.default_rng(0).integers(0, 9000, (30, 2))
    here = frame_of([("P", write(tmp_path / "a.h5", features, corners))])
    moved = frame_of([("P", write(tmp_path / "b.h5", features, corners + 5000))])
    mirrored = frame_of([("P", write(tmp_path / "c.h5", features, corners[::-1]))])
    for coordinates in (False, True):
        encoder, _ = fitted(coordinates=coordinates)
        if coordinates:
            torch.nn.init.normal_(encoder.place.weight)
            encoder.attend.heads.data.mul_(3.0)
        expected, beside, other = (encoder(encoder.prepare(frame)) for frame in (here, moved, mirrored))
        assert_close(beside, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(other, expected) is not coordinates


def test_only_training_patients_are_fitted():
    frame = slides()
    torch.manual_seed(0)
    first = SlideEncoder.fit(frame.iloc[:10], SlideOptions())
    state = copy.deepcopy(first.state_dict())
    first.prepare(frame.iloc[10:])
    assert all(torch.equal(tensor, state[key]) for key, tensor in first.state_dict().items())


def test_a_constant_feature_counts_for_nothing(tmp_path):
    features = tiles(20)
    features[:, 2] = 7.0
    frame = frame_of([("P", write(tmp_path / "a.h5", features))])
    encoder = SlideEncoder.fit(frame, SlideOptions()).eval()
    features[:, 2] = 1000.0
    later = frame_of([("P", write(tmp_path / "b.h5", features))])
    assert torch.equal(encoder(encoder.prepare(later)), encoder(encoder.prepare(frame)))


def test_bad_files_are_named_together(tmp_path):
    encoder, _ = fitted()
    whole = write(tmp_path / "whole.h5", tiles(500))
    with open(whole, "rb") as file:
        half = file.read()[:8000]
    (tmp_path / "half.h5").write_bytes(half)
    nan = tiles(3)
    nan[1, 1] = np.nan
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["features"], file["coords"] = np.zeros((0, F), np.float32), np.zeros((0, 2))
    bad = [
        ("A", tmp_path / "absent.h5"),
        ("B", tmp_path / "half.h5"),
        ("C", write(tmp_path / "nan.h5", nan)),
        ("D", tmp_path / "none.h5"),
        ("E", whole),
    ]
    mixed = frame_of([*bad, ("F", "")])
    for read in (encoder.prepare, lambda frame: SlideEncoder.fit(frame, SlideOptions())):
        with pytest.raises(UnreadableError, match="5 patients") as caught:
            read(mixed)
        assert list(caught.value.patients) == ["A", "B", "D", "F", "C"]
        for patient, path in bad[:4]:
            assert str(path) in caught.value.patients[patient]
        assert "column 'file' is empty" in caught.value.patients["F"]


def test_features_of_another_encoder_are_refused(tmp_path):
    encoder, frame = fitted()
    other = frame_of([("Q", write(tmp_path / "q.h5", tiles(3), encoder="large", encoder_hash="b" * 64))])
    expected = r"q\.h5 \(patient 'Q'\) holds features from encoder 'large' \(hash b+\), expected 'small' \(hash a+\)"
    with pytest.raises(DataError, match=expected):
        encoder.prepare(other)
    both = frame_of([("P0", frame["file"].iloc[0]), ("Q", other["file"].iloc[0])])
    with pytest.raises(DataError, match=expected):
        SlideEncoder.fit(both, SlideOptions())


def test_files_without_a_hash_are_checked_by_their_width(tmp_path):
    encoder, _ = fitted()
    for n_columns in (F, F + 1):
        with h5py.File(tmp_path / f"clam{n_columns}.h5", "w") as file:
            file["features"], file["coords"] = tiles(4, n_columns=n_columns), np.zeros((4, 2), int)
    assert len(encoder.prepare(frame_of([("P", tmp_path / f"clam{F}.h5")]))) == 1
    with pytest.raises(DataError, match=f"holds {F + 1} features a tile, expected {F}"):
        encoder.prepare(frame_of([("P", tmp_path / f"clam{F + 1}.h5")]))


@pytest.mark.parametrize(("meta", "match"), [({"tile_mpp": 1.0}, "1 microns per pixel"), ({"stain": "b"}, "'b'")])
def test_tiles_made_in_another_way_are_refused(tmp_path, meta, match):
    train = frame_of([("P", write(tmp_path / "p.h5", tiles(4), tile_mpp=0.5, stain="a"))])
    encoder = SlideEncoder.fit(train, SlideOptions())
    later = frame_of([("Q", write(tmp_path / "q.h5", tiles(4), **{"tile_mpp": 0.502, "stain": "a", **meta}))])
    with pytest.raises(DataError, match=match):
        encoder.prepare(later)


def test_missing_coordinates_are_told_where_they_are_needed(tmp_path):
    torch.save(torch.from_numpy(tiles(4)), tmp_path / "clam.pt")
    frame = frame_of([("P", tmp_path / "clam.pt")])
    assert SlideEncoder.fit(frame, SlideOptions()).prepare(frame).places()["x"].isna().all()
    with pytest.raises(UnreadableError, match=r"clam\.pt has no coordinates"):
        SlideEncoder.fit(frame, SlideOptions(coordinates=True))


def test_columns():
    encoder, frame = fitted(column="file")
    assert SlideEncoder.file_columns(SlideOptions(column="h5")) == ["h5"]
    assert len(encoder.prepare(frame.assign(other="text"))) == 24
    with pytest.raises(DataError, match=r"column 'file' is missing. Did you mean 'files'\?"):
        encoder.prepare(frame.rename(columns={"file": "files"}))
    with pytest.raises(DataError, match=r"patient 'P0' has the file .* twice"):
        encoder.prepare(frame.iloc[[0, 0]])


def test_the_time_of_a_tile_does_not_depend_on_their_number(tmp_path):
    encoder, _ = fitted(max_tiles=None)
    seconds = []
    for n in (8_000, 32_000):
        values = encoder.prepare(frame_of([("P", write(tmp_path / f"{n}.h5", tiles(n)))]))
        passes = []
        for _ in range(3):
            start = time.process_time()
            encoder(values).sum().backward()
            passes.append(time.process_time() - start)
        seconds.append(min(passes) / n)
    assert seconds[1] < 2.5 * seconds[0]  # a quadratic step would make it 4
