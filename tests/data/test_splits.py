import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from multimodn.data.cohort import Cohort
from multimodn.data.shares import nearest_division
from multimodn.data.splits import Split, fold_pairs, folds, make_split, named_folds, with_validation
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.study.study import Study
from tests.data._studies import study_dict


def cohort_of(labels, groups=None, split=None):
    ids = pd.Index([f"p{i}" for i in range(len(labels))], name="patient")
    frame = pd.DataFrame({"a": np.arange(len(labels)) * 0.5}, index=ids)
    return Cohort(
        ids,
        {"m": frame},
        {"death": pd.DataFrame({"status": labels}, index=ids)},
        None if groups is None else pd.Series(groups, index=ids),
        None if split is None else pd.Series(split, index=ids),
    )


LABELS = st.lists(st.sampled_from(["dead", "alive", None]), min_size=12, max_size=60)
GROUPS = st.lists(st.sampled_from([*"abcdefghij", None]), min_size=60, max_size=60)


def group_sets(cohort, *parts):
    alone = pd.Series(cohort.patients, index=cohort.patients)
    groups = alone if cohort.groups is None else cohort.groups.where(cohort.groups.notna(), alone)
    return [set(groups.loc[list(part)]) for part in parts]


@given(LABELS, GROUPS, st.booleans(), st.integers(0, 5))
def test_no_patient_and_no_group_is_in_two_parts(labels, groups, grouped, seed):
    cohort = cohort_of(labels, groups[: len(labels)] if grouped else None)
    split = {"validation": 0.2, "test": 0.25, "stratify": "death", "seed": seed}
    study = Study.from_dict(study_dict(split=split))
    assume(len(group_sets(cohort, cohort.patients)[0]) > 3)  # fewer may leave nobody to train on, which is an error
    parts = make_split(study, cohort)
    train, validation, test = group_sets(cohort, parts.train, parts.validation, parts.test)
    assert not (train & validation) | (train & test) | (validation & test)
    everyone = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(everyone) == sorted(cohort.patients)
    assert make_split(study, cohort).hash() == parts.hash()


@given(LABELS, GROUPS, st.booleans(), st.integers(2, 4), st.integers(1, 2))
def test_folds_test_everyone_once_a_repeat_and_divide_no_group(labels, groups, grouped, n_folds, repeats):
    cohort = cohort_of(labels, groups[: len(labels)] if grouped else None)
    n_groups = len(group_sets(cohort, cohort.patients)[0])
    if n_groups < n_folds:
        with pytest.raises(DataError, match="folds need at least 2 folds and as many groups"):
            list(folds(cohort, n_folds, repeats, 0, "death"))
        return
    parts = list(folds(cohort, n_folds, repeats, 0, "death"))
    assert len(parts) == n_folds * repeats
    for repeat in range(repeats):
        tested = np.concatenate([test for _, test in parts[repeat * n_folds : (repeat + 1) * n_folds]])
        assert sorted(tested) == sorted(cohort.patients)
    for train, test in parts:
        in_train, in_test = group_sets(cohort, train, test)
        assert not in_train & in_test
        assert len(train) + len(test) == len(cohort)


@given(st.integers(0, 20))
def test_classes_are_spread_evenly(seed):
    labels = ["dead"] * 20 + ["alive"] * 80
    cohort = cohort_of(labels)
    for _, test in folds(cohort, 5, 1, seed, "death"):
        counts = cohort.targets["death"].loc[list(test), "status"].value_counts()
        assert counts["dead"] == 4
        assert counts["alive"] == 16
    study = Study.from_dict(study_dict(split={"stratify": "death", "seed": seed}))
    test = make_split(study, cohort).test
    assert len(test) == pytest.approx(20, abs=1)
    assert (cohort.targets["death"].loc[list(test), "status"] == "dead").sum() == pytest.approx(4, abs=1)


def test_numbers_are_spread_by_quantiles():
    cohort = cohort_of(list(np.random.default_rng(0).exponential(size=100)))
    medians = [
        cohort.targets["death"].loc[list(test), "status"].median() for _, test in folds(cohort, 4, 1, 0, "death")
    ]
    assert max(medians) < 1.6 * min(medians)


def test_another_seed_deals_anew_and_shares_of_zero_are_empty():
    cohort = cohort_of(["dead", "alive"] * 30)
    one, two = (make_split(Study.from_dict(study_dict(split={"seed": seed})), cohort) for seed in (0, 1))
    assert one.hash() != two.hash()
    none = make_split(Study.from_dict(study_dict(split={"validation": 0, "test": 0})), cohort)
    assert (len(none.train), len(none.validation), len(none.test)) == (60, 0, 0)
    assert repr(none) == "Split(train 60, validation 0, test 0)"


def test_a_column_splits():
    study = Study.from_dict(study_dict(split={"column": "part"}))
    split = make_split(study, cohort_of([0, 1, 0, 1], split=["train", "test", None, "validation"]))
    assert (list(split.train), list(split.validation), list(split.test)) == (["p0"], ["p3"], ["p1"])
    with pytest.raises(DataError, match=r"Split column 'part' holds 'trian'\. Did you mean 'train'\?"):
        make_split(study, cohort_of([0, 1], split=["trian", "test"]))
    with pytest.raises(DataError, match="no patients to train on"):
        make_split(study, cohort_of([0, 1], split=["test", "test"]))
    with pytest.raises(DataError, match="loaded without the split column 'part'"):
        make_split(study, cohort_of([0, 1]))
    with pytest.raises(DataError, match=r"1 group\(s\) are both in train and in test: x"):
        make_split(study, cohort_of([0, 1], groups=["x", "x"], split=["train", "test"]))


def test_files_split(tmp_path):
    (tmp_path / "train.csv").write_text("id,note\np0,x\np1,y\n")
    (tmp_path / "test.csv").write_text("anything\np2\n")
    files = {"train": "train.csv", "test": "test.csv"}
    study = Study.from_dict(study_dict(split={"files": files}), tmp_path)
    split = make_split(study, cohort_of([0, 1, 0, 1]))
    assert (list(split.train), list(split.validation), list(split.test)) == (["p0", "p1"], [], ["p2"])
    (tmp_path / "test.csv").write_text("id\np1\n")
    with pytest.raises(DataError, match=r"1 patient\(s\) are in the split twice: p1"):
        make_split(study, cohort_of([0, 1, 0, 1]))
    (tmp_path / "test.csv").write_text("id\nq9\n")
    with pytest.raises(DataError, match=r"test: 1 patient\(s\) of test\.csv are not in the cohort: q9"):
        make_split(study, cohort_of([0, 1, 0, 1]))
    (tmp_path / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test: the file .*test\.csv does not exist"):
        make_split(study, cohort_of([0, 1, 0, 1]))


def part_study(**changes):
    return Study.from_dict(study_dict(split={"column": "part"}, **changes))


@pytest.mark.parametrize("seed", range(3))
def test_a_given_split_without_validation_gets_a_fifth_of_its_training_patients(seed):
    n = 100
    labels, part = (["dead"] * 20 + ["alive"] * 80) * 2, ["train"] * n + ["test"] * n
    groups = [f"g{i // 2}" if i % 20 < 4 else None for i in range(2 * n)]
    study, cohort = part_study(training={"seed": seed}), cohort_of(labels, groups, part)
    with pytest.warns(DataWarning, match=r"of its 100 training patients, drawn in whole groups and evenly by 'death'"):
        split = make_split(study, cohort)
    assert len(split.train) + len(split.validation) == n
    assert set(split.test) == set(cohort.patients[n:])
    assert len(split.validation) == pytest.approx(20, abs=2)
    is_dead = cohort.targets["death"]["status"] == "dead"
    assert is_dead[list(split.validation)].mean() == pytest.approx(0.2, abs=0.06)
    train, validation, test = group_sets(cohort, split.train, split.validation, split.test)
    assert not (train & validation) | (validation & test)
    assert split.is_validation_drawn
    with pytest.warns(DataWarning):
        assert make_split(study, cohort).hash() == split.hash()
    with pytest.warns(DataWarning):
        assert make_split(part_study(training={"seed": 9}), cohort).hash() != split.hash()
    assert with_validation(study, cohort, split) is split


def test_no_validation_is_drawn_where_none_is_needed_or_possible():
    cohort = cohort_of(["dead", "alive"] * 30, split=["train"] * 50 + ["test"] * 10)
    assert len(make_split(part_study(training={"members": 3}), cohort).validation) == 0
    few = cohort_of(["dead", "alive"] * 4, split=["train"] * 4 + ["test"] * 4)
    assert len(make_split(part_study(), few).validation) == 0
    ids = cohort.patients.to_numpy()
    given_, none = Split(ids[:50], [], ids[50:]), Study.from_dict(study_dict(split={"validation": 0}))
    assert with_validation(none, cohort, given_) is given_
    with pytest.warns(DataWarning, match="10 of its 50 training patients, drawn evenly by 'death' "):
        assert len(with_validation(Study.from_dict(study_dict()), cohort, given_).validation) == 10


def test_a_column_may_name_published_folds():
    fold = [float(i % 3 + 9) for i in range(60)] + [np.nan]  # an empty cell makes numbers of a column floats
    cohort = cohort_of(["dead", "alive"] * 30 + [None], split=fold)
    named = named_folds(part_study(), cohort)
    assert list(named) == ["9", "10", "11"]
    assert list(named["10"]) == list(cohort.patients[1:60:3])
    pairs = fold_pairs(named)
    assert [set(train) & set(test) for train, test in pairs] == [set(), set(), set()]
    assert all(set(train) | set(test) == set(cohort.patients[:60]) for train, test in pairs)
    with pytest.raises(DataError, match=r"3 folds \(9, 10, 11\).* such as `test: 9`"):
        make_split(part_study(), cohort)
    study = Study.from_dict(study_dict(split={"column": "part", "test": 10}, training={"members": 2}))
    split = make_split(study, cohort)
    assert (list(split.test), len(split.train), len(split.validation)) == (list(named["10"]), 40, 0)
    unknown = Study.from_dict(study_dict(split={"column": "part", "test": "12"}))
    with pytest.raises(DataError, match="names no fold '12'"):
        make_split(unknown, cohort)


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        (["a"] * 45, "'part' names one fold only, a"),
        (["a"] * 20 + ["b"] * 20 + ["c"] * 5, r"folds of fewer than 10 patients: c \(5\)"),
        (["training"] * 15 + ["dev"] * 15 + ["testing"] * 15, r"holds 'dev'.*Names of folds need at least three"),
        (["a", "b", "a"] * 15, "holds 'a'.*Names of folds need at least three"),
        (["a", "b", "c"] * 15, r"group\(s\) are both in a and in b: g0"),
    ],
)
def test_folds_that_cannot_be_tested_are_named(fold, said):
    groups = [f"g{i // 15}" for i in range(45)]
    with pytest.raises(DataError, match=said):
        make_split(
            part_study(), cohort_of(["dead", "alive", "dead"] * 15, groups if said.startswith("group") else None, fold)
        )


def test_files_may_list_published_folds(tmp_path):
    files = [f"fold_{k}.csv" for k in range(3)]
    for k, file in enumerate(files):
        (tmp_path / file).write_text("id\n" + "\n".join(f"p{i}" for i in range(k, 36, 3)))
    study = Study.from_dict(study_dict(split={"files": files}), tmp_path)
    cohort = cohort_of(["dead", "alive"] * 20)
    named = named_folds(study, cohort)
    assert {name: len(ids) for name, ids in named.items()} == {"fold_0": 12, "fold_1": 12, "fold_2": 12}
    chosen = Study.from_dict(study_dict(split={"files": files, "test": "fold_2"}, training={"members": 2}), tmp_path)
    assert list(make_split(chosen, cohort).test) == list(named["fold_2"])
    (tmp_path / "fold_1.csv").write_text("id\n" + "\n".join(f"p{i}" for i in range(12)))
    with pytest.raises(DataError, match=r"both in fold_0 and in fold_1: p0"):
        named_folds(study, cohort)
    with pytest.raises(StudyError, match=r"several files are called a"):
        Study.from_dict(study_dict(split={"files": ["x/a.csv", "y/a.csv"]}))
    with pytest.raises(StudyError, match=r"`test` names a fold"):
        Study.from_dict(study_dict(split={"files": {"train": "a.csv"}, "test": "a"}))


def test_a_split_refuses_a_patient_in_two_parts():
    with pytest.raises(DataError, match=r"are in the split twice: a"):
        Split(["a"], ["b"], ["a"])


def test_an_unknown_task_to_stratify_by_is_named():
    with pytest.raises(DataError, match=r"Unknown task 'deth' .*Did you mean 'death'\?"):
        next(folds(cohort_of([0, 1] * 5), 2, stratify="deth"))


def sited(sizes, n_positive=2):
    """A cohort of groups of some sizes; in each the first patients are positive."""
    labels = [label for n in sizes for label in ["dead"] * min(n, n_positive) + ["alive"] * max(0, n - n_positive)]
    return cohort_of(labels, [f"S{k}" for k, n in enumerate(sizes) for _ in range(n)])


def counts_of(cohort, **split):
    study = Study.from_dict(study_dict(split={"validation": 0.2, "test": 0.2, **split}))
    parts = make_split(study, cohort)
    return tuple(len(part) for part in (parts.train, parts.validation, parts.test))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([14, 13, 13], [(14, 13, 13)]),
        ([10] * 4, [(20, 10, 10)]),
        ([25] + [3] * 5, [(25, 6, 9), (25, 9, 6)]),
        ([30, 5, 5], [(30, 5, 5)]),
        ([1, 1, 38], [(38, 1, 1)]),
        ([100] + [1] * 100, [(120, 40, 40)]),
        ([4] * 25, [(60, 20, 20)]),
    ],
)
def test_few_or_unequal_groups_are_divided_as_near_to_the_shares_as_they_allow(sizes, expected, seed):
    assert counts_of(sited(sizes), seed=seed) in expected


def test_a_part_that_no_group_is_left_for_is_an_error():
    for sizes, said in (
        ([20, 20], "2 groups, which stay together, cannot be divided into 3 parts"),
        ([40], "1 groups"),
    ):
        with pytest.raises(DataError, match=f"leaves nobody to the .* part: {said}"):
            counts_of(sited(sizes))
    assert counts_of(sited([20, 20]), validation=0.0) == (20, 0, 20)
    with pytest.raises(DataError, match="part: 2 patients cannot be divided into 3 parts"):
        counts_of(cohort_of(["dead", "alive"]))


@given(st.lists(st.integers(1, 40), min_size=3, max_size=30), st.integers(0, 3), st.sampled_from([0.1, 0.2, 0.3]))
def test_parts_of_groups_are_never_empty_and_no_single_move_brings_them_nearer(sizes, seed, share):
    cohort = sited(sizes)
    found = np.array(counts_of(cohort, seed=seed, validation=share, test=share))
    wanted = np.array([1 - 2 * share, share, share]) * len(cohort)
    assert (found > 0).all()
    off = np.abs(found - wanted)
    if not ((off <= 0.1 * wanted) | (off < 1)).all():
        study = Study.from_dict(study_dict(split={"validation": share, "test": share, "seed": seed}))
        parts = make_split(study, cohort)
        for k, ids in enumerate((parts.train, parts.validation, parts.test)):
            of_site = cohort.groups.loc[list(ids)].value_counts()
            for n in of_site if len(of_site) > 1 else []:
                for other in {0, 1, 2} - {k}:
                    moved = found.copy()
                    moved[k], moved[other] = moved[k] - n, moved[other] + n
                    assert np.abs(moved - wanted).sum() >= off.sum() - 1e-6


def test_outcomes_decide_between_divisions_of_the_same_sizes():
    """Six hospitals of ten: in two half of the patients die, in the others all or none."""
    strata = np.array([0] * 20 + [1] * 20 + [0, 1] * 10)
    groups = np.repeat(np.arange(6), 10)
    for seed in range(4):
        part = nearest_division(groups, strata, np.zeros(60, dtype=int), [0.66, 0.17, 0.17], seed)
        assert [sorted(set(groups[part == k])) for k in (1, 2)] in ([[4], [5]], [[5], [4]])


def test_families_of_a_few_are_drawn_at_random_and_parts_are_alike():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 400).tolist()
    cohort = sited(sizes, 1)
    tested = []
    for seed in range(3):
        parts = make_split(Study.from_dict(study_dict(split={"seed": seed})), cohort)
        assert len(parts.test) == pytest.approx(0.2 * len(cohort), abs=2)
        mean = [cohort.groups.loc[list(part)].value_counts().mean() for part in (parts.train, parts.test)]
        assert mean[0] == pytest.approx(mean[1], abs=0.6)
        tested.append(set(parts.test))
    assert len(tested[0] & tested[1]) < 0.5 * len(tested[0])


def test_validation_patients_are_a_fifth_even_if_one_group_is_large():
    sizes = [25] + [3] * 5 + [10]
    cohort = cohort_of(["dead", "alive"] * 25, [f"S{k}" for k, n in enumerate(sizes) for _ in range(n)])
    test = cohort.groups == "S6"
    study = part_study(training={"members": 1})
    split = Split(cohort.patients[~test], [], cohort.patients[test])
    for seed in range(3):
        study = part_study(training={"members": 1, "seed": seed})
        with pytest.warns(DataWarning, match="has no validation part"):
            found = with_validation(study, cohort, split)
        assert 0 < len(found.validation) <= 15
