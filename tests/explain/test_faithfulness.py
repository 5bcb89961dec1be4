"""Contributions say what the model does: planted signals, noise, copies, interactions, deletion, and broken models."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from multimodn import MultiModN
from multimodn.explain.interactions import synergy
from multimodn.fusion import Ensemble
from multimodn.training.build import build_model
from tests.explain._planted import fit, independent, two_bits


@pytest.fixture(scope="module")
def planted():
    return fit(*independent(1500, "abc", (2.5, 0.0, 0.0)))


def shares(model, cohort):
    """The part of each modality in the sum of all mean absolute contributions."""
    found = model.explain.summary(cohort, n_resamples=2).set_index("modality")["mean_abs"]
    return found / found.sum(), found.sum()


def test_the_modality_that_carries_the_signal_gets_the_credit(planted):
    assert shares(*planted)[0]["a"] > 0.9


def test_the_value_of_a_noise_modality_is_zero_within_its_interval(planted):
    model, cohort = planted
    found = model.explain.value_of(cohort=cohort).query("metric == 'auroc'").set_index("modality")
    for noise in "bc":
        assert found.loc[noise, "low"] <= 0 <= found.loc[noise, "high"]
    assert found.loc["a", "low"] > 0.2


def test_two_copies_of_a_modality_share_its_credit():
    tables, outcome = independent(1500, "abc", (2.5, 0.0, 0.0))
    tables["copy"] = tables["a"].add_suffix("'")
    found, _ = shares(*fit(tables, outcome))
    assert found["a"] + found["copy"] > 0.9
    assert 0.35 < found["a"] / (found["a"] + found["copy"]) < 0.65


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_exclusive_or_of_two_modalities_is_all_synergy(seed):
    model, cohort = fit(*two_bits("xor", seed=seed), update="product", epochs=20)
    assert model.evaluate(cohort).set_index("metric").loc["auroc", "value"] > 0.95
    assert model.explain.synergy(cohort)["low"].item() > 0.9


@pytest.mark.parametrize("update", ["residual", "product"])
def test_a_sum_of_two_modalities_is_no_synergy(update):
    model, cohort = fit(*two_bits("sum"), update=update)
    assert model.explain.synergy(cohort)["high"].item() < 0.1


def test_deleting_modalities_by_rank_costs_more_than_at_random():
    model, cohort = fit(*independent(1500, "abcd", (2.0, 1.4, 0.9, 0.4)))
    patients = model.prepare(cohort, labelled=True)
    batch, network = patients.batch(torch.arange(len(patients))), model.trained.ensemble
    found = model.contributions(patients).set_index("modality", append=True)["contribution"]
    size = torch.from_numpy(np.array(found.unstack()[list("abcd")].abs()))
    target = batch.targets["y"]
    with torch.inference_mode():
        evidence = network.encode(batch)

        def losses(ranks):
            """The mean loss after the 1, 2, 3 highest ranks of each patient are deleted."""
            place = ranks.argsort(1, descending=True).argsort(1)
            kept = [place >= k for k in (1, 2, 3)]
            return torch.stack([network.tasks["y"](network.subset(evidence, k)["y"], target).mean() for k in kept])

        ranked = losses(size)
        random = torch.stack([losses(torch.rand(size.shape)) for _ in range(20)])
    assert (ranked > random.amax(0)).all()


def test_contributions_collapse_when_labels_are_shuffled(planted):
    tables, outcome = independent(1500, "abc", (2.5, 0.0, 0.0))
    outcome[:] = np.random.default_rng(0).permutation(outcome.to_numpy())
    _, collapsed = shares(*fit(tables, outcome))
    assert collapsed < 0.1 * shares(*planted)[1]


def test_contributions_collapse_when_weights_are_drawn_anew(planted):
    model, cohort = planted
    found = []
    for seed in range(5):
        network = Ensemble([build_model(model.study, cohort, seed=seed)]).eval()
        found.append(shares(MultiModN.of(replace(model.trained, ensemble=network)), cohort))
    assert np.mean([total for _, total in found]) < 0.4 * shares(model, cohort)[1]
    assert np.mean([share["a"] for share, _ in found]) < 0.5  # a third is chance


def test_synergy_of_predictions_that_never_move_is_undefined(planted):
    model, cohort = planted
    still = model.explain.interactions(cohort).assign(interaction=0.0)
    assert np.isnan(synergy(still)["synergy"].item())
