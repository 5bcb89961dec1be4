"""Presence that depends on what every patient has: weighted, it no longer does; and what that does to predictions."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodn import Cohort, MultiModN, Study
from multimodn.data.covariates import read_covariates
from multimodn.data.splits import Split
from multimodn.errors import DataError, StudyError
from multimodn.missingness.label_shift import LabelShift
from multimodn.missingness.propensity import presence_weights
from multimodn.tasks.binary import BinaryTask
from multimodn.training.fit import TrainerFlags

TASK = BinaryTask("y", "y", ["0", "1"], [0.0])


def draw(n, seed=0, depends=True):
    """Age moves the outcome; who has m1 depends on age alone, or on nothing; m1 itself is noise."""
    rng = np.random.default_rng(seed)
    age, site = rng.normal(60, 10, n), rng.choice(["A", "B"], n)
    score = (age - 60) / 10
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * score))).astype(int)
    has = rng.random(n) < (1 / (1 + np.exp(-1.2 * score)) if depends else 0.5)
    return age, site, y, has, score


def make_study(**more):
    return Study.from_dict(
        {
            "name": "tested",
            "cohort": {"patient": "id", "sources": {"s": "s.csv"}},
            "modalities": [{"name": f"m{m}", "kind": "table", "source": "s", "n_layers": 0} for m in range(2)],
            "tasks": [{"name": "y", "kind": "binary", "source": "s", "target": "y"}],
            "training": {"epochs": 20, "batch_size": 128, "state_size": 8, "learning_rate": 0.02},
            **more,
        }
    )


def make_cohort(n, seed=0):
    age, site, y, has, score = draw(n, seed)
    ids = pd.Index([f"p{i}" for i in range(n)])
    frames = {
        "m0": pd.DataFrame({"age": age, "site": site}, ids),
        "m1": pd.DataFrame({"noise": np.random.default_rng(seed + 1).normal(size=n)}, ids)[has],
    }
    return Cohort.from_frames(frames, {"y": pd.DataFrame({"y": y}, ids)}), has, 1 / (1 + np.exp(-1.5 * score))


def weights_of(age, site, y, has):
    presence = torch.from_numpy(np.stack([np.ones_like(has), has], axis=1))
    table = pd.DataFrame({"m0.age": age, "m0.site": site})
    return presence_weights(presence, torch.from_numpy(y)[:, None], table, [TASK])[:, 0].numpy()


@pytest.mark.parametrize("seed", range(3))
def test_weighted_presence_does_not_depend_on_the_covariates_given_the_outcome(seed):
    age, site, y, has, _ = draw(6_000, seed)
    weight = weights_of(age, site, y, has)
    for outcome in (0, 1):
        rows = y == outcome
        assert weight[rows].mean() == pytest.approx(1, abs=1e-5)
        for part in (rows & has, rows & ~has):
            before = age[part].mean() - age[rows].mean()
            assert abs(before) > 1.5
            assert abs(np.average(age[part], weights=weight[part]) - age[rows].mean()) < abs(before) / 3


def draw_patterns(n_modalities, n=20_000, seed=0):
    """Site z moves the outcome, and who has each modality; given z they have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    z, x = rng.integers(0, 2, n), rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(1.5 * z - 1.05 + x)))).astype(int)
    chance = np.where(z == 1, 0.35, 0.65)
    return z, x, y, rng.random((n, n_modalities)) < chance[:, None], chance


def weights_of_patterns(z, y, has):
    table, strata = pd.DataFrame({"m0.site": np.where(z == 1, "a", "b")}), torch.from_numpy(y)[:, None]
    return presence_weights(torch.from_numpy(has), strata, table, [TASK])


@pytest.mark.parametrize("n_modalities", [1, 2, 5])
def test_weights_are_the_chance_of_the_whole_pattern_given_the_outcome_over_that_given_both(n_modalities):
    z, _, y, has, chance = draw_patterns(n_modalities)
    given_both = np.where(has, chance[:, None], 1 - chance[:, None]).prod(axis=1)
    given_outcome, count = np.empty(len(y)), has.sum(axis=1)
    for outcome in (0, 1):  # modalities share z: P(R | y) is a mixture of two products, not the product of means
        rows = y == outcome
        share, k = z[rows].mean(), count[rows]
        of_a, of_b = (p**k * (1 - p) ** (n_modalities - k) for p in (0.35, 0.65))
        given_outcome[rows] = share * of_a + (1 - share) * of_b
    wanted = (given_outcome / given_both).clip(0.1, 10)
    found = weights_of_patterns(z, y, has)[:, 0].numpy()
    assert np.abs(np.log(found / wanted)).max() < 0.12


@pytest.mark.parametrize("n_modalities", [1, 2, 5])
def test_tilts_are_the_label_shift_of_the_weighted_cohort(n_modalities):
    z, _, y, has, _ = draw_patterns(n_modalities)
    weight = weights_of_patterns(z, y, has)
    shift = LabelShift(torch.from_numpy(has), torch.from_numpy(y)[:, None], [TASK], weights=weight)
    low, high = shift.tilts(torch.ones(1, n_modalities, dtype=torch.bool))[0, 0].tolist()
    full, v = has.all(axis=1), weight[:, 0].numpy()
    odds = v[full & (y == 1)].sum() / v[full & (y == 0)].sum() / (y.sum() / (1 - y).sum())
    assert high - low == pytest.approx(np.log(odds), abs=0.02)


@pytest.mark.parametrize("n_modalities", [2, 4])
def test_what_a_fit_learns_where_everything_is_present_is_what_is_true_of_everybody(n_modalities):
    z, x, y, has, _ = draw_patterns(n_modalities, n=40_000)
    full, weight = has.all(axis=1), weights_of_patterns(z, y, has)
    shift = LabelShift(torch.from_numpy(has), torch.from_numpy(y)[:, None], [TASK], weights=weight)
    low, high = shift.tilts(torch.ones(1, n_modalities, dtype=torch.bool))[0, 0].tolist()
    rows = torch.from_numpy(np.stack([np.ones(full.sum()), z[full], x[full]], axis=1))
    label, v = torch.from_numpy(y[full]).double(), weight[full, 0].double()
    learned = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([learned], line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(rows @ learned + high - low, label, v)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert learned.tolist() == pytest.approx([-1.05, 1.5, 1.0], abs=0.15)


@settings(max_examples=25)
@given(st.integers(10, 80), st.integers(1, 4), st.integers(0, 10_000))
def test_weights_have_mean_one_in_every_stratum_that_occurs(n, n_modalities, seed):
    rng = np.random.default_rng(seed)
    z, strata, has = rng.integers(0, 2, n), rng.integers(-1, 2, n), rng.random((n, n_modalities)) < rng.random()
    weight = weights_of_patterns(z, strata, has)[:, 0].numpy()
    assert (weight[strata < 0] == 1).all()
    for outcome in np.unique(strata[strata >= 0]):
        assert weight[strata == outcome].mean() == pytest.approx(1, abs=1e-5)


def test_with_nothing_missing_nobody_is_weighted():
    z, _, y, has, _ = draw_patterns(2, n=500)
    assert (weights_of_patterns(z, y, np.ones_like(has)) == 1).all()


def test_presence_that_depends_on_nothing_weighs_nobody():
    age, site, y, has, _ = draw(6_000, depends=False)
    assert np.abs(weights_of(age, site, y, has) - 1).max() < 0.3


def test_a_patient_without_a_label_weighs_one():
    age, site, y, has, _ = draw(500)
    y[:50] = -1
    assert (weights_of(age, site, y, has)[:50] == 1).all()


def test_predictions_stay_right_where_presence_follows_a_covariate():
    cohort, _, _ = make_cohort(2_000)
    test, has, chance = make_cohort(2_000, seed=10)
    split = Split(*(part.to_numpy(dtype=object) for part in np.split(cohort.patients, [1_500, 2_000])))
    bias = {}
    for covariates in ((), ("m0.age", "m0.site")):
        study = make_study(presence_covariates=list(covariates))
        model = MultiModN(study).fit(cohort, split=split, flags=TrainerFlags("cpu"))
        said = model.link(test)["y"][:, 0].sigmoid().numpy()
        bias[covariates] = abs((said - chance)[has].mean()) + abs((said - chance)[~has].mean())
    assert bias["m0.age", "m0.site"] < bias[()] / 2


@pytest.mark.parametrize(
    ("covariates", "mode", "message"),
    [
        (["m2.age"], "neutral", "unknown modality 'm2'"),
        (["age"], "neutral", "'age' does not name a column; write modality.column"),
        (["m0.age"], "off", "used by `missingness: neutral` only"),
    ],
)
def test_a_study_says_what_is_wrong_with_its_covariates(covariates, mode, message):
    with pytest.raises(StudyError, match=message):
        make_study(presence_covariates=covariates, missingness=mode)


def test_every_patient_needs_the_covariates():
    cohort, _, _ = make_cohort(40)
    with pytest.raises(DataError, match=r"'m1.noise' is empty for \d+ patient\(s\): p\d+"):
        read_covariates(cohort, ["m1.noise"])
    with pytest.raises(DataError, match=r"modality 'm0' has no column 'agee'\. Did you mean 'age'"):
        read_covariates(cohort, ["m0.agee"])
