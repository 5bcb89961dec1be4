"""Rows of different lengths."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn.base.ragged import Ragged, softmax, total
from multimodn.errors import ShapeError

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=8)


def make(sizes):
    return Ragged(torch.arange(2.0 * sum(sizes)).view(-1, 2), torch.tensor(sizes))


@given(sizes=lengths, data=st.data())
def test_rows_are_taken_whole_in_the_order_asked_for(sizes, data):
    rows, parts = make(sizes), make(sizes).split()
    wanted = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=6))
    found = rows[torch.tensor(wanted, dtype=torch.long)]
    assert len(found) == len(wanted)
    for part, k in zip(found.split(), wanted, strict=True):
        assert torch.equal(part, parts[k])


@given(sizes=lengths)
def test_sums_and_softmax_are_those_of_each_row(sizes):
    rows = make(sizes)
    scores = torch.randn(len(rows.items), 3) * 30
    weights = softmax(scores, rows.rows, len(rows))
    sums = total(rows.items, rows.rows, len(rows))
    pieces = zip(rows.split(), torch.split(scores, sizes), torch.split(weights, sizes), sums, strict=True)
    for items, score, weight, summed in pieces:
        torch.testing.assert_close(summed, items.sum(0))
        torch.testing.assert_close(weight, score.softmax(0))


def test_softmax_has_the_gradient_of_each_rows_own():
    scores = torch.randn(5, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([0, 0, 2, 2, 2])
    assert torch.autograd.gradcheck(lambda x: softmax(x, rows, 3), scores)


def test_lengths_that_do_not_fit_are_an_error():
    with pytest.raises(ShapeError, match=r"adds up to 3, expected .* the 2 items"):
        Ragged(torch.zeros(2, 1), torch.tensor([1, 2]))
