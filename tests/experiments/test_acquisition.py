"""The study of what to measure next: policies read what is there, once, and are scored as scikit-learn scores."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from multimodn import Cohort, MultiModN
from multimodn.evaluate.crossval.contracts import development_split
from multimodn.metrics.ties import tied
from multimodn.training.fit import TrainerFlags, member_rows

HERE = Path(__file__).parents[2] / "experiments" / "acquisition"


@pytest.fixture(scope="module")
def study():
    """The modules of the study, without leaving their folder on the path."""
    import importlib

    sys.path.insert(0, str(HERE))
    try:
        yield importlib.import_module("policies"), importlib.import_module("run")
    finally:
        sys.path.remove(str(HERE))
        for name in ("policies", "run"):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def trained(study):
    _, run = study
    frames, outcome, _ = run.gated(300, 100)
    rng = np.random.default_rng(0)
    frames |= {name: frames[name][rng.random(300) < 0.7] for name in ("scan", "assay", "other")}
    cohort = Cohort.from_frames(frames, {"y": outcome})
    spec = run.simulated_study(epochs=4, members=2)
    split = development_split(spec, cohort)
    model = MultiModN(spec).fit(cohort, split=split, flags=TrainerFlags("cpu", progress=False))
    model.explain.fit_acquisition(cohort)
    return model, model.prepare(cohort, labelled=True), member_rows(spec, cohort, split)


def test_every_policy_reads_all_that_is_there_and_nothing_else(study, trained):
    policies, _ = study
    model, patients, rows = trained
    batch = patients.batch(torch.arange(len(patients)))
    ward = policies.Ward.of(model.trained.ensemble, batch)
    generator = torch.Generator().manual_seed(0)
    every = [
        policies.learned(model.trained.ensemble, model.trained.acquisition, batch),
        policies.at_random(ward.presence, generator),
        policies.in_order(policies.best_order(model.trained.ensemble, patients, rows)),
        policies.in_order(policies.mean_gain_order(model.trained.ensemble, patients, rows)),
    ]
    bits = 1 << torch.arange(4)
    for policy in every:
        codes = ward.walk(policy)
        assert not codes[0].any()
        assert torch.equal(codes[-1], (ward.presence * bits).sum(1))
        read = (codes.unsqueeze(-1) & bits > 0).sum(-1)
        assert torch.equal(read, torch.arange(5).unsqueeze(1).clamp(max=ward.presence.sum(1)))
        assert ((codes[:-1] & codes[1:]) == codes[:-1]).all()


def test_curves_are_the_scores_of_scikit_learn_on_repeated_patients(study, trained):
    policies, _ = study
    model, patients, _ = trained
    ward = policies.Ward.of(model.trained.ensemble, patients.batch(torch.arange(len(patients))))
    codes = ward.walk(policies.in_order([0, 1, 2, 3]))
    weights = policies.resamples(len(patients), 2, 0)
    found = policies.curves(ward, codes, weights)
    truth = ward.targets[:, 0].numpy()
    for r, weight in enumerate(weights):
        for step in range(4):
            score = ward.at(ward.scores, codes[1:])[step, :, 0].double()
            chance = score.sigmoid().numpy()
            assert found["auroc"][r, step, 0] == pytest.approx(
                roc_auc_score(truth, tied(score.numpy()), sample_weight=weight)
            )
            assert found["log_loss"][r, step, 0] == pytest.approx(
                log_loss(truth, chance, sample_weight=weight), rel=1e-4
            )


def test_the_best_order_has_the_least_area_of_all(study, trained):
    policies, _ = study
    model, patients, rows = trained
    best = policies.best_order(model.trained.ensemble, patients, rows)
    parts = [
        policies.Ward.of(policies._alone(model.trained.ensemble, k), patients.batch(out))
        for k, (_, out) in enumerate(rows)
    ]

    def area(order):
        return sum(
            len(ward.presence) * ward.area(ward.walk(policies.in_order(order)), ward.losses[0].nanmean(0))
            for ward in parts
        )

    assert all(area(best) <= area(other) for other in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], best[::-1]))


def test_the_page_says_what_the_intervals_say(study):
    _, run = study
    import pandas as pd

    rows = [(metric, arm, 0.5, 0.1, low, high) for metric in ("auroc", "log_loss") for arm, low, high in ARMS]
    said = run.verdict(pd.DataFrame(rows, columns=["metric", "arm", "area", "head minus it", "low", "high"]))
    assert "auroc: the head is better than `best_order`" in said
    assert "log_loss: the head is WORSE than `best_order`" in said
    assert "auroc: the head is not told apart from `mean_gain`" in said


ARMS = [("head", 0.0, 0.0), ("best_order", 0.1, 0.2), ("mean_gain", -0.1, 0.2), ("random", 0.1, 0.2)]
