"""The state update that lets the state look at tokens."""

import torch
from torch import nn

from multimodn.base.batches import Batch
from multimodn.base.ragged import Ragged
from multimodn.fusion import SequentialFusion
from tests._inputs import TinyEncoder, make_tasks


class Bags(nn.Module):
    """Mean of the items, with the items as tokens."""

    embedding_size, token_size = 4, 4

    def forward(self, values):
        return torch.stack([part.mean(0) for part in values.split()]) if len(values) else torch.zeros(0, 4)

    def with_tokens(self, values):
        return self(values), values


def make_model():
    torch.manual_seed(0)
    model = SequentialFusion({"labs": TinyEncoder(3), "slide": Bags()}, make_tasks(), 6, "attention")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


def make_bags(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Ragged.cat([torch.randn(3 + k, 4, generator=generator) for k in range(n)])


def batch(bags, labs=None):
    labs = torch.randn(len(bags), 3, generator=torch.Generator().manual_seed(1)) if labs is None else labs
    return Batch({"labs": labs, "slide": bags}, torch.ones(len(bags), 2, dtype=torch.bool))


def test_what_was_read_before_steers_what_is_looked_at():
    model, bags = make_model(), make_bags()
    order = ["labs", "slide"]
    evidence = [model.encode(batch(bags, labs)) for labs in (torch.zeros(5, 3), torch.ones(5, 3))]
    moved = [model.states(each, model.paths(each, order)) for each in evidence]
    steps = [states[2] - states[1] for states in moved]
    assert not torch.allclose(steps[0], steps[1], atol=1e-3)


def test_training_starts_from_the_residual_update():
    torch.manual_seed(0)
    model = SequentialFusion({"labs": TinyEncoder(3), "slide": Bags()}, make_tasks(), 6, "attention").eval()
    evidence = model.encode(batch(make_bags()))
    without = type(evidence)(
        type(evidence.rows)(evidence.rows.vectors, Ragged(torch.zeros(0, 12), torch.zeros(10).long())), evidence.where
    )
    paths = model.paths(evidence)
    torch.testing.assert_close(model.states(evidence, paths), model.states(without, paths))


def test_order_of_tokens_and_batch_mates_do_not_matter():
    model, bags = make_model(), make_bags()
    whole = model(batch(bags))
    turned = model(batch(Ragged.cat([part.flip(0) for part in bags.split()])))
    rows = torch.tensor([3, 0])
    labs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    part = model(batch(bags[rows], labs[rows]))
    for name, found in whole.items():
        torch.testing.assert_close(turned[name], found, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part[name], found[rows], rtol=1e-4, atol=1e-4)


def test_gradients_reach_tokens_query_and_values():
    model = make_model()
    bags = make_bags()
    bags.items.requires_grad_()
    torch.stack([found.square().sum() for found in model(batch(bags)).values()]).sum().backward()
    assert bags.items.grad.abs().sum() > 0
    for parameter in model.update.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_other_updates_do_not_ask_for_tokens():
    torch.manual_seed(0)
    encoder = Bags()
    encoder.with_tokens = None  # would fail if it were called
    model = SequentialFusion({"labs": TinyEncoder(3), "slide": encoder}, make_tasks(), 6, "gated")
    assert model(batch(make_bags()))["death"].shape == (5, 1)
