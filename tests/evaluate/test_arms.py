"""Trainers and their fitted models: all task kinds, what presence may do; the simple baselines are unchanged."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from multimodn.evaluate.baselines import ridge as baselines
from multimodn.evaluate.baselines.boosting import fit_lightgbm
from multimodn.evaluate.baselines.fusion_networks import NEURAL
from multimodn.evaluate.baselines.ridge import (
    early_concat,
    fit_early_concat,
    fit_late_ridge,
    fit_xgboost,
    late_ridge,
    xgboost,
)
from multimodn.evaluate.baselines.tabm import TabMOptions, fit_tabm
from multimodn.evaluate.crossval.arms import fit_ours, ours
from tests.evaluate._toy import WIDTHS, N, halves, make_cohort, make_study, without

fit_small_tabm = partial(fit_tabm, options=TabMOptions(n_networks=4, hidden_size=16, epochs=3))
SIMPLE = (fit_late_ridge, fit_early_concat, fit_xgboost, fit_lightgbm, fit_small_tabm)

# What the simple baselines answered to four patients when fitting and predicting were one step; survival since the Cox
# penalty is chosen and log-risks keep their size.
GOLDEN = {
    ("late_ridge", "death"): [-0.33278, 0.23318, -1.028, -1.4296],
    ("late_ridge", "size"): [-0.87997, 1.7609, -1.874, -0.98412],
    ("late_ridge", "survival"): [-0.18569, 0.079602, -0.20873, -0.098186],
    ("single:b", "death"): [-0.086615, -0.086615, -0.19858, 0.17215],
    ("single:b", "size"): [0.16094, 0.16094, -0.42684, 1.1999],
    ("single:b", "survival"): [-0.020981, -0.020981, -0.045197, 0.11766],
    ("early_concat", "death"): [-1.376, 1.1196, -4.1387, -4.1847],
    ("early_concat", "size"): [-1.7204, 3.7161, -6.4859, -3.5728],
    ("early_concat", "survival"): [-0.39132, 0.12835, -0.64495, -0.40232],
}


@pytest.fixture(scope="module", autouse=True)
def _few_penalties():
    """Choosing among five takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "PENALTIES", (1e-2, 1.0))
        yield


@pytest.fixture(scope="module")
def every_arm():
    """All arms fitted to all kinds of tasks, and the test patients."""
    train, test = halves(make_cohort())
    fitted = [trainer(make_study(epochs=2), train, 0) for trainer in (*SIMPLE, *NEURAL)]
    return test, {name: predict for arms in fitted for name, predict in arms.items()}


@pytest.fixture(scope="module")
def answers(every_arm):
    """What each arm says of the test patients as they are."""
    test, arms = every_arm
    return {name: predict(test) for name, predict in arms.items()}


def test_every_arm_has_its_name(every_arm):
    assert list(every_arm[1]) == [
        *("late_ridge", "late_ridge_mean", "single:a", "single:b", "single:c", "early_concat", "xgboost"),
        *("lightgbm", "tabm"),
        *("p_fusion", "p_fusion_presence", "p_fusion_dropout", "published", "published_batch_skip"),
        "masked_attention",
    ]


@pytest.mark.parametrize("absent", [(), ("b",), ("a", "b", "c")])
def test_every_arm_predicts_every_task_whatever_is_absent(every_arm, absent):
    test, arms = every_arm
    for predict in arms.values():
        predictions = predict(without(test, *absent))
        assert {name: link.shape for name, link in predictions.items()} == {t: (N // 2, w) for t, w in WIDTHS.items()}
        assert all(link.dtype == np.float64 and np.isfinite(link).all() for link in predictions.values())


def test_a_prediction_does_not_depend_on_the_other_patients(every_arm, answers):
    test, arms = every_arm
    alone = test.subset(test.patients[20:25])
    assert alone.presence.all(axis=None)
    for name, predict in arms.items():
        for task, link in predict(alone).items():
            np.testing.assert_allclose(link, answers[name][task][20:25], rtol=1e-4, atol=1e-5, err_msg=name)


def test_patients_without_any_modality_look_the_same(every_arm):
    test, arms = every_arm
    for predict in arms.values():
        assert all(np.ptp(link, axis=0).max() < 1e-5 for link in predict(without(test, "a", "b", "c")).values())


def test_labels_of_test_patients_are_not_read(every_arm, answers):
    test, arms = every_arm
    unlabelled = replace(test, targets={})
    for name, predict in arms.items():
        for task, link in predict(unlabelled).items():
            np.testing.assert_array_equal(link, answers[name][task])


def test_a_modality_reaches_those_who_have_it_and_nobody_else(every_arm, answers):
    test, arms = every_arm
    changed = replace(test, modalities=test.modalities | {"b": test.modalities["b"] * -3})
    has_b = test.presence["b"].to_numpy()
    for name, predict in arms.items():
        if name not in {"single:a", "single:b", "single:c", "published_batch_skip"}:  # b is never trained in the last
            for task, link in predict(changed).items():
                moved = (np.abs(link - answers[name][task]) > 1e-4).any(axis=1)
                assert moved[has_b].any(), (name, task)
                assert not moved[~has_b].any(), (name, task)


@pytest.mark.parametrize(
    ("arm", "trainer"), [(late_ridge, fit_late_ridge), (early_concat, fit_early_concat), (xgboost, fit_xgboost)]
)
def test_an_arm_is_its_trainer_and_one_prediction(arm, trainer):
    train, test = halves(make_cohort(tasks=("death",)))
    found, fitted = arm(make_study(("death",)), train, test, 0), trainer(make_study(("death",)), train, 0)
    assert set(fitted) - set(found) <= {"late_ridge_mean"}
    for name, predictions in found.items():
        np.testing.assert_array_equal(predictions["death"], fitted[name](test)["death"])


def test_the_simple_baselines_answer_as_they_always_did():
    train, test = halves(make_cohort(tasks=("death", "size", "survival")))
    study = make_study(("death", "size", "survival"))
    found = late_ridge(study, train, test, 0) | early_concat(study, train, test, 0)
    for (arm, task), expected in GOLDEN.items():
        np.testing.assert_allclose(found[arm][task][8:12, 0], expected, rtol=1e-3, atol=1e-4, err_msg=f"{arm} {task}")


def test_ours_is_the_same_as_an_arm_and_as_a_trainer():
    train, test = halves(make_cohort(tasks=("death",)))
    study = make_study(("death",), epochs=1, seed=3)
    found, fitted = ours(study, train, test, 1), fit_ours(study, train, 1)
    np.testing.assert_array_equal(found["ours"]["death"], fitted["ours"](test)["death"])


def test_in_late_ridge_mean_presence_has_no_effect_of_its_own():
    train, test = halves(make_cohort(tasks=("death",)))
    fitted = fit_late_ridge(make_study(("death",)), train, 0)
    predict = fitted["late_ridge_mean"]
    died = train.targets["death"]["died"]
    prior = np.log((died.sum() + 0.5) / ((1 - died).sum() + 0.5))
    np.testing.assert_allclose(predict(without(test, "a", "b", "c"))["death"], prior, rtol=1e-5)
    # what a modality adds is its own, whichever others are there
    everything, nothing = test.subset(test.presence.all(axis=1).to_numpy()), ("a", "b", "c")
    alone = sum(predict(without(everything, *(set(nothing) - {m})))["death"] - prior for m in nothing)
    np.testing.assert_allclose(predict(everything)["death"], prior + alone, atol=1e-6)
    # and among those who have everything it ranks as late ridge fusion does
    difference = predict(everything)["death"] - fitted["late_ridge"](everything)["death"]
    assert np.ptp(difference) < 1e-6
