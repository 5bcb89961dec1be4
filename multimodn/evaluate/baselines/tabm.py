"""TabM: an ensemble of networks that share most of their weights, over the columns of all modalities.

Cells of an absent modality have their training mean, so that presence is not visible.

References:
    Gorishniy, Kotelnikov and Babenko (2024), TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling,
    https://arxiv.org/abs/2410.24210
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import folds
from multimodn.errors import import_extra
from multimodn.evaluate.baselines.design_matrix import Array, Design, designs, inputs
from multimodn.evaluate.crossval.arms import with_seed
from multimodn.evaluate.crossval.contracts import Fitted, Predictions
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks

WIDE, COMPONENTS = 100, 32
"""A modality with more columns than the first number is reduced to so many principal components."""


@dataclass(frozen=True)
class TabMOptions:
    """Settings of `fit_tabm`."""

    n_networks: int = 32  # networks in the ensemble, ``k`` in the paper
    n_blocks: int = 2  # hidden layers
    hidden_size: int = 64  # their width
    dropout: float = 0.1  # dropout probability
    learning_rate: float = 2e-3  # step size of AdamW
    weight_decay: float = 3e-4  # weight decay of AdamW
    batch_size: int = 64  # patients in a batch
    epochs: int = 100  # largest number of epochs
    patience: int = 12  # epochs without a lower loss of held-out patients before training stops


Targets = Sequence[tuple[Tensor, Tensor]]  # for each task the targets ``(n, ...)`` and whether they are known ``(n,)``


def fit_tabm(study: Study, training: Cohort, seed: int, *, options: TabMOptions | None = None) -> dict[str, Fitted]:
    """Trains ``tabm``: one ensemble for all tasks that may see the same modalities, which are tables and embeddings.

    Each network has its own loss, the mean of the tasks' losses over the labelled patients; a fifth of the training
    patients is held out for early stopping. The raw outputs of the networks are averaged. ``seed`` is added to that of
    the study.

    Raises:
        MissingExtraError: Without the extra ``experiments``.
    """
    options, tasks = options or TabMOptions(), fit_tasks(study, training)
    chosen, seed = designs(inputs(study), [task.name for task in tasks], training), with_seed(study, seed).training.seed
    parts: list[tuple[_Reduced, list[Task], nn.Module]] = []
    train, held_out = next(folds(training, 5, seed=seed, stratify=getattr(study.split, "stratify", None)))
    rows = [torch.from_numpy(training.patients.get_indexer(pd.Index(each))) for each in (train, held_out)]
    for design in dict.fromkeys(chosen.values()):
        of_design = [task for task in tasks if chosen.get(task.name) is design]
        reduced = _Reduced(design, training)
        targets = [task.prepare(training.targets[task.name]) for task in of_design]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(reduced.rows(training).shape[1], of_design, options)
            _train(network, reduced.rows(training), of_design, targets, rows, options)
        parts.append((reduced, of_design, network))

    def predict(cohort: Cohort) -> Predictions:
        links: Predictions = {}
        for reduced, of_design, network in parts:
            with torch.inference_mode():
                outputs = network(reduced.rows(cohort)).mean(1)
            for task, raw in zip(of_design, _split(outputs, of_design), strict=True):
                links[task.name] = task.link(raw).double().numpy()
        return {task.name: links[task.name] for task in tasks}

    return {"tabm": predict}


class _Reduced:
    """The columns of a design, wide modalities as principal components, all with standard deviation 1."""

    def __init__(self, design: Design, training: Cohort) -> None:
        self.design = design
        self.maps: dict[str, Callable[[Array], Array]] = {}
        for name, block in design.blocks(training).items():
            present = block[training.patients.isin(training.modalities[name].index)]
            self.maps[name] = _components(present) if block.shape[1] > WIDE else lambda values: values

    def rows(self, cohort: Cohort) -> Tensor:
        """Returns ``(n, columns)``, 0 where absent."""
        blocks = self.design.blocks(cohort)
        return torch.from_numpy(np.hstack([self.maps[name](block) for name, block in blocks.items()])).float()


def _components(block: Array) -> Callable[[Array], Array]:
    """Fits principal components; a row of zeros, the mean, stays zeros."""
    from sklearn.decomposition import PCA

    solver = "covariance_eigh" if block.shape[0] > block.shape[1] else "full"
    pca = PCA(min(COMPONENTS, *block.shape), svd_solver=solver).fit(block)
    scale = np.sqrt(np.maximum(pca.explained_variance_, 1e-12))
    return lambda rows: rows @ pca.components_.T / scale


def _network(width: int, tasks: Sequence[Task], options: TabMOptions) -> nn.Module:
    """Builds an ensemble that predicts the tasks' priors for a hidden layer of zeros."""
    network: Any = import_extra("tabm", "The baseline 'tabm'", "experiments").TabM.make(
        n_num_features=width,
        d_out=sum(task.output_size for task in tasks),
        k=options.n_networks,
        n_blocks=options.n_blocks,
        d_block=options.hidden_size,
        dropout=options.dropout,
    )
    with torch.no_grad():
        network.output.bias.copy_(torch.cat([task.prior() for task in tasks]))
    made: nn.Module = network
    return made


def _train(
    network: nn.Module, x: Tensor, tasks: Sequence[Task], targets: Targets, rows: Sequence[Tensor], options: TabMOptions
) -> None:
    """Trains in place and restores the weights with the lowest loss of the held-out patients."""
    train, held_out = rows
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, foreach=True
    )
    best, best_epoch, weights = float("inf"), 0, copy.deepcopy(network.state_dict())
    for epoch in range(options.epochs):
        network.train()
        for batch in torch.split(train[torch.randperm(len(train))], options.batch_size):
            optimizer.zero_grad()
            _loss(network(x[batch]), tasks, targets, batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        with torch.no_grad():
            averaged = network(x[held_out]).mean(1, keepdim=True)  # the prediction of the ensemble
            loss = float(_loss(averaged, tasks, targets, held_out))
        if loss < best:
            best, best_epoch, weights = loss, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= options.patience:
            break
    network.load_state_dict(weights)
    network.eval()


def _loss(outputs: Tensor, tasks: Sequence[Task], targets: Targets, rows: Tensor) -> Tensor:
    """Averages the loss of outputs ``(n, networks, K)`` over labelled rows and networks, then over tasks."""
    losses = []
    for task, raw, (target, is_labelled) in zip(tasks, _split(outputs, tasks), targets, strict=True):
        labelled = is_labelled[rows]
        each = task(raw[labelled], target[rows][labelled].unsqueeze(1))
        losses.append(each.sum() / max(each.numel(), 1))
    return torch.stack(losses).mean()


def _split(outputs: Tensor, tasks: Sequence[Task]) -> list[Tensor]:
    """Splits raw outputs ``(..., K of all tasks)`` into those of each task."""
    return list(torch.split(outputs, [task.output_size for task in tasks], dim=-1))
