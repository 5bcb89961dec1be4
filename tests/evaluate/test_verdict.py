"""Against simple models on the same patients: values, paired intervals, what is never looked at, and the sentences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn import MultiModN
from multimodn.base.task import main_metric
from multimodn.data.splits import Split
from multimodn.errors import DataError, NotFittedError, StudyError
from multimodn.evaluate.baselines import compare, train
from multimodn.evaluate.baselines.compare import COLUMNS, compare_with_baselines, sentences
from multimodn.evaluate.baselines.design_matrix import tabular_study
from multimodn.metrics.tasks import main_score
from multimodn.training.build import fit_tasks
from multimodn.training.fit import TrainerFlags
from tests.evaluate._toy import make_cohort, make_study
from tests.evaluate._verdicts import made

TASKS = ("death", "size", "survival")


@pytest.fixture(scope="module")
def run():
    """A model of 240 patients, 160 of whom it was trained on."""
    study = make_study(TASKS, epochs=2).model_copy(update={"subgroups": ["a.a1"]})
    cohort = make_cohort(n=240, tasks=TASKS)
    everyone = cohort.patients.to_numpy(dtype=object)
    split = Split(everyone[:130], everyone[130:160], everyone[160:])
    return MultiModN(study).fit(cohort, split=split, flags=TrainerFlags(progress=False)), cohort


@pytest.fixture(scope="module")
def both(run):
    """The comparison, and what was trained for it."""
    trained, original = [], train.train_arms
    with pytest.MonkeyPatch.context() as patch:
        few_penalties(patch)
        patch.setattr(train, "train_arms", lambda *given: trained.append(original(*given)) or trained[-1])
        return compare_with_baselines(*run, arms=("late_ridge", "best_single"), n_resamples=200), trained[0]


@pytest.fixture(scope="module")
def compared(both):
    return both[0]


def few_penalties(patch):
    patch.setattr("multimodn.evaluate.baselines.ridge.PENALTIES", (1e-2,))
    patch.setattr("multimodn.evaluate.baselines.cox.PENALTIES", (1.0,))


def overall(frame, arm):
    return frame[(frame["arm"] == arm) & (frame["by"] == "overall")].set_index("task")


def test_every_arm_is_scored_by_the_main_metric_on_the_test_patients(run, both):
    (model, cohort), (compared, trained) = run, both
    assert list(compared) == COLUMNS
    training, test = (cohort.subset(ids) for ids in (cohort.patients[:160], model.split.test))
    for arm, links in (("ours", model.link(test)), ("late_ridge", trained.fitted["late_ridge"](test))):
        for task in fit_tasks(model.study, training):
            target, known = task.prepare(test.targets[task.name])
            link = np.asarray(links[task.name], dtype=np.float64)[known.numpy()]
            metrics = task.link_metrics(*map(torch.as_tensor, (link, task.link_target(target[known]))))
            row = overall(compared, arm).loc[task.name]
            assert row["value"] == pytest.approx(metrics[main_metric(task)], abs=1e-6)
            assert row["n"] == int(known.sum())


def test_a_difference_is_that_of_the_values_and_lies_in_its_interval(compared):
    for arm in ("late_ridge", "best_single"):
        rows, ours = overall(compared, arm), overall(compared, "ours")
        np.testing.assert_allclose(rows["difference"], ours["value"] - rows["value"])
        assert (rows["difference_low"] <= rows["difference"]).all()
        assert (rows["difference"] <= rows["difference_high"]).all()


def test_p_values_agree_with_the_intervals_and_are_adjusted_in_two_families(compared):
    rows = compared[compared["p_value"].notna()]
    clear = (rows["difference_low"] > 0) | (rows["difference_high"] < 0)
    assert (rows.loc[clear, "p_value"] < 0.06).all()
    assert (rows.loc[~clear, "p_value"] > 0.04).all()
    assert (rows["p_adjusted"] >= rows["p_value"]).all()
    for _, family in rows.groupby(rows["by"] == "overall"):
        smallest = family["p_value"].idxmin()
        assert family["p_adjusted"][smallest] == pytest.approx(min(1, len(family) * family["p_value"][smallest]))


def test_groups_are_parts_of_the_patients_and_large_enough(compared):
    groups = compared[compared["by"] != "overall"]
    assert {"pattern", "subgroup"} == set(groups["by"])
    assert (groups["n"] >= 10).all()
    assert (groups["n"] < groups["task"].map(overall(compared, "ours")["n"])).all()


@given(st.integers(0, 99))
def test_an_arm_that_predicts_the_same_differs_by_nothing(seed):
    generator = np.random.default_rng(seed)
    link, truth = generator.normal(size=(30, 1)), (np.arange(30) % 3 == 0).astype(float)[:, None]
    answer = compare._TestPredictions(link, truth)
    part = compare.PatientGroup("overall", "all", -1, torch.as_tensor(link), np.arange(30))
    ours, other = compare._rows("log-odds", {"ours": answer, "twin": answer}, [part], 50, seed)
    assert (other["difference"], other["difference_low"], other["difference_high"], other["p_value"]) == (0, 0, 0, 1)
    assert (ours["low"], ours["high"]) == (other["low"], other["high"])


def test_a_group_is_scored_as_if_it_were_alone():
    generator = np.random.default_rng(0)
    link, truth = generator.normal(size=(40, 1)), (np.arange(40) % 2 == 0).astype(float)[:, None]
    rows = np.arange(5, 25)
    parts = [compare.PatientGroup("", "", -1, torch.as_tensor(link), each) for each in (np.arange(40), rows)]
    *_, line = compare._rows("log-odds", {"ours": compare._TestPredictions(link, truth)}, parts, 50, 0)
    alone = main_score("log-odds", link[rows], truth[rows])(np.ones((1, 20)))[0]
    assert line["value"] == alone


def test_nothing_of_the_test_patients_reaches_what_is_chosen_or_trained(run, both, monkeypatch):
    few_penalties(monkeypatch)
    (model, cohort), (_, before) = run, both
    is_test = cohort.patients.isin(model.split.test)
    generator = np.random.default_rng(1)

    def shuffled(table):
        order = np.arange(len(table))
        order[is_test] = generator.permutation(order[is_test])
        return table.iloc[order].set_axis(table.index)

    changed = replace(cohort, targets={name: shuffled(table) for name, table in cohort.targets.items()})
    again, original = [], train.train_arms
    monkeypatch.setattr(train, "train_arms", lambda *given: again.append(original(*given)) or again[-1])
    compare_with_baselines(model, changed, arms=("best_single",), n_resamples=2)
    test = cohort.subset(model.split.test)
    assert again[0].best == before.best
    for task in TASKS:
        one, other = (each.fitted["best_single"](test)[task] for each in (before, again[0]))
        np.testing.assert_array_equal(one, other)


def test_the_best_single_modality_is_the_one_that_carries_the_signal(monkeypatch):
    few_penalties(monkeypatch)
    cohort = make_cohort(n=200, tasks=("death", "size"))
    noise = {m: t * 0 + np.random.default_rng(3).normal(size=t.shape) for m, t in cohort.modalities.items() if m != "c"}
    cohort = replace(cohort, modalities={**noise, "c": cohort.modalities["c"]})
    tabular = tabular_study(make_study(("death", "size")), cohort)
    found = train.best_singles(tabular, cohort, 0)
    assert {task: name.removeprefix("single:") for task, name in found.items()} == {"death": "c", "size": "c"}


def test_an_arm_that_the_data_cannot_carry_is_named_and_the_others_go_on(run, monkeypatch):
    def fails(*_):
        raise DataError("a class is too rare")

    monkeypatch.setattr(train, "best_singles", fails)
    found = compare_with_baselines(*run, arms=("best_single", "early_concat"), n_resamples=2)
    assert found.failed == {"best_single": "a class is too rare"}
    assert set(found["arm"]) == {"ours", "early_concat"}


def test_it_says_which_arm_is_trained(run):
    said = []
    compare_with_baselines(*run, arms=("early_concat",), n_resamples=2, on_arm=said.append)
    assert said == ["early_concat"]


def test_an_unknown_baseline_is_refused_with_the_nearest(run):
    with pytest.raises(StudyError, match=r"Unknown baseline 'late_rigde'. Did you mean 'late_ridge'"):
        compare_with_baselines(*run, arms=("late_rigde",))


def test_an_untrained_model_is_refused():
    with pytest.raises(NotFittedError):
        compare_with_baselines(MultiModN(make_study()))


def test_patients_who_were_trained_on_are_refused(run):
    model, cohort = run
    prepared = model.prepare(cohort.subset(cohort.patients[150:170]), labelled=True)
    with pytest.raises(DataError, match=r"10 patient.s. were trained on"):
        compare_with_baselines(model, cohort, patients=prepared)


def test_a_cohort_without_the_training_patients_is_refused(run):
    model, cohort = run
    with pytest.raises(DataError, match=r"100 patient.s. of the model's split are not in the cohort"):
        compare_with_baselines(model, cohort.subset(cohort.patients[100:]))


def test_a_split_without_test_patients_is_refused(run):
    model, cohort = run
    other = MultiModN.of(replace(model.trained, split=Split(cohort.patients, [], [])))
    with pytest.raises(DataError, match="no test patients"):
        compare_with_baselines(other, cohort)


@pytest.mark.parametrize(
    ("best", "adjusted", "words"),
    [
        ((0.1, 0.02, 0.2), 0.01, "multimodal fusion helped: better than the best single modality (labs) with 0.70"),
        ((0.1, 0.02, 0.2), 0.2, "multimodal fusion may have helped: better than"),
        ((0.1, 0.02, 0.2), 0.2, "no longer clear after adjustment for all comparisons"),
        ((0.0, -0.2, 0.2), 1.0, "made no clear difference: neither better nor worse than the best single modality"),
        ((0.0, -0.02, 0.02), 1.0, "made no clear difference: as good as the best single modality"),
        ((-0.1, -0.2, -0.05), 0.01, "multimodal fusion did not help: worse than the best single modality"),
        ((0.1, np.nan, np.nan), np.nan, "whether fusion helped beyond the best single modality (labs) is not known"),
    ],
)
def test_a_sentence_says_whether_fusion_helped(best, adjusted, words):
    (said,) = sentences(made(best=best, adjusted=adjusted))
    assert said.startswith("death: AUROC 0.80 in 100 test patients; ")
    assert words in said
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ((0.01, -0.03, 0.05), "a ridge regression does as well, as far as these patients show: late ridge fusion has"),
        (
            (-0.1, -0.2, -0.02),
            "a ridge regression does better: late ridge fusion has 0.90, difference \N{MINUS SIGN}0.10",
        ),
        ((0.1, 0.03, 0.2), "better than late ridge fusion with 0.70, difference +0.10 (+0.03 to +0.20)"),
    ],
)
def test_a_sentence_says_whether_a_ridge_regression_does_as_well(late, words):
    assert words in sentences(made(late=late))[0]


def test_other_arms_are_named_only_if_they_clearly_differ():
    said = sentences(made(arms=[("xgboost", (-0.1, -0.2, -0.01)), ("tabm", (0.0, -0.1, 0.1))]))[0]
    assert "it is worse than boosted trees (XGBoost) (0.90, difference" in said
    assert "TabM" not in said


def test_a_sentence_says_for_whom_and_how_many_groups_were_looked_at():
    groups = [
        ("late_ridge", "subgroup", "labs.sex = f", 0.01, 0.2, 0.3),
        ("late_ridge", "pattern", "labs+scan", -0.3, -0.1, 0.01),
        ("best_single", "pattern", "labs+notes+scan", 0.05, 0.2, 0.2),
        ("best_single", "subgroup", "labs.sex = m", -0.1, 0.1, 1.0),
    ]
    said = sentences(made(groups=groups))[0]
    assert "clearly better than late ridge fusion in labs.sex = f (n = 40)" in said
    assert "clearly better than the best single modality in patients with all 3 (n = 40)" in said
    assert "clearly worse than late ridge fusion in patients with all but notes (n = 40)" in said
    assert "(4 comparisons in 4 groups, of which one in twenty would be clear by chance; 1 of 3 remain" in said


def test_a_sentence_says_where_no_group_differs_or_none_is_large_enough():
    groups = [(arm, "pattern", "labs", -0.1, 0.1, 1.0) for arm in ("late_ridge", "best_single")]
    assert "it does not clearly differ from either in any of 1 group." in sentences(made(groups=groups))[0]
    assert "no group is large enough to compare on its own." in sentences(made())[0]


def test_too_few_patients_have_no_verdict():
    unknown = (0.1, np.nan, np.nan)
    assert "too few of them, or of their outcomes" in sentences(made(late=unknown, best=unknown))[0]


def test_a_task_without_a_baseline_has_no_verdict():
    frame = made()
    assert "no baseline could predict this task" in sentences(frame[frame["arm"] == "ours"])[0]


@pytest.mark.parametrize(("frame", "fault"), [(made()[[]], "lacks task"), (made().head(0), "has no rows")])
def test_another_frame_has_no_verdict(frame, fault):
    with pytest.raises(DataError, match=f"No verdict: the frame {fault}"):
        sentences(frame)


def test_there_is_a_sentence_for_each_task(compared):
    said = sentences(compared)
    assert [sentence.partition(":")[0] for sentence in said] == list(TASKS)
