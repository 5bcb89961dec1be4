from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.findings.numbers import FEW, HIDDEN, count, counts, interval, number, quartiles, share


def possible(texts, total):
    """All counts that a reader may think of, by what is written and the total."""
    options = []
    for text in texts:
        if text == FEW:
            options.append(range(1, 5))
        elif text == HIDDEN:
            options.append(range(5, total + 1))
        else:
            options.append([int(text)])
    return [each for each in product(*options) if sum(each) == total]


@given(st.lists(st.integers(0, 14), min_size=2, max_size=4))
def test_no_small_count_follows_from_the_others_if_any_may_be_hidden(numbers):
    texts = counts(numbers)
    thought_of = possible(texts, sum(numbers))
    assert tuple(numbers) in thought_of
    nothing_left = all(n < 5 or text == HIDDEN for n, text in zip(numbers, texts, strict=True))
    for k, n in enumerate(numbers):
        if 0 < n < 5 and not nothing_left:
            assert len({each[k] for each in thought_of}) > 1


def test_large_counts_are_told():
    assert counts([12, 0, 1300]) == ["12", "0", "1,300"]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(12, 40, "12 of 40 (30%)"), (3, 40, f"{FEW} of 40"), (38, 40, f"all but {FEW} of 40"), (0, 40, "0 of 40 (0%)")],
)
def test_shares_do_not_tell_small_parts(part, whole, text):
    assert share(part, whole) == text


def test_counts_of_one_to_four_are_not_told():
    assert [count(n) for n in range(6)] == ["0", FEW, FEW, FEW, FEW, "5"]


def test_numbers_say_when_they_are_unknown():
    assert number(np.nan) == "not known"
    assert number(-0.001) == "0.00"
    assert interval(-0.5, np.nan, np.nan) == "\u22120.50 (no interval)"
    assert interval(0.5, 0.25, 0.75) == "0.50 (0.25 to 0.75)"


def test_quartiles_of_few_patients_are_not_told():
    assert quartiles(np.array([1.0, 2.0, 3.0, np.nan])) == HIDDEN
    assert quartiles(np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])) == "3 (2 to 4)"
