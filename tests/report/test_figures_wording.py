import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.figures.axes import axis_limits, spread_labels
from multimodn.figures.selection import OutputRows
from multimodn.figures.wording import digits_for, shorten, slug, spanned
from multimodn.findings.numbers import percent, signed
from tests.report._frames_for_figures import LONG


@given(st.text(max_size=90), st.integers(6, 40))
def test_a_name_is_never_longer_than_its_room(name, longest):
    assert len(shorten(name, longest)) <= longest
    assert "\n" not in shorten(name, longest)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=2, unique=True))
def test_different_names_have_different_stems(names):
    one, other = (slug("figure", name) for name in names)
    assert one != other
    assert not set(one) - set("abcdefghijklmnopqrstuvwxyz0123456789-")


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.01, 1))
def test_labels_are_moved_apart_and_keep_their_order(values, gap):
    placed = spread_labels(np.array(values), gap)
    order = np.argsort(values, kind="stable")
    assert (np.diff(placed[order]) >= gap - 1e-9).all()
    if len(values) == 1:
        assert placed[0] == values[0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 10))
def test_limits_hold_every_value_and_are_never_empty(values, least):
    low, high = axis_limits(np.array(values), least=least)
    assert low <= min(values) <= max(values) <= high
    assert high - low > 0
    assert axis_limits(np.array([np.nan]))[0] < axis_limits(np.array([np.nan]))[1]


@pytest.mark.parametrize(
    ("share", "digits", "said"),
    [(0.234, 0, "23%"), (0.234, 1, "23.4%"), (0.004, 0, "0.4%"), (0.0004, 0, "<0.1%"), (0.9996, 0, ">99.9%"),
     (0, 0, "0%"), (1, 0, "100%"), (np.nan, 0, "unknown")],
)  # fmt: skip
def test_shares_are_written_with_the_digits_that_matter(share, digits, said):
    assert percent(share, digits) == said


def test_numbers_keep_their_sign_and_two_digits():
    assert [signed(value, 2) for value in (0.3, -0.3, -0.0001, 0.0)] == ["+0.30", "\u22120.30", "\u22120.00", "0.00"]
    assert [digits_for(np.array([value])) for value in (0.0, 0.003, 0.2, 3.0, 30.0, 300.0)] == [2, 4, 2, 2, 1, 0]
    assert [spanned(pd.Series(sizes)) for sizes in ([3, 1200], [5, 5], [np.nan])] == ["3 to 1,200", "5", "0"]


def test_a_quantity_keeps_the_name_of_its_class():
    rows = pd.DataFrame()
    grade, size = OutputRows(rows, LONG, "class 7", "log-odds", []), OutputRows(rows, "size", "size", "units", [])
    assert grade.named(24).endswith(" = class 7")
    assert len(grade.named(24)) <= 24
    assert size.axis() == "size, in its units"
    assert OutputRows(rows, "stage", ">ii", "", []).axis() == "link scale of stage above ii"
