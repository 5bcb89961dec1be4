"""Experts: linear models and trees of each modality beside the network."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from multimodn import Cohort, MultiModN, Study
from multimodn.errors import MissingExtraError
from multimodn.fusion.experts import LinearBasis
from multimodn.missingness.label_shift import shift_of_states
from multimodn.training.experts import trees
from multimodn.training.experts.linear import deal_folds, fit_best_columns, fit_linear
from multimodn.training.experts.stack import fit_weights
from multimodn.training.experts.trees import TreeFit, fit_trees, join_trees
from tests._cohorts import make_cohort, make_study

SMALL_TREES = {"min_data_in_leaf": 5, "min_sum_hessian_in_leaf": 0.5}


def binary_loss(y: torch.Tensor, prior: float = 0.0):
    return lambda evidence: F.binary_cross_entropy_with_logits(
        prior + evidence[..., 0], y.expand(evidence.shape[:-1]), reduction="none"
    )


@given(st.integers(0, 1000), st.sampled_from([(60, 3), (120, 30)]))
def test_linear_models_are_those_of_penalised_logistic_regression(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x[:, 0] *= 20
    y = (torch.rand(len(x), generator=generator) < torch.sigmoid(x[:, 1])).double()
    folds = deal_folds(y.long(), 4, seed)
    fitted = fit_linear(x, binary_loss(y), 1, folds, 4, penalties=(30.0, 3.0))
    for k in range(5):  # one model without each fold, the last of all rows
        rows = folds != k
        reference = LogisticRegression(C=1 / fitted.penalty, max_iter=5000, tol=1e-9).fit(x[rows], y[rows])
        ours = x @ fitted.weight[k] + fitted.bias[k]
        assert np.allclose(ours[:, 0], reference.decision_function(x), atol=1e-2)
        if k < 4:
            assert torch.allclose(fitted.held_out[~rows], ours[~rows])


def test_row_weights_count_rows_several_times():
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(40, 3, generator=generator), (torch.arange(40) % 2).double()
    weights = torch.randint(1, 4, (40,), generator=generator)
    copies = torch.arange(40).repeat_interleave(weights)
    folds = torch.arange(40) % 4
    weighted = fit_linear(x, binary_loss(y), 1, folds, 4, weights, penalties=(3.0,))
    copied = fit_linear(x[copies], binary_loss(y[copies]), 1, folds[copies], 4, penalties=(3.0,))
    assert torch.allclose(weighted.weight, copied.weight, atol=1e-2)


def test_an_empty_cell_counts_as_the_mean_and_a_constant_column_as_nothing():
    vector = torch.tensor([[1.0, 5.0], [2.0, 5.0], [torch.nan, 5.0], [6.0, 5.0], [3.0, 5.0]])
    basis = LinearBasis(2, 2, indicates_empty=False)
    basis.fit(vector)
    encoded = basis(vector)
    filled = ~vector[:, 0].isnan()
    assert encoded[2, [0, 2, 4]].abs().max() == 0
    assert torch.allclose(encoded[filled].mean(0), torch.zeros(6), atol=1e-6)
    assert encoded[:, [1, 3, 5]].abs().max() == 0


def test_trees_as_tensors_predict_what_the_library_predicts():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator)
    x[torch.rand(300, 6, generator=generator) < 0.2] = torch.nan
    filled = torch.nan_to_num(x)
    y = (torch.rand(300, generator=generator) < torch.sigmoid(2 * filled[:, 0] * filled[:, 1])).double()
    import lightgbm

    weight, everyone = torch.ones(300, dtype=torch.float64), torch.arange(300)
    settings = trees.SETTINGS | SMALL_TREES | {"seed": 0}
    booster, _ = trees._boost(
        lightgbm, settings, x.numpy(), binary_loss(y), weight, everyone, None, n_outputs=1, n_rounds=30
    )
    joined = join_trees([(trees._described(booster, 30), slice(1, 2), 2.0)], 3)
    ours = joined(x)
    assert ours[:, [0, 2]].abs().max() == 0
    assert np.allclose(ours[:, 1], 2 * booster.predict(x.numpy(), raw_score=True), atol=1e-5)
    assert torch.equal(joined(x[7:9]), ours[7:9])  # rows are independent


def test_trees_learn_an_interaction_for_every_output_of_their_task(monkeypatch):
    monkeypatch.setattr(trees, "SETTINGS", trees.SETTINGS | SMALL_TREES)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 2, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 0] > 1).long()

    def loss(evidence):
        return -evidence.log_softmax(-1).gather(-1, y.expand(evidence.shape[:-1]).unsqueeze(-1)).squeeze(-1)

    fit = fit_trees(x, loss, 3, torch.arange(400) % 3, 3, torch.ones(400), 0, of_all=True)
    assert isinstance(fit, TreeFit)
    assert len(fit.trees) == 4
    assert float(loss(fit.held_out[None]).mean()) < 0.8 * np.log(3)


def test_weights_are_not_negative_and_a_useless_expert_has_little():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    y = (torch.rand(500, generator=generator) < torch.sigmoid(2 * z[:, 0])).double()
    evidence = torch.stack([z[:, 0], z[:, 1], -z[:, 0]])
    loss = binary_loss(y)
    weights = fit_weights(lambda w: loss((w @ evidence)[None, :, None]).sum(), [0.5] * 3, lambda w: w.square().sum())
    assert (weights >= 0).all()
    assert weights[0] > 1.5
    assert weights[1] < 0.4
    assert weights[2] == 0


@pytest.fixture(scope="module")
def trained():
    study = make_study(training={"epochs": 2, "members": 2, "experts": ["ridge"]})
    return MultiModN(study).fit(make_cohort())


def test_every_modality_and_task_has_an_expert_or_a_reason(trained):
    facts = trained.provenance["experts"]
    assert set(facts["weights"]) == {"death", "size", "survival"}
    assert all(each["network"] >= 0 and each["experts"] >= 0 for each in facts["weights"].values())
    experts = trained.trained.ensemble.first.experts
    assert [each.n_columns for each in experts.sizes] == [3, 4]
    assert experts.of_modality["0"].weight.any()


def test_contributions_of_network_and_experts_add_up(trained):
    contributions = trained.contributions(make_cohort())
    sums = contributions.groupby(["patient", "task", "output"])["contribution"].sum()
    whole = contributions.groupby(["patient", "task", "output"])[["prediction", "prior"]].first()
    assert np.abs(sums - (whole["prediction"] - whole["prior"])).max() < 1e-6


def test_attributions_with_experts_add_up(trained):
    found = trained.explain.attributions("labs", make_cohort(), "death")
    sums = found.groupby("patient")["attribution"].sum()
    whole = found.groupby("patient")[["prediction", "baseline_prediction"]].first()
    difference = whole["prediction"] - whole["baseline_prediction"]
    assert np.abs(sums - difference).max() < 0.02 * (1 + np.abs(difference).max())


def test_a_patient_is_predicted_alike_alone_and_among_others(trained):
    cohort = make_cohort()
    together = trained.link(cohort)
    for i in (0, 35):
        alone = trained.link(cohort.subset(cohort.patients[[i]]))
        assert all(torch.allclose(alone[task][0], together[task][i], atol=1e-6) for task in together)


def test_an_absent_modality_adds_nothing_whatever_its_columns_hold(trained):
    cohort = make_cohort()
    without = Cohort.from_frames({"labs": cohort.modalities["labs"]}, {})
    outputs = trained.link(without)
    only_labs = trained.link(cohort, order=["labs"])
    assert all(torch.equal(outputs[task], only_labs[task]) for task in outputs)


def test_a_bundle_keeps_the_experts_bit_for_bit(trained, tmp_path):
    cohort = make_cohort()
    before, after = trained.link(cohort), MultiModN.load(trained.save(tmp_path / "model")).link(cohort)
    assert all(torch.equal(before[task], after[task]) for task in before)


def test_without_experts_the_network_is_alone():
    alone = MultiModN(make_study(training={"epochs": 1, "experts": []})).fit(make_cohort())
    assert alone.trained.ensemble.first.experts is None
    assert "experts" not in alone.provenance


def cohort_of(n: int, seed: int) -> tuple[Cohort, Study]:
    rng = np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(n)]
    x = pd.DataFrame(rng.normal(size=(n, 3)), ids, ["a", "b", "c"])
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * x["a"] * x["b"]))).astype(int)
    study = Study.from_dict(
        {
            "name": "trees",
            "cohort": {"patient": "id", "sources": {"labs": "l.csv", "t": "t.csv"}},
            "modalities": [{"name": "labs", "kind": "table", "source": "labs"}],
            "tasks": [{"name": "y", "kind": "binary", "source": "t", "target": "y"}],
            "training": {"epochs": 1, "batch_size": 256, "members": 2},
        }
    )
    return Cohort.from_frames({"labs": x}, {"y": y.to_frame("y")}), study


def test_large_cohorts_have_trees_which_learn_interactions(monkeypatch, tmp_path):
    monkeypatch.setattr(trees, "MIN_ROWS", 300)
    monkeypatch.setattr(trees, "SETTINGS", trees.SETTINGS | SMALL_TREES)
    cohort, study = cohort_of(600, 0)
    model = MultiModN(study).fit(cohort)
    assert model.trained.ensemble.first.experts.of_modality["0"].trees is not None
    new, _ = cohort_of(400, 1)
    scores = model.evaluate(new).set_index("metric")["value"]
    assert scores["auroc"] > 0.7  # a linear model has .5
    loaded = MultiModN.load(model.save(tmp_path / "model"))
    assert torch.equal(loaded.link(new)["y"], model.link(new)["y"])


def test_without_lightgbm_trees_are_left_out_with_a_note_or_refused_where_asked_for(monkeypatch):
    monkeypatch.setattr(trees, "MIN_ROWS", 30)
    real = importlib.util.find_spec
    monkeypatch.setattr(trees, "find_spec", lambda name: None if name == "lightgbm" else real(name))
    cohort, study = cohort_of(60, 0)
    model = MultiModN(study).fit(cohort)
    assert model.provenance["experts"]["left_out"] == {
        "labs: trees": 'LightGBM is not installed: pip install "multimodn[trees]"'
    }
    asked = study.to_dict() | {"training": {"epochs": 1, "members": 2, "experts": ["trees"]}}
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match="trees"):
        MultiModN(Study.from_dict(asked)).fit(cohort)


@pytest.mark.parametrize("n", [10, 14])
def test_a_tiny_cohort_has_reasons_instead_of_experts(n):
    cohort, study = cohort_of(n, 3)
    model = MultiModN(study).fit(cohort)
    assert "patients with both" in model.provenance["experts"]["left_out"]["labs: y"]
    assert np.isfinite(model.predict(cohort)["value"]).all()


def test_attributions_where_trees_have_a_part_are_shapley_values_that_add_up(monkeypatch):
    monkeypatch.setattr(trees, "MIN_ROWS", 300)
    monkeypatch.setattr(trees, "SETTINGS", trees.SETTINGS | SMALL_TREES)
    cohort, study = cohort_of(600, 0)
    model = MultiModN(study).fit(cohort)
    some = cohort.subset(cohort.patients[:5])
    found = model.explain.attributions("labs", some, "y")
    assert found.method == "shapley_values"
    difference = found.groupby("patient")[["prediction", "baseline_prediction"]].first().diff(axis=1).iloc[:, 1]
    assert np.abs(found.groupby("patient")["attribution"].sum() + difference).max() < 1e-6


@pytest.fixture(scope="module")
def joint():
    """A model whose outcome is the product of a column of either modality: no expert of one modality can know it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "MIN_ROWS", 300)
        for name in ("SETTINGS", "JOINT_SETTINGS"):
            patch.setattr(trees, name, getattr(trees, name) | SMALL_TREES | {"feature_fraction": 1.0})
        rng = np.random.default_rng(0)
        ids = [f"p{i}" for i in range(900)]
        tables = {name: pd.DataFrame(rng.normal(size=(900, 2)), ids, [name, "noise"]) for name in ("a", "b")}
        y = (rng.random(900) < 1 / (1 + np.exp(-4 * tables["a"]["a"] * tables["b"]["b"]))).astype(int).to_frame("y")
        tables["b"] = tables["b"].iloc[:800]
        study = Study.from_dict(
            {
                "name": "joint",
                "cohort": {"patient": "id", "sources": {"a": "a.csv", "b": "b.csv", "t": "t.csv"}},
                "modalities": [{"name": name, "kind": "table", "source": name} for name in ("a", "b")],
                "tasks": [{"name": "y", "kind": "binary", "source": "t", "target": "y"}],
                "training": {"epochs": 1, "batch_size": 256, "members": 2},
            }
        )
        cohort = Cohort.from_frames(tables, {"y": y})
        return MultiModN(study).fit(cohort.subset(cohort.patients[:600])), cohort.subset(cohort.patients[600:])


def test_joint_trees_learn_what_two_modalities_say_together(joint):
    model, new = joint
    assert model.trained.ensemble.first.experts.joint is not None
    assert model.evaluate(new.subset(new.patients[:200])).set_index("metric")["value"]["auroc"] > 0.7


def test_before_any_modality_joint_trees_say_nothing(joint):
    model, new = joint
    first = model.trajectory(new).query("step == 0")
    assert first["value"].nunique() == 1
    assert float(first["value"].iloc[0]) == pytest.approx(float(torch.sigmoid(model.trained.prior["y"][0])))


def test_with_joint_trees_subsets_are_orders_are_and_contributions_add_up(joint, tmp_path):
    model, new = joint
    patients = model.prepare(new)
    whole, subsets = model.trained.outputs(patients)["y"], model.trained.subset_outputs(patients)["y"]
    code = (patients.presence.long() * torch.tensor([1, 2])).sum(1)
    assert torch.allclose(subsets[code, torch.arange(len(code))], whole, atol=1e-5)
    only_a = model.trained.outputs(patients, ["a"])["y"]
    assert torch.allclose(subsets[1], only_a, atol=1e-5)
    contributions = model.contributions(new)
    sums = contributions.groupby("patient")["contribution"].sum()
    assert (
        np.abs(
            sums - contributions.groupby("patient")[["prediction", "prior"]].first().eval("prediction - prior")
        ).max()
        < 1e-6
    )
    loaded = MultiModN.load(model.save(tmp_path / "model"))
    assert torch.equal(loaded.link(new)["y"], model.link(new)["y"])


@pytest.mark.parametrize("is_bent", [False, True])
def test_bins_enter_where_held_out_patients_are_predicted_better(is_bent):
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(600, 3, generator=generator)
    basis = LinearBasis(3, 4, indicates_empty=False)
    basis.fit(vector)
    score = vector[:, 0].square() - 1 if is_bent else vector[:, 0]
    y = (torch.rand(600, generator=generator) < torch.sigmoid(2 * score)).double()
    folds, weights = torch.arange(600) % 5, torch.ones(600)
    fitted = fit_best_columns(basis(vector), ~basis.is_bin, binary_loss(y), 1, folds, 5, weights)
    assert bool(fitted.weight[:, basis.is_bin].any()) is is_bent


def test_the_shift_of_states_is_that_of_the_patients_who_are_in_them():
    generator = torch.Generator().manual_seed(0)
    strata = torch.randint(0, 2, (4000,), generator=generator)
    lost = torch.rand(4000, generator=generator) < torch.where(strata == 1, 0.8, 0.2)
    taken = torch.stack([torch.ones(4000, dtype=torch.bool), ~lost], 1)[None]
    shift = shift_of_states(taken, strata, torch.ones(1, 4000, dtype=torch.float64), 2)[0]
    log_odds = shift[:, 1] - shift[:, 0]
    assert float(log_odds[~lost].mean()) == pytest.approx(np.log(0.2 / 0.8), abs=0.15)
    assert float(log_odds[lost].mean()) == pytest.approx(np.log(0.8 / 0.2), abs=0.15)
