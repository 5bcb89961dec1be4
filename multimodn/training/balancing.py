"""Combines the losses of several tasks: by learned weights, or by gradients that do not conflict."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from multimodn.base.task import Task
from multimodn.errors import StudyError
from multimodn.fusion import SequentialFusion
from multimodn.study.study import TrainingSpec

# methods that combine the gradients of tasks, and the libraries that they need
AGGREGATED = {"upgrad": ("torchjd", "qpsolvers", "quadprog"), "pcgrad": ("torchjd",)}
LARGEST_LOG_VARIANCE = 2.0  # bounds learned weights, which would grow with the unbounded likelihood of a number


def check_installed(spec: TrainingSpec) -> None:
    """Raises a StudyError if a library for ``balance`` is not installed."""
    for library in AGGREGATED.get(spec.balance, ()):
        try:
            importlib.import_module(library)
        except ImportError as error:
            repair = 'pip install "multimodn[multitask]", or choose sum or uncertainty.'
            text = f"training.balance: '{spec.balance}' needs the extra 'multitask': {repair} ({error})"
            raise StudyError(text) from None


class Uncertainty(nn.Module):
    """Weighs each task by a learned variance: uncertain tasks have less weight.

    With s the log-variance of a task and L its loss, the task adds exp(-s) L + s / 2 (classes, survival) or
    exp(-s) L / 2 + s / 2 (numbers), equations 7 and 10 of the source. A batch without a label of a task does not change
    its variance.

    References:
        Kendall, Gal and Cipolla (2018), Multi-task learning using uncertainty, https://arxiv.org/abs/1705.07115
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        self.register_buffer("factor", torch.tensor([0.5 if task.link_scale == "units" else 1.0 for task in tasks]))
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, losses: Mapping[str, Tensor], labelled: Mapping[str, Tensor]) -> Tensor:
        """Returns the loss to be minimised, a scalar."""
        s = self.log_variance.clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
        has_labels = torch.stack([labelled[name].any() for name in self.names])
        each = torch.stack([losses[name] for name in self.names])
        return torch.where(has_labels, cast(Tensor, self.factor) * torch.exp(-s) * each + s / 2, 0.0).mean()


@contextmanager
def states_read(model: SequentialFusion) -> Iterator[dict[int, Tensor]]:
    """Collects the states ``(S, B, D)`` that decoders read; decoders of one view read the same tensor."""
    read: dict[int, Tensor] = {}

    def remember(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        read[id(inputs[0])] = inputs[0]

    hooks = [decoder.register_forward_pre_hook(remember) for decoder in model.decoders.values()]
    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()


class Aggregated:
    """Separates the gradients of tasks at the states that their decoders read, and combines them without conflict.

    A decoder gets the gradient of its own task, divided by the number of tasks as in the mean. Encoders, state update
    and first state get the gradients of all tasks with a label in the batch, combined by ``upgrad`` (each projected so
    that it harms no other; Quinton and Rey 2024, https://arxiv.org/abs/2406.16232) or ``pcgrad`` (each without its
    conflict with another; Yu et al. 2020, https://arxiv.org/abs/2001.06782). Tasks without conflict give the gradient
    of their mean loss.
    """

    def __init__(self, model: SequentialFusion, method: str) -> None:
        self.model, self.method = model, method
        self._read: dict[int, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collects the states that decoders read, instead of those of earlier passes."""
        with states_read(self.model) as self._read:
            yield

    def backward(self, losses: Mapping[str, Tensor], labelled: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Adds the gradients of the losses of the watched pass, times ``share``, to those of all parameters."""
        scaled = {name: loss * (share / len(losses)) for name, loss in losses.items()}
        labelled_tasks = [name for name in scaled if bool(labelled[name].any())]
        states, self._read = list(self._read.values()), {}
        if len(labelled_tasks) < 2:
            torch.stack(list(scaled.values())).sum().backward()  # type: ignore[no-untyped-call]
            return
        from torchjd.aggregation import PCGrad, UPGrad
        from torchjd.autojac import jac_to_grad, mtl_backward

        # one task after another, as index_copy and sorting do not work in vmap
        mtl_backward([scaled[name] for name in labelled_tasks], features=states, parallel_chunk_size=1)
        shared = [p for p in self.model.parameters() if getattr(p, "jac", None) is not None]
        ones = torch.ones(len(labelled_tasks), device=states[0].device, dtype=states[0].dtype)
        jac_to_grad(shared, UPGrad(pref_vector=ones) if self.method == "upgrad" else PCGrad())
