"""Times in several columns, patients without a time, competing events and horizons with a unit."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodn.base.kinds import load_kind
from multimodn.errors import DataError
from multimodn.metrics.predictions import survival_curves
from multimodn.tasks._horizons import horizon
from tests.tasks._cases import fit

SURVIVAL = load_kind("tasks", "survival")
IDS = [f"P{i}" for i in range(40)]
DEAD = np.arange(40) % 2 == 0


def outcome(**columns):
    """A table as biobanks give it: time to death of the dead, last follow-up of those alive."""
    days = np.arange(1, 41) * 50.0
    table = {
        "vital_status": np.where(DEAD, "Dead", "Alive"),
        "days_to_death": np.where(DEAD, days, np.nan),
        "days_to_last_followup": np.where(DEAD, np.nan, days),
    }
    return pd.DataFrame(table | columns, index=IDS)


BOTH = {"time": ["days_to_death", "days_to_last_followup"], "event": "vital_status", "event_positive": "Dead"}


def tidied(frame, **options):
    return SURVIVAL.tidied(frame, SURVIVAL.Options(**options))[1]


def test_the_first_column_that_is_filled_is_the_time():
    task = fit("survival", outcome(), **BOTH)
    target, known = task.prepare(outcome())
    assert known.all()
    assert target[:, 0].tolist() == (np.arange(1, 41) * 50.0).tolist()
    assert target[:, 1].tolist() == DEAD.tolist()
    again = SURVIVAL.from_config(task.config())
    assert torch.equal(again.prepare(outcome())[0], target)
    assert SURVIVAL.target_columns(SURVIVAL.Options(**BOTH)) == [*BOTH["time"], "vital_status"]
    assert tidied(outcome(), **BOTH) == []


def test_patients_alive_without_a_time_are_an_error_or_counted():
    alone = {**BOTH, "time": "days_to_death"}
    with pytest.raises(DataError, match=r"20 of 20 patients without the event \('Alive'\) have no time .*`time: \["):
        tidied(outcome(), **alone)
    few = outcome()
    few.loc[["P1", "P3"], "days_to_last_followup"] = np.nan
    (note,) = tidied(few, **BOTH)
    assert "2 of 20 patients without the event ('Alive') have no time" in note
    assert "are left out: P1, P3" in note
    swapped = outcome()
    swapped.loc["P0", ["days_to_death", "days_to_last_followup"]] = [np.nan, 70.0]
    (note,) = tidied(swapped, **BOTH)
    assert "1 patient(s) with the event have no 'days_to_death'; their time is that of a later column" in note


def competing():
    return pd.DataFrame({"t": np.arange(1.0, 31), "cause": np.arange(30) % 3}, index=IDS[:30])


def test_competing_events_are_named_and_never_emptied():
    with pytest.raises(DataError, match=r"3 values, .*do not empty cells.*`event_positive: 1, censored: \[0, 2\]`"):
        fit("survival", competing(), time="t", event="cause")
    for options, is_event in (
        ({"event_positive": 1, "censored": [0, 2]}, lambda cause: cause == 1),
        ({"censored": [0, 2]}, lambda cause: cause == 1),
        ({"event_positive": [1, 2]}, lambda cause: cause > 0),
        ({"event_positive": ["2", "1"], "censored": ["0"]}, lambda cause: cause > 0),
    ):
        task = fit("survival", competing(), time="t", event="cause", **options)
        target, known = SURVIVAL.from_config(task.config()).prepare(competing())
        assert known.all()
        assert target[:, 1].tolist() == is_event(competing()["cause"].to_numpy()).tolist()
    with pytest.raises(DataError, match=r"the value\(s\) 2: name each in `event_positive` or in `censored`"):
        fit("survival", competing(), time="t", event="cause", event_positive=1, censored=[0])
    with pytest.raises(DataError, match="1 is an event and censored"):
        fit("survival", competing(), time="t", event="cause", event_positive=[1, 2], censored=[0, 1])


def test_survival_is_predicted_at_the_horizons_that_a_study_names():
    task = fit("survival", outcome(), **BOTH, unit="days", horizons=["3y", "1y"])
    outputs = torch.zeros(2, task.output_size)
    named = task.predict(outputs)
    assert list(named) == ["risk", "survival@1 year", "survival@3 years"]
    times, chances, names = survival_curves(task, outputs)
    assert times.tolist() == pytest.approx([365.25, 1095.75])
    assert names == list(named)[1:]
    places = [task.edges.tolist().index(time) for time in times]
    assert np.allclose(chances, task.survival(outputs)[:, places])
    again = SURVIVAL.from_config(task.config())
    assert list(again.predict(outputs)) == list(named)
    plain = fit("survival", outcome(), **BOTH, horizons=[365])
    assert list(plain.predict(torch.zeros(1, plain.output_size)))[1:] == ["survival@365"]
    units = fit("survival", outcome(), **BOTH, unit="days", n_intervals=2)
    assert all(name.endswith(" days") for name in list(units.predict(torch.zeros(1, units.output_size)))[1:])


def test_a_horizon_nobody_was_followed_to_is_an_error():
    with pytest.raises(DataError, match=r"followed up to 9 years: the longest time .* is 2000 days\. Choose earlier"):
        fit("survival", outcome(), **BOTH, unit="days", horizons=["1y", "9y"])


@pytest.mark.parametrize(
    ("horizons", "unit", "message"),
    [
        (["1y"], None, "say that of the column of times too, such as `unit: days`"),
        (["1 fortnight"], "days", "is no time"),
        ([-3], "days", "no time after 0"),
        (["12m", "1y"], "days", "names a time twice"),
    ],
)
def test_horizons_that_cannot_be_read(horizons, unit, message):
    with pytest.raises(ValidationError, match=message):
        SURVIVAL.Options(time="t", event="e", unit=unit, horizons=horizons)


@given(st.floats(0.1, 50), st.sampled_from(["d", "weeks", "month", "y"]), st.sampled_from(["days", "weeks", "years"]))
def test_a_horizon_is_the_same_time_in_any_unit(number, short, unit):
    name, time = horizon(f"{number:.3f}{short}", unit)
    days = {"d": 1, "weeks": 7, "month": 365.25 / 12, "y": 365.25}[short] * round(number, 3)
    assert time * {"days": 1, "weeks": 7, "years": 365.25}[unit] == pytest.approx(days)
    assert name.split(" ")[1].rstrip("s") in {"day", "week", "month", "year"}


def test_options_that_are_not_used_are_not_written():
    assert set(SURVIVAL.Options(time="t", event="e").model_dump()) == {"time", "event", "event_positive", "n_intervals"}
