import pickle
import warnings
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from multimodn import DataWarning, MultiModNClassifier
from multimodn.errors import DataError, StudyError

FAST = {"epochs": 20, "learning_rate": 0.03, "penalty": 0.3}
SMALL = FAST | {"batch_size": 8, "penalty": 0.05}  # for a few dozen rows
MODALITIES = {"labs": ["crp", "hb"], "notes": ["age", "site"]}


def make_rows(n_rows=60, seed=0):
    """A table whose first modality separates the classes, with rows that lack one modality or both."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n_rows) < 0.5, "dead", "alive")
    frame = pd.DataFrame(
        {
            "crp": rng.normal(size=n_rows) + 3 * (y == "dead"),
            "hb": rng.normal(size=n_rows),
            "age": rng.normal(60, 10, n_rows),
            "site": rng.choice(["oral", "larynx"], n_rows),
        },
        index=pd.Index([f"row {i}" for i in range(n_rows)], name="case"),
    )
    frame.loc[frame.index[:5], ["age", "site"]] = None
    frame.loc[frame.index[5], ["crp", "hb"]] = None
    return frame, y


def test_every_check_of_scikit_learn_is_passed():
    # No check is expected to fail. Some of them feed constant columns or classes seen once: noted, not refused.
    checked = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in estimator_checks_generator(MultiModNClassifier(**FAST)):
            if check.func.__name__ != "check_classifiers_train":  # the one that asks for accuracy
                estimator.set_params(epochs=1)
            try:
                check(estimator)
                checked += 1
            except SkipTest:
                pass
    assert checked > 40


def test_modalities_are_skipped_row_by_row():
    frame, y = make_rows()
    before = frame.copy()
    model = MultiModNClassifier(MODALITIES, **FAST).fit(frame, y)
    pd.testing.assert_frame_equal(frame, before)
    assert model.score(frame, y) > 0.85
    shares = model.contributions(frame)
    assert list(shares.columns) == ["output", "modality", "contribution", "standard_error", "prior", "prediction"]
    assert shares.loc["row 0", "modality"] == "labs"
    assert shares.loc["row 5", "modality"] == "notes"
    assert shares.loc["row 9", "modality"].tolist() == ["labs", "notes"]
    assert set(shares["output"]) == {"dead"}
    total = shares.groupby(level=0)["contribution"].sum()
    first = shares.groupby(level=0)[["prior", "prediction"]].first()
    np.testing.assert_allclose(total, first["prediction"] - first["prior"], atol=1e-6)
    probability = pd.Series(model.predict_proba(frame)[:, 1], frame.index)
    np.testing.assert_allclose(1 / (1 + np.exp(-first["prediction"])), probability[first.index], atol=1e-9)


def test_a_row_without_any_modality_gets_the_prior():
    frame, y = make_rows()
    model = MultiModNClassifier(MODALITIES, **FAST).fit(frame, y)
    nobody = frame.iloc[[8]].mask(np.ones((1, 4), dtype=bool))
    with pytest.warns(DataWarning, match="none of the modalities and get the prior"):
        probabilities = model.predict_proba(nobody)
    shares = model.contributions(frame.iloc[[8]])
    np.testing.assert_allclose(probabilities[0, 1], 1 / (1 + np.exp(-shares["prior"].iloc[0])), atol=1e-9)


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_where_no_column_says_anything_the_prior_is_predicted():
    model = MultiModNClassifier(**FAST).fit(np.ones((8, 2)), list("aaabbbcc"))
    np.testing.assert_allclose(model.predict_proba(np.zeros((2, 2))), [[3 / 8, 3 / 8, 2 / 8]] * 2)
    assert model.contributions(np.zeros((2, 2))).empty


def test_it_is_said_that_no_column_says_anything():
    with pytest.warns(DataWarning, match="all training rows are the same: features"):
        MultiModNClassifier(**FAST).fit(np.ones((8, 2)), list("aaaabbbb"))


def test_three_classes_and_an_ensemble_from_an_array_with_holes():
    rng = np.random.default_rng(1)
    y = np.repeat([10, 20, 30], 20)
    values = rng.normal(size=(60, 4)) + y[:, None] / 5
    values[::7, :2] = np.nan
    model = MultiModNClassifier({"a": [0, 1], "b": [2, 3]}, members=2, **FAST).fit(values, y)
    probabilities = model.predict_proba(values)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert model.score(values, y) > 0.85
    assert set(model.contributions(values)["output"]) == {10, 20, 30}
    assert len(model.model_.trained.ensemble.members) == 2


def test_cross_validation_grid_search_and_pickle():
    frame, y = make_rows()
    model = MultiModNClassifier(MODALITIES, encoder_options={"labs": {"hidden_size": 8}}, **SMALL)
    assert cross_val_score(model, frame, y, cv=2).mean() > 0.8
    search = GridSearchCV(model.set_params(epochs=2), {"state_size": [4, 8]}, cv=2).fit(frame, y)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(frame), search.predict_proba(frame))


def test_the_same_seed_gives_the_same_numbers_and_another_other_ones():
    frame, y = make_rows()
    frame = frame[["crp", "hb"]].drop(index="row 5")
    y = np.delete(y, 5)

    def run(seed):
        return MultiModNClassifier(epochs=2, random_state=seed).fit(frame, y).predict_proba(frame)

    np.testing.assert_array_equal(run(3), run(3))
    assert not np.allclose(run(3), run(4))


def test_wrong_words_and_cells_are_named():
    frame, y = make_rows()
    with pytest.raises(StudyError, match=r"no column 'crq'\. Did you mean 'crp'"):
        MultiModNClassifier({"labs": ["crq"]}).fit(frame, y)
    with pytest.raises(StudyError, match="unknown modality 'lab'"):
        MultiModNClassifier(MODALITIES, encoder_options={"lab": {}}).fit(frame, y)
    with pytest.raises(StudyError, match="`modalities` is empty"):
        MultiModNClassifier({}).fit(frame, y)
    model = MultiModNClassifier(MODALITIES, epochs=1).fit(frame, y)
    wrong = frame.astype({"crp": object})
    wrong.loc["row 9", "crp"] = "high"
    with pytest.raises(DataError, match=r"(?s)crp.*high.*patient '9'"):
        model.predict(wrong)
