"""Mechanisms blank at the rate asked for, where they say, and leave nobody with nothing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.evaluate.stress.mechanisms import Mechanism
from multimodn.findings.names import pattern_name
from multimodn.missingness.patterns import pattern_codes, pattern_members
from tests.missingness._simulated import simulate

rates = st.floats(0.0, 1.0)


def outcome_of(cohort) -> pd.Series:
    return pd.Series(np.arange(len(cohort)) % 2.0, index=cohort.patients)


@given(st.sampled_from(["mcar", "mnar", "flipped", "mar", "self"]), rates, st.integers(0, 1000))
def test_the_rate_is_the_one_asked_for(kind, rate, seed):
    cohort = COHORT
    outcome = outcome_of(cohort)
    blanked = Mechanism(kind, rate, ("m1", "m2")).apply(cohort, outcome, seed)
    lost = cohort.presence & ~blanked.presence
    assert not lost[["m0"]].to_numpy().any()
    affected = {"mcar": outcome >= 0, "mnar": outcome == 1, "flipped": outcome == 0}.get(kind)
    if affected is not None:
        assert not lost[~affected].to_numpy().any()
        n, found = 2 * int(affected.sum()), int(lost[affected].to_numpy().sum())
    else:  # half of the patients are affected, up to ties
        n, found = len(cohort), int(lost.to_numpy().sum())
    assert abs(found - n * rate) <= 5 * np.sqrt(n * rate * (1 - rate)) + 2


COHORT = simulate(n=400)


def test_who_would_lose_everything_keeps_one():
    with pytest.warns(DataWarning, match="without any modality"):
        blanked = Mechanism("mcar", 1.0).apply(COHORT, seed=1)
    assert (blanked.presence.sum(axis=1) == 1).all()


def test_an_unknown_outcome_loses_nothing():
    unknown = pd.Series(np.nan, index=COHORT.patients)
    assert Mechanism("mnar", 1.0, ("m1",)).apply(COHORT, unknown).presence.equals(COHORT.presence)


def test_complete_leaves_out_who_lacks_an_affected_modality():
    some = Mechanism("mcar", 0.5, ("m1",)).apply(COHORT)
    whole = Mechanism("complete", modalities=("m1",)).apply(some)
    assert 0 < len(whole) < len(COHORT)
    assert whole.presence["m1"].all()
    with pytest.raises(DataError, match="no patient has all"):
        Mechanism("complete", modalities=("m1",)).apply(Mechanism("mcar", 1.0, ("m1",)).apply(COHORT))


@pytest.mark.parametrize(("kind", "strength"), [("mnar", 1.2), ("mnar", -0.1), ("mnr", 0.8)])
def test_a_wrong_mechanism_is_refused(kind, strength):
    with pytest.raises(StudyError, match=r"outside \[0, 1\]|Unknown mechanism"):
        Mechanism(kind, strength)


def test_a_mechanism_needs_what_it_depends_on():
    with pytest.raises(StudyError, match="depends on an outcome"):
        Mechanism("mnar", 0.5).apply(COHORT)
    with pytest.raises(StudyError, match="unknown modality 'm9'"):
        Mechanism("mcar", 0.5, ("m9",)).apply(COHORT)


def test_patterns_have_codes_and_names():
    assert pattern_codes(np.array([[True, False, True], [False, False, False]])).tolist() == [5, 0]
    assert pattern_name(pattern_members(5, ["a", "b", "c"])) == "a+c"
    assert pattern_name(pattern_members(0, ["a"])) == "(none)"
