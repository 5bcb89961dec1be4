"""Columns of times, whatever they are written as, in days."""

import numpy as np
import pandas as pd
import pytest

from multimodn.data.time.moments import read_moments

DAY = 19753.0  # 2024-01-31


def column(cells, dtype=object):
    return pd.Series(cells, index=[f"P{i}" for i in range(len(cells))], name="t", dtype=dtype)


def read(cells, date_format=None, dtype=object):
    problems = []
    return read_moments(column(cells, dtype), problems, date_format), problems


@pytest.mark.parametrize(
    ("cells", "days", "kind"),
    [
        (["2024-01-31", "2024-01-31T12:00", "2024-01-31 06:00:00.0", None, ""], [0, 0.5, 0.25, np.nan, np.nan], "date"),
        (["2024-01-31T12:00Z", "2024-01-31T12:00+02:00", "2024-01-31 12:00 -06:00"], [0.5, 10 / 24, 0.75], "date"),
        (["31.01.2024", "1.2.2024 18:00"], [0, 1.75], "date"),
        (["31/01/2024", "01/02/2024"], [0, 1], "date"),
        (["01/31/2024", "02/01/2024"], [0, 1], "date"),
        (["20240131", "20240201"], [0, 1], "date"),
        ([20240131.0, np.nan, 20240201.0], [0, np.nan, 1], "date"),
    ],
)
def test_dates(cells, days, kind):
    found, problems = read(cells, dtype=None)
    assert problems == []
    assert found.kind == kind
    np.testing.assert_allclose(found.days - DAY, days, atol=1e-9)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
def test_dates_of_frames(unit, zone):
    moments = pd.Series(pd.to_datetime(["2024-01-31 01:00", None])).dt.tz_localize(zone).dt.as_unit(unit)
    found = read_moments(moments, [])
    np.testing.assert_allclose(found.days, [DAY + (1 / 24 if zone is None else 0), np.nan])
    assert found.has_zone == (zone is not None)


@pytest.mark.parametrize(
    ("cells", "days", "kind"),
    [
        (["00:00", "36:00", "-12:00"], [0, 1.5, -0.5], "duration"),
        (["1 day 12:00:00", "2 days, 06:00:00"], [1.5, 2.25], "duration"),
        (["1", "2.5", ""], [1, 2.5, np.nan], "number"),
        ([1.0, 40762351.0], [1, 40762351], "number"),
        ([20240131.0, 20241331.0], [20240131, 20241331], "number"),
    ],
)
def test_numbers_and_durations(cells, days, kind):
    found, problems = read(cells)
    assert problems == []
    assert found.kind == kind
    np.testing.assert_allclose(found.days, days)


def test_a_format_settles_what_is_in_doubt():
    assert "may have the day or the month first" in read(["01/02/2024", "03/02/2024"])[1][0]
    assert read(["01/02/2024", "03/02/2024"], "%d/%m/%Y")[0].days.tolist() == [DAY + 1, DAY + 3]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["2024-01-31", "soon"], "1 of 2 cells are no date: 'soon' (patient 'P1')"),
        (["2024-01-31", "2024-02-30"], "1 of 2 cells are no date: '2024-02-30' (patient 'P1')"),
        (["1", "2", "3", "late"], "1 of 4 cells are no number: 'late' (patient 'P3')"),
        (["2024-01-31", "9999-12-31"], "1 of 2 cells lie before 1850 or after 2150: '9999-12-31' (patient 'P1')"),
        (["2024-01-31T12:00Z", "2024-01-31T13:00"], "some of the times have a time zone, others have none"),
    ],
)
def test_what_cannot_be_read_is_named(cells, message):
    problems = read(cells)[1]
    assert len(problems) == 1
    assert message in problems[0]
    assert "column 't'" in problems[0]
