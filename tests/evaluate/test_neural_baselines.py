"""The networks to compare with: seeds, members, and what each does with presence."""

import numpy as np
import pytest
import torch

from multimodn.base.batches import Batch
from multimodn.evaluate.baselines import fusion_networks
from multimodn.evaluate.baselines.fusion_networks import NEURAL, fit_p_fusion
from multimodn.training.build import build_model, prepare
from tests.evaluate._toy import halves, make_cohort, make_study, without


@pytest.mark.parametrize("trainer", NEURAL)
def test_a_network_repeats_with_its_seed_and_leaves_the_random_state_alone(trainer):
    train, test = halves(make_cohort(tasks=("death",)))
    study = make_study(("death",))
    before = torch.get_rng_state()
    (one,), (again,), (other,) = (trainer(study, train, seed).values() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one(test)["death"], again(test)["death"])
    assert (one(test)["death"] != other(test)["death"]).any()


def test_networks_learn():
    train, test = halves(make_cohort(n=300, tasks=("death",)))
    died = test.targets["death"]["died"].to_numpy()
    for trainer in NEURAL:
        (predict,) = trainer(make_study(("death",), epochs=12), train, 0).values()
        link = predict(test)["death"][:, 0]
        high, low = link[died == 1], link[died == 0]
        assert (high[:, None] > low).mean() > 0.8, trainer.__name__


def test_members_are_averaged(monkeypatch):
    trained = []
    monkeypatch.setattr(
        "multimodn.evaluate.crossval.arms._train", lambda network, *rest: trained.append(network.eval())
    )
    train, test = halves(make_cohort(tasks=("death",)))
    study = make_study(("death",), members=3)
    (predict,) = fit_p_fusion(study, train, 0).values()
    assert len(trained) == 3
    batch = prepare(build_model(study, train, 0), test, labelled=False).batch(torch.arange(len(test)))
    expected = torch.stack([network(batch)["death"] for network in trained]).mean(0)
    np.testing.assert_allclose(predict(test)["death"], expected.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_dropout_of_modalities_keeps_one_of_those_that_are_there():
    torch.manual_seed(0)
    presence = torch.tensor([[True, True, True], [True, False, False], [False, False, False]]).repeat(2000, 1)
    kept = fusion_networks._thinned(presence, 0.3)
    assert not (kept & ~presence).any()
    assert torch.equal(kept.any(1), presence.any(1))
    full = kept[::3].double()
    # one of three is dropped with chance 0.3, unless it is the last one left
    np.testing.assert_allclose(full.mean(), 0.7 + 0.3**3 / 3, atol=0.02)


def test_presence_reaches_only_the_network_that_is_told():
    """Where embeddings are 0 either way, only the indicators can tell patients apart."""
    train, _ = halves(make_cohort(tasks=("death",)))
    model = build_model(make_study(("death",)), train, 0)
    zeros = [torch.zeros(2, 4) for _ in "abc"]
    presence = torch.tensor([[True, False, True], [False, False, False]])
    for told in (False, True):
        features = fusion_networks._Parallel(model, 8, presence=told).eval().features(zeros, presence)
        assert torch.equal(features[0], features[1]) is not told


@pytest.mark.parametrize("batch_skip", [False, True])
def test_the_released_code_skips_a_modality_for_the_whole_batch(batch_skip):
    train, _ = halves(make_cohort(tasks=("death",)))
    model = build_model(make_study(("death",)), train, 0)
    network = fusion_networks._Published(model, 8, batch_skip=batch_skip).train()
    patients = prepare(model, train, labelled=True)
    batch: Batch = patients.batch(torch.arange(len(train)))  # everybody has a, some lack b
    network.losses(batch)["death"].backward()
    gradients = [projection.weight.grad for projection in network.fusion.update.projections]
    assert [grad is not None and bool(grad.norm() > 0) for grad in gradients] == [True, not batch_skip, not batch_skip]
    used = without(train, "b", "c") if batch_skip else train  # and what was never trained is not used
    expected = network.eval().fusion(prepare(model, used, labelled=False).batch(torch.arange(len(train))))
    torch.testing.assert_close(network(batch), expected)


def test_masked_keys_have_no_influence():
    train, _ = halves(make_cohort(tasks=("death",)))
    network = fusion_networks._Attention(build_model(make_study(("death",)), train, 0), 8).eval()
    embeddings = [torch.randn(3, 4) for _ in "abc"]
    presence = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    other = [torch.where(presence[:, m, None], e, 9.0) for m, e in enumerate(embeddings)]
    torch.testing.assert_close(network.features(embeddings, presence), network.features(other, presence))
