from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.stats import norm, t

from multimodn.errors import DataError, StudyError
from multimodn.evaluate.crossval.bootstrap import interval, resampled, two_sided
from multimodn.evaluate.crossval.comparison import COLUMNS, adjusted, averages, compare, compared, standings
from multimodn.evaluate.crossval.crossval import cross_predict
from multimodn.evaluate.crossval.out_of_fold import Answers, Cell, OutOfFold
from multimodn.findings.sentences import standing
from multimodn.metrics.tasks import main_score
from multimodn.statistics.delong import delong_over_folds
from multimodn.statistics.multiple_testing import holm
from multimodn.statistics.resampled_t import TInterval, corrected_resampled_t
from multimodn.training.build import fit_tasks
from tests.evaluate._toy import WIDTHS, make_cohort, make_study


def arm_of(name, noise):
    cohort = make_cohort()
    score = cohort.targets["size"]["cm"]

    def arm(study, training, test, seed):
        generator = np.random.default_rng(seed)
        x = score.loc[test.patients].to_numpy() + noise * generator.normal(size=len(test))
        signs = {"stage": [-1, 0.1, 1], "signs": [1, 0.2], "grade": [1, 1]}
        return {name: {task: np.outer(x, signs.get(task, [1.0] * width)) for task, width in WIDTHS.items()}}

    return arm


@pytest.fixture(scope="module")
def found():
    return cross_predict(make_study(), make_cohort(), [arm_of("good", 1.0), arm_of("bad", 8.0), arm_of("same", 1.0)], 3)


def links(n=120, shift=1.0, seed=0):
    generator = np.random.default_rng(seed)
    positive = np.arange(n) % 3 == 0
    return positive, generator.normal(size=n) + shift * positive, generator.normal(size=n) + positive


def delong_test(first, second, positive):
    return delong_over_folds([(np.arange(len(positive)), np.stack([first, second], axis=1), positive)], len(positive))


def brute_force_delong(scores, positive):
    def psi(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    above, below = scores[positive], scores[~positive]
    m, n = len(above), len(below)
    v10 = np.array([[np.mean([psi(x, y) for y in below[:, k]]) for x in above[:, k]] for k in range(2)])
    v01 = np.array([[np.mean([psi(x, y) for x in above[:, k]]) for y in below[:, k]] for k in range(2)])
    return v10.mean(1), np.cov(v10) / m + np.cov(v01) / n


@given(hnp.arrays(np.int64, (14, 2), elements=st.integers(0, 6)), st.integers(2, 12))
def test_delong_is_what_its_definition_says_ties_included(scores, n_positive):
    positive = np.arange(14) < n_positive
    test = delong_test(*scores.T.astype(float), positive)
    areas, covariance = brute_force_delong(scores.astype(float), positive)
    np.testing.assert_allclose([test.first, test.second], areas, atol=1e-12)
    error = max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0) ** 0.5
    assert (test.high - test.low) / (2 * 1.96) == pytest.approx(error, abs=1e-7)


def test_the_p_value_of_delong_is_that_of_the_normal_difference():
    positive, first, second = links()
    test = delong_test(first, second, positive)
    areas, covariance = brute_force_delong(np.stack([first, second], axis=1), positive)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert test.p_value == pytest.approx(2 * norm.sf(abs(areas[0] - areas[1]) / error))
    assert test.high - test.low == pytest.approx(2 * 1.96 * error)
    assert delong_test(first, first, positive).p_value == 1
    assert np.isnan(delong_test(positive * 1.0, -1.0 * positive, positive).p_value)


def test_delong_wants_two_of_each_class():
    with pytest.raises(DataError, match="found 1 and 2"):
        delong_test(np.arange(3.0), np.arange(3.0), np.array([True, False, False]))


def drawn_differences(first, second, positive, n_resamples):
    rows, truth = np.arange(len(positive)), positive[:, None].astype(float)
    answers = [
        Answers("log-odds", "auroc", pd.RangeIndex(len(rows)), ["death"], [Cell(0, 0, rows, link[:, None], truth)])
        for link in (first, second)
    ]
    one, other = resampled(answers, n_resamples, 0)[1]
    return one - other


def test_delong_and_the_bootstrap_agree(found):
    one, two = (compare(found, "good", "bad", tasks=["death"], method=m).iloc[0] for m in ("delong", "bootstrap"))
    assert (one["method"], two["method"]) == ("delong", "bootstrap")
    assert one["difference"] == pytest.approx(two["difference"])
    assert one["high"] - one["low"] == pytest.approx(two["high"] - two["low"], rel=0.2)
    positive, first, second = links(300)
    test, drawn = delong_test(first, second, positive), drawn_differences(first, second, positive, 2000)
    low, high = interval(drawn)
    assert test.high - test.low == pytest.approx(high - low, rel=0.1)
    assert abs(test.p_value - two_sided(drawn)) < 0.05


def test_delong_is_right_under_the_null():
    p = [delong_test(*links(120, seed=seed)[1:], links(120, seed=seed)[0]).p_value for seed in range(400)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.085
    assert 0.4 < np.mean(np.array(p) < 0.5) < 0.6


@pytest.mark.parametrize("task", WIDTHS)
def test_what_is_resampled_is_the_metric_of_the_task(found, task):
    answers = found.answers("bad", task)
    value, drawn = resampled([answers], 40, 0)
    scores = found.scores.query("arm == 'bad' and task == @task and metric == @answers.metric")["value"]
    assert value[0] == pytest.approx(scores.mean(), abs=1e-9)
    assert drawn.std() > 0


@pytest.mark.parametrize("task", WIDTHS)
def test_a_resample_scores_as_if_the_patients_stood_there_so_often(found, task):
    answers = found.answers("good", task)
    times = np.random.default_rng(1).multinomial(
        len(answers.patients), [1 / len(answers.patients)] * len(answers.patients)
    )
    fitted = next(each for each in fit_tasks(make_study(), make_cohort()) if each.name == task)
    for cell in answers.cells:
        rows = np.repeat(np.arange(len(cell.patients)), times[cell.patients])
        expected = fitted.link_metrics(torch.from_numpy(cell.link[rows]), torch.from_numpy(cell.truth[rows]))
        one = main_score(answers.scale, cell.link, cell.truth, partly=True)(times[None, cell.patients].astype(float))
        assert one[0] == pytest.approx(expected[answers.metric], abs=1e-9)


def test_a_better_arm_is_better_and_an_equal_one_is_equal(found):
    table = compare(found, "good", ["bad", "same"], n_resamples=500)
    assert list(table) == COLUMNS
    better, equal = table[table["reference"] == "bad"], table[table["reference"] == "same"]
    assert (better[better["task"].isin(["death", "grade", "size"])]["low"] > 0).all()
    clear = better[better["task"].isin(["grade", "size"])]
    assert (clear["p_value"] < 0.05).all()
    assert (clear["t_low"] > 0).all()
    assert (clear["verdict"] == "better").all()
    assert (equal["verdict"] == "tied").all()
    assert (equal[["difference", "low", "high"]] == 0).all(axis=None)
    assert (equal["p_value"] == 1).all()
    assert (table["low"] <= table["difference"]).all()
    assert (table["n"] == [len(found.answers("good", task).patients) for task in table["task"]]).all()


def test_the_other_way_round_is_the_negative(found):
    there, back = (compare(found, *pair, n_resamples=200) for pair in (("good", "bad"), ("bad", "good")))
    np.testing.assert_allclose(there["difference"], -back["difference"])
    np.testing.assert_allclose(there["low"], -back["high"])
    np.testing.assert_allclose(there["p_value"], back["p_value"])


def test_repeats_that_say_the_same_again_make_no_interval_narrower(found):
    first = found.predictions.query("repeat == 0")
    once = OutOfFold(found.scores.query("repeat == 0"), first, found.targets)
    again = pd.concat([first.assign(repeat=r) for r in range(5)])
    five = OutOfFold(found.scores.query("repeat == 0"), again, found.targets)
    for method in ("bootstrap", "delong"):
        one, other = (compare(each, "good", "bad", tasks=["death"], method=method) for each in (once, five))
        over_folds = ["t_low", "t_high", "p_value", "p_adjusted", "verdict"]
        pd.testing.assert_frame_equal(one.drop(columns=over_folds), other.drop(columns=over_folds), atol=1e-12)


def equal_learners(rng, n=60, width=10, n_folds=5, repeats=2):
    """Two ridge regressions of independent features that say equally much about the outcome, cross-validated."""
    risk = rng.normal(size=n)
    died = (rng.random(n) < 1 / (1 + np.exp(-1.5 * risk))).astype(float)
    deals = [rng.permutation(n) % n_folds for _ in range(repeats)]
    arms = {}
    for name in ("one", "other"):
        x = np.column_stack([0.5 * risk[:, None] + rng.normal(size=(n, width)), np.ones(n)])
        cells = []
        for repeat, fold in enumerate(deals):
            for k in range(n_folds):
                train, test = x[fold != k], np.flatnonzero(fold == k)
                y = died[fold != k] - died[fold != k].mean()
                weights = np.linalg.solve(train.T @ train + 0.5 * np.eye(width + 1), train.T @ y)
                cells.append(Cell(repeat, k, test, (x[test] @ weights)[:, None], died[test][:, None]))
        arms[name] = Answers("log-odds", "auroc", pd.Index([f"p{i}" for i in range(n)]), ["death"], cells)
    return arms


def false_positives(n_cohorts, **options):
    """The shares of cohorts in which equal arms differ by the bootstrap alone, and by the verdict."""
    rng, found = np.random.default_rng(0), []
    for _ in range(n_cohorts):
        arms = equal_learners(rng, **options)
        (row,) = compared("death", arms, [("one", "other")], "bootstrap", 100, 0)
        of = dict(zip(COLUMNS, row, strict=True))
        found.append((of["low"] > 0 or of["high"] < 0, of["verdict"] in ("better", "worse")))
    return np.mean(found, axis=0)


def test_equal_arms_are_seldom_told_apart():
    """The bootstrap over patients takes the models as they are; what their training varied looks like a difference."""
    by_bootstrap, by_verdict = false_positives(40, n=60, width=20, repeats=1)
    assert by_bootstrap > by_verdict
    assert by_verdict <= 0.1


@pytest.mark.slow
def test_equal_arms_are_told_apart_in_one_of_twenty_cohorts():
    assert false_positives(300)[1] <= 0.06
    assert false_positives(300, n=120, width=40)[1] <= 0.06


def test_standings_say_best_only_where_both_intervals_leave_zero_out(found):
    by_task = {one.task: one for one in standings(found, n_resamples=100)}
    assert not any(one.is_best for one in by_task.values())  # two arms are the same
    said = standing(by_task["size"])
    assert said.startswith("size: good has the highest R²")
    assert "but is tied with same: difference 0.000 (0.000 to 0.000)." in said
    two = found.predictions["arm"] != "same"
    apart = OutOfFold(found.scores.query("arm != 'same'"), found.predictions[two], found.targets)
    (best,) = standings(apart, tasks=["size"], n_resamples=100)
    row = compare(apart, "good", "bad", tasks=["size"], n_resamples=100).iloc[0]
    (rival,) = best.rivals
    assert (rival.low, rival.high) == (min(row["low"], row["t_low"]), max(row["high"], row["t_high"]))
    assert best.is_best
    assert ", and is best: ahead of bad by " in standing(best)
    for low, high, verdict in ((0.01, 0.02, "tied"), (np.nan, np.nan, "unknown")):
        level = replace(best, rivals=(replace(rival, low=low, high=high, verdict=verdict),))
        assert not level.is_best
        assert "best" not in standing(level)


def test_the_corrected_t_is_that_of_nadeau_and_bengio():
    differences = np.array([0.02, 0.05, -0.01, 0.03, 0.04, np.nan])
    found = corrected_resampled_t(differences, 0.25)
    known = differences[:5]
    error = np.sqrt(known.var(ddof=1) * (1 / 5 + 0.25))
    assert (found.low, found.high) == pytest.approx(t(4, known.mean(), error).interval(0.95))
    assert found.p_value == pytest.approx(2 * t.sf(known.mean() / error, 4))
    assert np.isnan(corrected_resampled_t(differences[:1], 0.25).p_value)
    assert corrected_resampled_t(np.zeros(5), 0.25) == TInterval(0.0, 0.0, 1.0)
    naive = stats.ttest_1samp(known, 0.0)
    assert corrected_resampled_t(known, 0.0).p_value == pytest.approx(naive.pvalue)


def holm_by_definition(p):
    levels = sorted({min(1.0, x * k) for x in p for k in range(1, len(p) + 1)} | {1.0})
    answer = []
    for i in range(len(p)):
        for level in levels:
            rejected = set()
            for step, j in enumerate(sorted(range(len(p)), key=lambda j: p[j])):
                if p[j] * (len(p) - step) > level + 1e-12:
                    break
                rejected.add(j)
            if i in rejected:
                answer.append(level)
                break
        else:
            answer.append(1.0)
    return answer


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_lowest_level_that_rejects(p):
    np.testing.assert_allclose(holm(np.array(p)), holm_by_definition(p), atol=1e-9)


def test_holm_leaves_the_undefined_out_and_adjusts_the_whole_table(found):
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04])
    parts = [compare(found, "good", "bad", tasks=[task], n_resamples=200) for task in WIDTHS]
    whole = compare(found, "good", "bad", n_resamples=200)
    pd.testing.assert_frame_equal(adjusted(pd.concat(parts, ignore_index=True)), whole)
    assert (whole["p_adjusted"] >= whole["p_value"]).all()


def test_intervals_of_averages_hold_the_averages_and_widen_with_fewer_patients(found):
    table = averages(found, 400)
    assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"])).mean() > 0.9
    assert set(table["metric"]) == {"auroc", "r2", "cindex"}


@pytest.mark.slow
def test_the_interval_of_a_difference_covers_the_truth():
    truth = norm.cdf(1.5 / 2**0.5) - norm.cdf(1 / 2**0.5)
    covered = []
    for seed in range(300):
        positive, first, second = links(150, 1.5, seed)
        low, high = interval(drawn_differences(first, second, positive, 400))
        covered.append(low <= truth <= high)
    assert 0.91 < np.mean(covered) < 0.98


def test_what_is_unknown_is_named(found):
    with pytest.raises(StudyError, match=r"Unknown arm 'goood'\. Did you mean 'good'"):
        compare(found, "goood", "bad")
    with pytest.raises(StudyError, match=r"Unknown task 'deth'\. Did you mean 'death'"):
        compare(found, "good", "bad", tasks=["deth"])
    with pytest.raises(StudyError, match=r"Unknown method 'delon'\. Did you mean 'delong'"):
        compare(found, "good", "bad", method="delon")


def test_predictions_survive_a_folder(found, tmp_path):
    found.save(tmp_path / "cv")
    again = OutOfFold.load(tmp_path / "cv")
    for name in ("scores", "predictions", "targets"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(again, name), check_exact=True)
    (tmp_path / "cv" / "targets.parquet").unlink()
    with pytest.raises(DataError, match=r"holds no targets\.parquet"):
        OutOfFold.load(tmp_path / "cv")
