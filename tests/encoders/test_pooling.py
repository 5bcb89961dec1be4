"""Gated attention over packed tiles: what holds whatever the bags."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from multimodn.encoders._slides.pooling import GatedAttention, Pool, highest

SIZE = 3
bags = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def packed(lengths, seed, n_heads=2):
    draw = torch.Generator().manual_seed(seed)
    n, rows = sum(lengths), torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    tiles = torch.randn(n, SIZE, generator=draw, dtype=torch.float64)
    return tiles, 3 * torch.randn(n, n_heads, generator=draw, dtype=torch.float64), rows


@given(bags, st.integers(0, 99))
def test_packed_bags_equal_each_bag_for_itself(lengths, seed):
    tiles, scores, rows = packed(lengths, seed)
    pool = Pool.of(tiles, scores, rows, len(lengths))
    for row, (bag, score) in enumerate(zip(tiles.split(lengths), scores.split(lengths), strict=True)):
        assert_close(pool.attention_mean()[row], score.softmax(0).T @ bag)
        assert_close(pool.summed[row], bag.sum(0))


@given(bags, st.integers(0, 99), st.integers(1, 60))
def test_parts_add_up_to_the_whole(lengths, seed, at):
    tiles, scores, rows = packed(lengths, seed)
    whole = Pool.of(tiles, scores, rows, len(lengths))
    first, second = (Pool.of(tiles[s], scores[s], rows[s], len(lengths)) for s in (slice(None, at), slice(at, None)))
    for joined in (first.join(second), second.join(first)):
        for ours, expected in zip(joined, whole, strict=True):
            assert_close(ours, expected)


def test_the_softmax_takes_scores_beyond_the_range_of_exp():
    scores = torch.tensor([[1000.0], [999.0], [-1000.0]])
    tiles = torch.tensor([[1.0], [2.0], [3.0]])
    rows = torch.zeros(3, dtype=torch.long)
    parts = [Pool.of(tiles[i : i + 1], scores[i : i + 1], rows[:1], 1) for i in range(3)]
    expected = (scores.softmax(0) * tiles).sum(0).view(1, 1, 1)
    assert_close(Pool.of(tiles, scores, rows, 1).attention_mean(), expected)
    assert_close(parts[2].join(parts[0]).join(parts[1]).attention_mean(), expected)


def test_gradients_of_parts_are_those_of_the_whole():
    tiles, scores, rows = packed([4, 5], 0)
    gradients = []
    for cut in (9, 6):
        x, s = tiles.clone().requires_grad_(), scores.clone().requires_grad_()
        pool = Pool.of(x[:cut], s[:cut], rows[:cut], 2).join(Pool.of(x[cut:], s[cut:], rows[cut:], 2))
        pool.attention_mean().square().sum().backward()
        gradients.append((x.grad, s.grad))
    assert_close(gradients[0], gradients[1])


def test_attention_starts_towards_tiles_unlike_the_average():
    attend = GatedAttention(64, 63, 2)
    tiles = torch.randn(1000, 64)
    assert_close(attend(-tiles), attend(tiles))
    assert (attend(torch.zeros(1, 64)) == 0).all()
    assert (attend(3 * tiles) > attend(tiles)).all()
    assert (attend(tiles) > 0).all()
    attend.start(attend(tiles))
    assert_close(attend(tiles).std(0, correction=0), torch.ones(2))


def test_equal_tiles_do_not_break_the_start():
    attend = GatedAttention(SIZE, 4, 1)
    attend.start(attend(torch.zeros(5, SIZE)))
    assert attend.heads.isfinite().all()


def test_attention_leaves_the_penalty_of_matrices_out():
    assert all(parameter.dim() == 1 for parameter in GatedAttention(SIZE, 4, 2).parameters())


@given(bags, st.integers(0, 99), st.integers(1, 10))
def test_highest_keeps_the_highest_of_each_row(lengths, seed, n_most):
    keys, _, rows = packed(lengths, seed)
    keys = keys[:, 0]
    numbers, kept = highest(keys, rows, torch.tensor(lengths), n_most)
    assert kept.tolist() == [min(length, n_most) for length in lengths]
    assert torch.equal(numbers, numbers.sort().values)
    found = keys[numbers].split(kept.tolist())
    for bag, top in zip(keys.split(lengths), found, strict=True):
        assert_close(top.sort().values, bag.sort().values[-len(top) :])
