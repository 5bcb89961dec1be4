"""What the three modes learn from a cohort whose missingness follows the outcome."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from multimodn import Cohort, MultiModN, Study
from multimodn.audit.presence_probe import HARMLESS, probe, verdict
from multimodn.data.splits import Split
from multimodn.evaluate.stress.mechanisms import Mechanism
from multimodn.training.fit import TrainerFlags

MODES = ("neutral", "informative", "off")


def make_study(mode: str, **training) -> Study:
    """The network alone, unless ``training`` says otherwise."""
    return Study.from_dict(
        {
            "name": "planted",
            "cohort": {"patient": "id", "sources": {"s": "s.csv"}},
            "modalities": [{"name": f"m{m}", "kind": "table", "source": "s", "n_layers": 0} for m in range(3)],
            "tasks": [{"name": "y", "kind": "binary", "source": "s", "target": "y"}],
            "missingness": mode,
            "training": {"epochs": 12, "state_size": 8, "learning_rate": 0.01, "experts": [], **training},
        }
    )


def simulate(seed: int, n: int = 900) -> Cohort:
    rng = np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(n)]
    z = rng.normal(size=(n, 3))
    frames = {f"m{m}": pd.DataFrame(z[:, [m]] + rng.normal(0, 0.5, (n, 2)), ids, ["a", "b"]) for m in range(3)}
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * z.sum(1)))).astype(int)
    return Cohort.from_frames(frames, {"y": pd.DataFrame({"y": y}, ids)})


def outcome(cohort: Cohort) -> pd.Series:
    return cohort.targets["y"]["y"].astype(float)


def blank(cohort: Cohort, kind: str) -> Cohort:
    return Mechanism(kind, 0.8, ("m1", "m2")).apply(cohort, outcome(cohort), seed=5)


@pytest.fixture(scope="module")
def models():
    training = blank(simulate(0), "mnar")
    split = Split(*(part.to_numpy(dtype=object) for part in np.split(training.patients, [700, 900])))
    return {m: MultiModN(make_study(m)).fit(training, split=split, flags=TrainerFlags("cpu")) for m in MODES}


def auroc(model: MultiModN, cohort: Cohort) -> float:
    return roc_auc_score(outcome(cohort), model.link(cohort)["y"][:, 0])


def test_only_neutral_training_survives_the_flip(models):
    test = simulate(1)
    flipped = {mode: auroc(model, blank(test, "flipped")) for mode, model in models.items()}
    same = {mode: auroc(model, blank(test, "mnar")) for mode, model in models.items()}
    assert flipped["neutral"] > 0.7
    assert same["neutral"] < 0.85
    for mode in ("informative", "off"):  # what looks like skill under the same mechanism is the shortcut
        assert same[mode] > 0.93
        assert flipped[mode] < 0.4


def test_an_ensemble_with_experts_survives_the_flip_too():
    study = make_study("neutral", members=5, experts=["ridge", "trees", "joint"])
    model = MultiModN(study).fit(blank(simulate(0), "mnar"), flags=TrainerFlags("cpu"))
    assert auroc(model, blank(simulate(1), "flipped")) > 0.7
    assert auroc(model, blank(simulate(1), "mnar")) < 0.85


def test_contributions_of_a_calibrated_model_add_up(models):
    model = models["neutral"]
    assert not model.trained.ensemble.calibration.is_identity
    shares = model.contributions(blank(simulate(2, 60), "mcar"))
    total = shares.groupby(level=0)["contribution"].sum()
    ends = shares.groupby(level=0)[["prior", "prediction"]].first()
    np.testing.assert_allclose(total, ends["prediction"] - ends["prior"], atol=1e-6)
    assert ends["prior"].nunique() == 1


def test_an_informed_prior_knows_the_presence_and_nothing_else(models):
    cohort = blank(simulate(3, 80), "mnar")
    shares = models["informative"].contributions(cohort)
    patterns = cohort.presence.loc[shares.index.unique()].astype(int).astype(str).agg("".join, axis=1)
    priors = shares.groupby(level=0)["prior"].first()
    assert priors.groupby(patterns).nunique().eq(1).all()
    assert priors.nunique() > 1


def test_modes_survive_a_bundle_bit_for_bit(models, tmp_path):
    cohort = blank(simulate(4, 50), "mcar")
    for mode, model in models.items():
        loaded = MultiModN.load(model.save(tmp_path / mode))
        assert loaded.study.missingness == mode
        assert torch.equal(loaded.link(cohort)["y"], model.link(cohort)["y"])
        assert torch.equal(loaded.trained.ensemble.calibration.slopes, model.trained.ensemble.calibration.slopes)


def test_complete_data_give_the_same_network_with_and_without_neutrality():
    cohort = simulate(6, 200)
    split = Split(*(part.to_numpy(dtype=object) for part in np.split(cohort.patients, [150, 200])))
    weights = [
        MultiModN(make_study(m)).fit(cohort, split=split).trained.ensemble.first.state_dict()
        for m in ("neutral", "off")
    ]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-4, rtol=1e-3)


def test_the_probe_finds_the_shortcut_in_the_predictions_that_have_it_and_only_there(models):
    test = blank(simulate(2), "mnar")
    found = {mode: probe(model, test).set_index("read_from") for mode, model in models.items()}
    assert found["neutral"].loc["prediction", "high"] < HARMLESS
    assert found["off"].loc["prediction", "low"] > HARMLESS
    assert found["informative"].loc["prediction", "low"] > HARMLESS
    assert "do not depend on which modalities are present" in verdict(found["neutral"].reset_index())
    assert "missingness: neutral" in verdict(found["off"].reset_index())


def test_only_an_informative_model_knows_the_pattern_before_its_first_step(models):
    test = blank(simulate(2), "mnar")
    before = {mode: probe(model, test).set_index("read_from").loc["start", "r2"] for mode, model in models.items()}
    assert before["neutral"] == pytest.approx(0, abs=1e-9)
    assert before["off"] == pytest.approx(0, abs=1e-9)
    assert before["informative"] > 0.5


def test_the_probe_says_when_it_cannot_say(models):
    few = simulate(3, n=30)
    found = probe(models["neutral"], few)
    assert found["r2"].isna().all()
    assert "unknown: too few patients" in verdict(found)
