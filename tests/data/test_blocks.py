import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.crossval.site_and_time_folds import as_numbers, dealt_folds, patient_values

SITES = st.lists(st.sampled_from("abcdefg"), min_size=8, max_size=60)
TIMES = st.lists(st.integers(0, 12), min_size=8, max_size=60)
PERSONS = st.lists(st.integers(0, 30), min_size=60, max_size=60)


def cohort_of(n, groups=None, **columns):
    ids = pd.Index([f"p{i:02d}" for i in range(n)], name="patient")
    frame = pd.DataFrame({"a": np.arange(n) * 0.5} | columns, index=ids)
    labels = pd.DataFrame({"status": np.arange(n) % 3 == 0}, index=ids)
    return Cohort(ids, {"m": frame}, {"death": labels}, None if groups is None else pd.Series(groups, ids))


@given(SITES, st.integers(2, 7), st.sampled_from([None, "death"]), st.integers(0, 3))
def test_by_site_no_site_is_on_both_sides_and_each_is_tested_once_a_repeat(sites, n_folds, stratify, seed):
    assume(len(set(sites)) >= n_folds)
    cohort = cohort_of(len(sites), site=sites)
    where = cohort.modalities["m"]["site"]
    parts = list(dealt_folds(cohort, n_folds, 2, seed, stratify, by="site", column="m.site"))
    assert len(parts) == 2 * n_folds
    for train, test in parts:
        assert len(train)
        assert len(test)
        assert not set(where.loc[list(train)]) & set(where.loc[list(test)])
        assert sorted([*train, *test]) == sorted(cohort.patients)
    for repeat in (parts[:n_folds], parts[n_folds:]):
        assert sorted(np.concatenate([test for _, test in repeat])) == sorted(cohort.patients)


@given(SITES, st.sampled_from([None, "death"]))
def test_as_many_folds_as_sites_leave_one_site_out(sites, stratify):
    n_sites = len(set(sites))
    assume(n_sites > 1)
    cohort = cohort_of(len(sites), site=sites)
    where = cohort.modalities["m"]["site"]
    tested = [
        set(where.loc[list(test)])
        for _, test in dealt_folds(cohort, n_sites, stratify=stratify, by="site", column="m.site")
    ]
    assert all(len(each) == 1 for each in tested)


@given(TIMES, st.integers(1, 6), PERSONS, st.booleans())
def test_by_time_nobody_is_trained_on_who_is_not_earlier_than_every_tested_patient(times, n_folds, persons, grouped):
    assume(len(set(times)) > n_folds)
    groups = [f"g{i}" for i in persons[: len(times)]] if grouped else None
    cohort = cohort_of(len(times), groups, when=times)
    when, group = cohort.modalities["m"]["when"], cohort.groups
    try:
        parts = list(dealt_folds(cohort, n_folds, by="time", column="m.when"))
    except DataError:  # every earlier patient shares a group with a later one
        assume(not grouped)
        raise
    assert len(parts) == n_folds
    for train, test in parts:
        assert when.loc[list(train)].max() < when.loc[list(test)].min()
        assert group is None or not set(group.loc[list(train)]) & set(group.loc[list(test)])
    tested = np.concatenate([test for _, test in parts])
    assert len(set(tested)) == len(tested)
    first = when.min()
    assert {p for p in cohort.patients if p not in tested} >= {p for p in cohort.patients if when[p] == first}
    assert [when.loc[list(test)].min() for _, test in parts] == sorted(when.loc[list(test)].min() for _, test in parts)


def test_stretches_of_time_are_about_equal():
    cohort = cohort_of(60, when=np.random.default_rng(0).permutation(60))
    assert [len(test) for _, test in dealt_folds(cohort, 5, by="time", column="m.when")] == [10] * 5


def test_two_identifiers_of_one_person_stay_together_by_chance_and_by_time():
    cohort = cohort_of(20, [f"g{i % 10}" for i in range(20)], when=np.arange(20))
    for by, column in (("random", None), ("time", "m.when")):
        for train, test in dealt_folds(cohort, 2, by=by, column=column):
            assert not {int(p[1:]) % 10 for p in train} & {int(p[1:]) % 10 for p in test}


def test_who_is_at_two_sites_is_named():
    cohort = cohort_of(4, site=list("abab"))
    visits = pd.Series(["a", "b", "a", "b", "b"], ["p00", "p00", "p01", "p02", "p03"])
    with pytest.raises(DataError, match=r"1 patient\(s\) have several values of site: p00 \(a, b\)\. Leave them out"):
        dealt_folds(cohort, 2, by="site", column=visits)
    person = cohort_of(4, groups=["x", "x", "y", "z"], site=list("abab"))
    with pytest.raises(DataError, match=r"1 group\(s\) have patients at several sites: p00, p01 \(a, b\)"):
        list(dealt_folds(person, 2, by="site", column="m.site"))


def test_a_patient_who_stands_in_the_cohort_twice_is_refused():
    ids = pd.Index(["p0", "p1", "p0", "p2"])
    twice = Cohort(ids, {"m": pd.DataFrame({"a": [1.0]}, ["p1"])})
    for by, column in (("random", None), ("site", list("aabb")), ("time", [1, 2, 3, 4])):
        with pytest.raises(DataError, match=r"1 patient\(s\) are in the cohort twice: p0"):
            list(dealt_folds(twice, 2, by=by, column=column))


def test_a_column_may_be_a_name_a_series_or_values():
    cohort = cohort_of(12, site=list("aaabbbcccddd"))
    series = cohort.modalities["m"]["site"].sample(frac=1, random_state=0)
    for column in ("m.site", series, list("aaabbbcccddd"), np.array(list("aaabbbcccddd"))):
        found = [sorted(test) for _, test in dealt_folds(cohort, 2, by="site", column=column)]
        assert found == [sorted(test) for _, test in dealt_folds(cohort, 2, by="site", column="m.site")]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"by": "sight"}, StudyError, r"by 'sight' is unknown\. Did you mean 'site'\?"),
        ({"by": "site"}, StudyError, "by 'site' needs the column that holds each patient's site"),
        ({"column": "m.site"}, StudyError, "by 'random' takes no column"),
        ({"by": "site", "column": "n.site"}, DataError, r"unknown modality 'n'"),
        ({"by": "site", "column": "m.sight"}, DataError, r"no column 'sight'\. Did you mean 'site'\?"),
        ({"by": "site", "column": list("ab")}, DataError, r"Expected one site for each of 4 patients, .* \(2,\)"),
        ({"by": "site", "column": ["a", None, "b", "b"]}, DataError, r"1 of 4 patients have no site: p01"),
        ({"by": "site", "column": list("aaaa")}, DataError, "2 folds by site need .* there are 1: a"),
        ({"by": "time", "column": [1, 1, 2, 2]}, DataError, "2 folds by time need .* 3 different times; there are 2"),
        ({"by": "time", "column": ["x", "1", "2", "3"]}, DataError, "neither numbers nor dates .* 'p00' has 'x'"),
    ],
)
def test_what_cannot_be_dealt_says_why(arguments, kind, message):
    with pytest.raises(kind, match=message):
        list(dealt_folds(cohort_of(4, site=list("aabb")), 2, **arguments))


def test_nobody_to_train_on_is_an_error():
    cohort = cohort_of(4, groups=["x", "y", "x", "y"])
    with pytest.raises(DataError, match="Fold 1 by time has nobody to train on"):
        list(dealt_folds(cohort, 1, by="time", column=[1, 1, 2, 2]))


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-02", "2019-12-31", "2020-01-01T10:00"],
        pd.to_datetime(["2020-01-02", "2019-12-31", "2020-01-01"]),
        ["10", "2", "3.5"],
        [10, 2, 3],
    ],
)
def test_times_are_ordered_as_times(times):
    assert list(np.argsort(as_numbers(patient_values(cohort_of(3), np.asarray(times), "time")))) == [1, 2, 0]
