"""What is compared: trainers, whose fitted models predict as many versions of the test patients as are wanted."""

from __future__ import annotations

import copy
import functools
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from multimodn.base.batches import Batch, BatchLoader, PatientTensors
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import StudyError
from multimodn.evaluate.crossval.contracts import Arms, Fitted, Predictions, Trainer, development_split
from multimodn.fusion import Outputs, SequentialFusion
from multimodn.model.multimodn import MultiModN
from multimodn.study.study import Study, TrainingSpec
from multimodn.training.build import build_model, prepare
from multimodn.training.fit import TrainerFlags, member_rows

PREDICT_BATCH = 1024


def as_arm(trainer: Trainer, without: Collection[str] = ()) -> Arms:
    """Turns a trainer, but its arms ``without``, into what `cross_validate` takes."""

    def arm(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
        fitted = trainer(study, training, seed)
        return {name: predict(test) for name, predict in fitted.items() if name not in without}

    return arm


def fit_ours(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains the arm ``ours``: this package, with the study as it stands."""
    study = with_seed(study, seed)
    model = MultiModN(study).fit(training, split=development_split(study, training), flags=TrainerFlags(progress=False))
    return {"ours": lambda cohort: {name: link.double().numpy() for name, link in model.link(cohort).items()}}


def with_seed(study: Study, seed: int) -> Study:
    """Returns the study with ``seed`` added to the seed of its training."""
    spec = study.training.model_copy(update={"seed": study.training.seed + seed})
    return study.model_copy(update={"training": spec})


class ComparedNetwork(nn.Module, ABC):
    """Predicts the raw outputs ``(B, K)`` of each task, and says what it is trained on."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Returns the outputs that are the prediction."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns for each task the loss averaged over the labelled rows, a scalar."""


def fit_networks(
    arm: str, build: Callable[[SequentialFusion, int], ComparedNetwork], study: Study, training: Cohort, seed: int
) -> dict[str, Fitted]:
    """Trains the networks of one arm as `multimodn.training` trains ours, on the same rows.

    Adam with the study's L2 penalty and the cosine schedule; the weights of the epoch with the lowest loss on held-out
    patients: a fifth of them for a single network, another fold for each of several ``members``, whose raw outputs are
    averaged. ``build`` makes an untrained network from the fitted encoders and tasks of a model, and the width D;
    ``seed`` is added to that of the study.

    Raises:
        DataError: If a modality or a label cannot be used; every problem is listed.
    """
    hidden = [modality.name for modality in study.modalities if modality.exclude_for]
    if hidden:
        raise StudyError(
            f"Arm '{arm}' shows every task every modality, but {', '.join(hidden)} must be hidden from some."
        )
    spec = (study := with_seed(study, seed)).training
    split = development_split(study, training)
    n_members = spec.n_members(len(training))
    fitted_on = training if n_members > 1 else training.subset(split.train)
    models = [build_model(study, fitted_on, spec.seed + k) for k in range(n_members)]
    patients = prepare(models[0], training, labelled=True)
    networks = []
    for k, (train, validation) in enumerate(member_rows(study, training, split)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((spec.seed + k) * 100_003 + 1)  # other draws than those of the encoders' first weights
            networks.append(build(models[k], spec.state_size))
            _train(networks[k], patients, train, validation, spec, spec.seed + k)

    def predict(cohort: Cohort) -> Predictions:
        unlabelled = prepare(models[0], cohort, labelled=False)
        with torch.no_grad():
            found = [[network(batch) for network in networks] for batch in unlabelled.batches(PREDICT_BATCH)]
        links = {}
        for name, task in models[0].tasks.items():
            outputs = torch.cat([torch.stack([each[name] for each in members]).mean(0) for members in found])
            links[name] = cast(Task, task).link(outputs).double().numpy()
        return links

    return {arm: predict}


def _train(
    network: ComparedNetwork, patients: PatientTensors, train: Tensor, validation: Tensor, spec: TrainingSpec, seed: int
) -> None:
    """Trains in place, until the mean validation loss no longer falls, and goes back to where it was lowest."""
    strength = spec.penalty / (len(train) * len(patients.targets))  # as in `multimodn.training.module`
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.dim() > 1], "weight_decay": strength},
        {"params": [p for p in network.parameters() if p.dim() <= 1]},
    ]
    optimizer = torch.optim.Adam(groups, lr=spec.learning_rate, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.epochs)
    loader = BatchLoader(patients, train, spec.batch_size, shuffle=True, seed=seed)
    stopping = BatchLoader(patients, validation, PREDICT_BATCH)
    best, best_epoch, weights = float("inf"), 0, None
    for epoch in range(spec.epochs):
        network.train()
        loader.epoch = epoch
        for batch in loader:
            optimizer.zero_grad()
            torch.stack(list(network.losses(batch).values())).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        loss = _validation_loss(network.eval(), stopping)
        if loss < best:
            best, best_epoch, weights = loss, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= spec.patience:
            break
    if weights is not None:  # None: no held-out patient has a label
        network.load_state_dict(weights)


def _validation_loss(network: ComparedNetwork, loader: BatchLoader) -> float:
    """Averages each task's loss over its labelled rows, then over the tasks that have any; NaN if none has."""
    sums, counts = torch.zeros(2, len(loader.patients.targets), dtype=torch.float64)
    with torch.no_grad():
        for batch in loader:
            known = torch.stack([labelled.sum() for labelled in batch.labelled.values()])
            losses = network.losses(batch)
            sums += torch.stack([losses[name] for name in batch.labelled]) * known
            counts += known
    return float((sums / counts)[counts > 0].mean())


def ours(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns the arm ``ours``: this package, with the study as it stands."""
    return as_arm(fit_ours)(study, training, test, seed)


DEPTH = 6
PLAIN = (str, bytes, int, float, complex, bool, type(None), Path)


def arm_key(run: Any) -> str:
    """Names an arm for a file: its function's name, and a hash of its code and of what it closes over.

    The hash covers an arm's own code, defaults, closure and attributes, functions among them by their code too, but
    not what these call in turn.
    """
    name = getattr(run, "__name__", type(run).__name__)
    return f"{re.sub('[^A-Za-z0-9_]+', '_', name)}-{hashlib.sha256(_described(run, DEPTH).encode()).hexdigest()[:12]}"


def _described(thing: Any, depth: int) -> str:
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, PLAIN):
        return f"{kind}={thing!r}"
    if depth == 0:
        return kind
    if isinstance(thing, type):
        return f"{thing.__module__}.{thing.__qualname__}"
    return f"{kind}({', '.join(_described(part, depth - 1) for part in _parts(thing))})"


def _parts(thing: Any) -> list[Any]:
    """What tells a thing from others of its type."""
    if isinstance(thing, FunctionType):
        closed = [cell.cell_contents for cell in thing.__closure__ or ()]
        return [thing.__module__, thing.__qualname__, thing.__code__, thing.__defaults__, thing.__kwdefaults__, *closed]
    if isinstance(thing, CodeType):
        return [thing.co_code, *thing.co_names, *thing.co_consts]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, functools.partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, Mapping):
        return [part for key in sorted(thing, key=str) for part in (key, thing[key])]
    if isinstance(thing, (set, frozenset)):
        return sorted(thing, key=str)
    if isinstance(thing, (list, tuple)):
        return list(thing)
    return [part for key, value in sorted(getattr(thing, "__dict__", {}).items()) for part in (key, value)]
