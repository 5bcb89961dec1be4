"""Does anything of a test patient reach the model? Where labels mean nothing, no arm may do better than chance."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from multimodn import Cohort, Study
from multimodn.evaluate.arms import as_arm
from multimodn.evaluate.baselines import fit_late_ridge, late_ridge
from multimodn.evaluate.crossval import cross_predict, ours, summary
from multimodn.evaluate.nested import nested

WIDE = 60  # columns of noise of each table


def make_study(**training):
    return Study(
        name="noise",
        cohort={"patient": "id", "sources": {"a": "a.csv", "b": "b.csv", "y": "y.csv"}},
        modalities=[
            {"name": "a", "kind": "table", "source": "a", "n_components": 5, "categorical": ["ward"]},
            {"name": "b", "kind": "embedding", "source": "b", "n_components": "auto"},
        ],
        tasks=[{"name": "death", "kind": "binary", "source": "y", "target": "died"}],
        split={"stratify": "death"},
        training={"epochs": 6, "batch_size": 32, "state_size": 8, "learning_rate": 0.01, **training},
    )


def make_cohort(n=100, width=WIDE, seed=0, signal=0.0):
    generator = np.random.default_rng(seed)
    ids = [f"p{i:04d}" for i in range(n)]
    a = pd.DataFrame(generator.normal(size=(n, width)), ids, [f"a{k}" for k in range(width)])
    score = a["a0"].to_numpy().copy()
    a = a.mask(generator.random(a.shape) < 0.1)
    a["ward"] = generator.choice(list("uvwx"), n)
    b = pd.DataFrame(generator.normal(size=(n, width)), ids, [f"b{k}" for k in range(width)]).iloc[n // 6 :]
    died = score * signal + generator.normal(size=n) > 0.3
    return Cohort.from_frames({"a": a, "b": b}, {"death": pd.DataFrame({"died": died * 1}, ids)})


def verdict(cohorts, arms, n_folds=2, **training):
    # 99 % of the mean over cohorts whose labels were drawn apart: the interval of a single one takes the trained models
    # as they are, and is too narrow for this.
    tables = [summary(cross_predict(make_study(**training), each, arms, n_folds, 1), 10) for each in cohorts]
    values = pd.concat(tables).groupby("arm")["mean"].agg(["mean", "sem", "size"])
    wide = values["sem"] * t.ppf(0.995, values["size"] - 1)
    found = pd.DataFrame({"low": values["mean"] - wide, "high": values["mean"] + wide})
    return {arm: tuple(row) for arm, row in found.iterrows() if not arm.startswith("single")}


def missing_chance(intervals):
    return {arm: (low, high) for arm, (low, high) in intervals.items() if not low <= 0.5 <= high}


def with_selected_columns(cohort, n_columns=5):
    # the classic leak: columns chosen by all labels, before anybody is held out
    died = cohort.targets["death"]["died"]
    numbers = {name: frame.select_dtypes("number") for name, frame in cohort.modalities.items()}
    best = {
        name: frame.corrwith(died.loc[frame.index]).abs().nlargest(n_columns).index for name, frame in numbers.items()
    }
    frames = {name: numbers[name][columns] for name, columns in best.items()}
    frames["a"] = frames["a"].assign(ward=cohort.modalities["a"]["ward"])
    return Cohort(cohort.patients, frames, cohort.targets)


def stabilised(study, training, seed):
    # chooses its columns as the leak does, but among its training patients
    chosen = with_selected_columns(training)
    fitted = fit_late_ridge(study, chosen, seed)["late_ridge"]

    def predict(cohort):
        kept = {name: cohort.modalities[name][list(frame)] for name, frame in chosen.modalities.items()}
        return fitted(Cohort(cohort.patients, kept))

    return {"selected_inside": predict}


CHOSEN = as_arm(
    nested("chosen", {"all": lambda *a: {"x": fit_late_ridge(*a)["late_ridge"]}, "selected": stabilised}, n_folds=2)
)


FEW = [make_cohort(seed=seed) for seed in range(4)]


def test_labels_that_mean_nothing_are_not_predicted():
    found = verdict(FEW, [ours, late_ridge, as_arm(stabilised)])
    assert set(found) == {"ours", "late_ridge", "selected_inside"}
    assert missing_chance(found) == {}


def test_a_selection_on_all_patients_is_caught():
    found = verdict(map(with_selected_columns, FEW), [late_ridge])
    assert set(missing_chance(found)) == {"late_ridge"}
    assert found["late_ridge"][0] > 0.5


def test_a_real_signal_is_not_taken_for_noise():
    scores = cross_predict(make_study(), make_cohort(signal=3.0, width=5), [late_ridge], 2, 1)
    assert summary(scores).set_index("arm").loc["late_ridge", "low"] > 0.5


def test_a_model_that_was_trained_on_the_test_patients_is_caught():
    def cheating_on(cohort):
        return lambda study, training, test, seed: {"cheats": fit_late_ridge(study, cohort, seed)["late_ridge"](test)}

    for cohort in FEW[:1]:
        scores = cross_predict(make_study(), cohort, [cheating_on(cohort)], 2, 2).scores
        assert scores["value"].min() > 0.6


@pytest.mark.slow
def test_labels_that_mean_nothing_are_not_predicted_by_larger_models_of_more_columns():
    cohorts = [make_cohort(n=200, width=150, seed=seed) for seed in range(10)]
    found = verdict(cohorts, [ours, late_ridge, as_arm(stabilised), CHOSEN], 4, epochs=15, state_size=16)
    assert set(found) == {"ours", "late_ridge", "selected_inside", "chosen"}
    assert missing_chance(found) == {}


@pytest.mark.slow
def test_a_selection_on_all_patients_is_caught_in_larger_models_too():
    cohorts = [with_selected_columns(make_cohort(n=200, width=150, seed=seed)) for seed in range(6)]
    found = verdict(cohorts, [ours, late_ridge], 4, epochs=15, state_size=16)
    assert set(missing_chance(found)) == {"ours", "late_ridge"}
    assert min(low for low, _ in found.values()) > 0.5
