"""Other kinds of fusion with the study's encoders: parallel, published sequential, masked attention.

Each function is a `evaluate.crossval.contracts.Trainer` of one arm, with the encoders, tasks and training section of
the study (`evaluate.crossval.arms.fit_networks`). None is corrected for label shift.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.base.batches import Batch
from multimodn.base.encoder import Encoder
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.evaluate.crossval.arms import ComparedNetwork, fit_networks
from multimodn.evaluate.crossval.contracts import Fitted, Trainer
from multimodn.fusion import Outputs, SequentialFusion
from multimodn.fusion.paths import ordered_paths
from multimodn.study.study import Study

DROPPED = 0.3  # probability that `fit_p_fusion_dropout` drops a present modality of a training row


def fit_p_fusion(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``p_fusion``: concatenated embeddings, 0 where absent, one hidden layer, a linear decoder for each task.

    References:
        Swamy et al. (2023), MultiModN, where P-Fusion is the parallel baseline, https://arxiv.org/abs/2309.14118
    """
    return fit_networks("p_fusion", _Parallel, study, training, seed)


def fit_p_fusion_presence(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``p_fusion_presence``: `fit_p_fusion` with presence as a further input."""
    return fit_networks("p_fusion_presence", partial(_Parallel, presence=True), study, training, seed)


def fit_p_fusion_dropout(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``p_fusion_dropout``: `fit_p_fusion` with modality dropout of probability `DROPPED` in training.

    Each row keeps at least one of its present modalities.
    """
    return fit_networks("p_fusion_dropout", partial(_Parallel, dropped=DROPPED), study, training, seed)


def fit_published(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``published``: the published sequential fusion, where an absent modality is skipped for that patient.

    A linear state update in the study's order; every task decodes the state after every step.

    References:
        Swamy et al. (2023), MultiModN, section 3, https://arxiv.org/abs/2309.14118
    """
    return fit_networks("published", _Published, study, training, seed)


def fit_published_batch_skip(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``published_batch_skip``: `fit_published` with the skipping of the authors' released code.

    In training a modality is skipped for the whole batch if one of its rows lacks it. In validation and prediction it
    is skipped for the patient: a prediction must not depend on the other patients of its batch, as it does in the
    released code. A modality that was skipped in every batch has random weights and is skipped for all patients.

    References:
        Swamy et al. (2023), MultiModN, https://github.com/EPFLiGHT/MultiModN, ``multimodn/multimodn.py``
    """
    return fit_networks("published_batch_skip", partial(_Published, batch_skip=True), study, training, seed)


def fit_masked_attention(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``masked_attention``: self-attention among the present modalities, as in MARIA, without imputation.

    One token for each modality: its embedding projected to width D plus a learned token. One transformer layer with
    absent modalities masked as keys; the tasks read a learned summary token, the only one of a patient without any
    modality.

    References:
        Caruso, Soda and Guarrasi (2024), MARIA: a Multimodal Transformer Model for Incomplete Healthcare Data,
        https://arxiv.org/abs/2412.14810
    """
    return fit_networks("masked_attention", _Attention, study, training, seed)


class _Features(ComparedNetwork):
    """The study's encoders, features ``(B, D)`` of their embeddings by a subclass, and a decoder for each task."""

    def __init__(self, model: SequentialFusion, size: int) -> None:
        super().__init__()
        self.encoders, self.tasks = model.encoders, model.tasks
        self.embedding_sizes = [cast(Encoder, encoder).embedding_size for encoder in model.encoders.values()]
        self.decoders = nn.ModuleDict({name: cast(Task, task).decoder(size) for name, task in model.tasks.items()})

    @abstractmethod
    def features(self, embeddings: list[Tensor], presence: Tensor) -> Tensor:
        """Maps the embeddings, ``(B, E_m)`` each and 0 in absent rows, to ``(B, D)``."""

    def forward(self, batch: Batch) -> Outputs:
        embeddings = []
        for m, (name, encoder) in enumerate(self.encoders.items()):
            embedding = torch.zeros(len(batch), self.embedding_sizes[m])
            if len(batch.values[name]):
                rows = batch.presence[:, m].nonzero().squeeze(1)
                embedding = embedding.index_copy(0, rows, encoder(batch.values[name]))
            embeddings.append(embedding)
        features = self.features(embeddings, batch.presence)
        return {name: decoder(features) for name, decoder in self.decoders.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        losses = {}
        for name, outputs in self(batch).items():
            labelled = batch.labelled[name]
            loss = torch.where(labelled, self.tasks[name](outputs, batch.targets[name]), 0.0)
            losses[name] = loss.sum() / labelled.sum().clamp(min=1)
        return losses


class _Parallel(_Features):
    def __init__(self, model: SequentialFusion, size: int, presence: bool = False, dropped: float = 0.0) -> None:
        super().__init__(model, size)
        self.presence, self.dropped = presence, dropped
        width = sum(self.embedding_sizes) + presence * len(self.embedding_sizes)
        self.hidden = nn.Linear(width, size)

    def features(self, embeddings: list[Tensor], presence: Tensor) -> Tensor:
        if self.training and self.dropped:
            presence = _thinned(presence, self.dropped)
            embeddings = [embedding * presence[:, m, None] for m, embedding in enumerate(embeddings)]
        inputs = [*embeddings, presence.to(embeddings[0].dtype)] if self.presence else embeddings
        features: Tensor = self.hidden(torch.cat(inputs, dim=1)).relu()
        return features


def _thinned(presence: Tensor, dropped: float) -> Tensor:
    """Drops each True of ``(B, M)`` with probability ``dropped``; a row keeps at least one."""
    drawn = torch.rand(presence.shape).masked_fill(~presence, -1.0)
    return presence & ((drawn >= dropped) | (drawn == drawn.amax(1, keepdim=True)))


class _Attention(_Features):
    def __init__(self, model: SequentialFusion, size: int) -> None:
        super().__init__(model, size)
        self.projections = nn.ModuleList(nn.Linear(width, size) for width in self.embedding_sizes)
        self.tokens = nn.Parameter(torch.randn(1 + len(self.embedding_sizes), size) * size**-0.5)  # first the summary
        n_heads = next(n for n in (4, 2, 1) if size % n == 0)
        self.layer = nn.TransformerEncoderLayer(size, n_heads, 2 * size, batch_first=True)

    def features(self, embeddings: list[Tensor], presence: Tensor) -> Tensor:
        contents = [project(embedding) for project, embedding in zip(self.projections, embeddings, strict=True)]
        read = torch.stack([torch.zeros_like(contents[0]), *contents], dim=1) + self.tokens
        features: Tensor = self.layer(read, src_key_padding_mask=F.pad(~presence, (1, 0)))
        return features[:, 0]


class _Published(ComparedNetwork):
    def __init__(self, model: SequentialFusion, size: int, batch_skip: bool = False) -> None:
        super().__init__()
        tasks = [cast(Task, task) for task in model.tasks.values()]
        names = [model.modalities[m] for m in model.order]
        self.fusion = SequentialFusion(dict(model.encoders.items()), tasks, size, "linear", names)
        self.batch_skip = batch_skip
        self.trained: Tensor
        self.register_buffer("trained", torch.zeros(len(names), dtype=torch.bool))

    def forward(self, batch: Batch) -> Outputs:
        outputs = self.fusion.read(self.fusion.encode(batch), self._paths(batch))
        return {name: of_steps[-1] for name, of_steps in outputs.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.fusion.losses(batch, self._paths(batch))

    def _paths(self, batch: Batch) -> Tensor:
        taken = batch.presence
        if self.training:
            taken = taken.all(0).expand_as(taken) if self.batch_skip else taken
            self.trained |= taken.any(0)
        return ordered_paths(taken & self.trained, self.fusion.order)


NEURAL: tuple[Trainer, ...] = (  # all trainers of this module
    fit_p_fusion,
    fit_p_fusion_presence,
    fit_p_fusion_dropout,
    fit_published,
    fit_published_batch_skip,
    fit_masked_attention,
)
