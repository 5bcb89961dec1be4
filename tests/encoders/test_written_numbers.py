"""Numbers and dates that a table holds as text: never categories without a word."""

import numpy as np
import pandas as pd
import pytest

from multimodn.encoders.table import TableEncoder, TableOptions
from multimodn.errors import DataError, DataWarning

NUMBERS = np.random.default_rng(0).normal(4.2, 0.3, 60)


def table(write):
    texts = [write(number) for number in NUMBERS]
    return pd.DataFrame({"age": np.arange(60.0), "lab": texts}, index=[f"P{i}" for i in range(60)])


def fit(write, **options):
    return TableEncoder.fit(table(write), TableOptions(**options))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda x: f"{x:.1f}".replace(".", ","), r"60 with a decimal comma .*`decimal: \",\"`"),
        (lambda x: f"{5 * x:.0f} %", r"60 with a percent sign .*`units: strip`"),
        (lambda x: f"{x:.1f} mmol/L", r"60 with a unit \('.* mmol/L'.*`units: strip`"),
        (lambda x: f"{1000 * x:,.0f}", r"60 with signs between thousands .*`thousands: \",\"`"),
        (
            lambda x: "<4.3" if x < 4.3 else f"{x:.1f}",
            r"below or above a limit \('<4.3'\): write `detection_limit: half`",
        ),
        (
            lambda x: f"{x:.1f} mmol/L" if x > 4.2 else f"{18 * x:.0f} mg/dL",
            r"convert the units m.*/.*L, m.*/.*L to one",
        ),
        (
            lambda x: "haemolysed" if x > 4.6 else f"{x:.2f}",
            r"'lab' holds numbers, but \d of 60 .*'haemolysed' \(patient",
        ),
    ],
)
def test_numbers_as_text_are_an_error_with_pattern_patient_and_option(write, message):
    with pytest.raises(DataError, match=message) as caught:
        fit(write)
    assert "(patient 'P" in str(caught.value)
    assert "`categorical`" in str(caught.value)
    assert "lab" in [column.name for column in fit(write, categorical=["lab"]).layout.categorical]


@pytest.mark.parametrize("write", [lambda x: f"{int(10 * x)}-{int(10 * x) + 5}", lambda x: f"{int(x)} mg"])
def test_ranges_and_a_few_doses_are_categories_with_a_note(write):
    with pytest.warns(DataWarning, match=r"column 'lab' counts as categories without an order\. Cells: 60"):
        fit(write)
    fit(write, categorical=["lab"])  # no note


@pytest.mark.parametrize("write", [lambda x: "abc"[int(7 * x) % 3] + "1", lambda x: "<4" if x < 4 else ">=4"])
def test_categories_stay_without_a_note(write):
    assert len(fit(write).layout.categorical) == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda x: f"2024-01-{int(5 * x):02d}",
        lambda x: f"{int(5 * x):02d}.01.2024",
        lambda x: f"{int(5 * x)}/1/24",
        lambda x: f"{int(5 * x)} Jan 2024",
        lambda x: 20240100 + int(5 * x),
        lambda x: float(int(5 * x) * 10**6 + 12024),
        lambda x: 202000 + int(200 * x) % 12 + 1,
    ],
)
def test_dates_are_left_out_as_dates_whatever_their_writing(write):
    with pytest.warns(DataWarning, match=r"'lab' \(dates, such as .*give a number instead"):
        encoder = fit(write)
    assert "lab" in encoder.layout.dropped


def test_large_numbers_are_no_dates():
    with_numbers = fit(lambda x: round(1e7 * x))
    assert [column.name for column in with_numbers.layout.numeric] == ["age", "lab"]


def test_a_minus_of_a_text_program_is_a_minus():
    encoder = fit(lambda x: f"{x - 4.2:.2f}".replace("-", "\u2212"))
    assert encoder.layout.numeric[1].minimum < 0


def test_new_patients_with_text_for_numbers_are_told_the_option():
    encoder = fit(float)
    with pytest.raises(DataError, match=r"'lab' is numeric, but 60 of 60 cells .*`units: strip`"):
        encoder.prepare(table(lambda x: f"{x:.1f} mmol/L"))
