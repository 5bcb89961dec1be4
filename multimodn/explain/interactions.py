"""What modalities say only together: pairwise Shapley interactions, and how much of the predictions they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.errors import StudyError
from multimodn.explain.contributions import link_lattice, shapley
from multimodn.fusion import Ensemble
from multimodn.statistics.bootstrap import bootstrap_sums

MAX_MODALITIES = 14
"""Every subset is evaluated; the share of synergy is a mean of absolute values, which noise of sampling would raise."""


@dataclass(frozen=True)
class Interactions:
    """One task's predictions of B patients, shared out among modalities and pairs of them, on L link columns.

    Attributes:
        values: Symmetric ``(B, M, M, L)``, float64: off the diagonal half of the interaction of two modalities, on it
            what is a modality's own. Each row sums to the contribution of its modality, all of them to prediction -
            prior. 0 where a modality is absent.
        presence: Bool ``(B, M)``: what the patients have and the task sees.
    """

    values: Tensor
    presence: Tensor

    @staticmethod
    def joined(parts: Sequence[Interactions]) -> Interactions:
        """Joins the patients of several batches."""
        return Interactions(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Interactions)))


def interactions(model: Ensemble, batch: Batch) -> dict[str, Interactions]:
    """Computes each task's pairwise interactions from its predictions at every subset; the encoders run once.

    Raises:
        StudyError: If there are more than `MAX_MODALITIES` modalities.
    """
    n_modalities = batch.presence.shape[1]
    if n_modalities > MAX_MODALITIES:
        raise StudyError(
            f"Interactions need the predictions at every subset: at most {MAX_MODALITIES} modalities, this model has "
            f"{n_modalities}. Contributions, which are sampled beyond ten, are there for any number."
        )
    found = {}
    for t, (name, values) in enumerate(link_lattice(model, batch).items()):
        presence = batch.presence & model.first.seen[t].to(batch.presence.device)
        found[name] = Interactions(shapley_interactions(values, presence), presence)
    return found


def shapley_interactions(values: Tensor, presence: Tensor) -> Tensor:
    """Computes exact pairwise Shapley interactions over the modalities that each patient has.

    With v(S) the prediction from subset S, P the present modalities and n = |P|, modalities i and j of P interact by
    ``I_ij = sum over S in P without i, j of |S|! (n - |S| - 2)! / (n - 1)! * (v(S + i + j) - v(S + i) - v(S + j) + v(S))``;
    each of them is given half of it, and keeps ``own_i = shapley_i - sum over j of I_ij / 2``.

    Args:
        values: v by subset bit code, ``(2 ** M, B, L)``, NaN where a subset is not within P.
        presence: Bool ``(B, M)``.

    Returns:
        ``(B, M, M, L)``, float64, see `Interactions`.

    References:
        Grabisch and Roubens (1999), https://doi.org/10.1007/s001820050125; own and shared parts: Lundberg et al. (2020),
        SHAP interaction values, https://doi.org/10.1038/s42256-019-0138-9
    """  # noqa: E501  (the formula)
    n_modalities = presence.shape[1]
    values = values.double()
    codes = torch.arange(len(values), device=values.device)
    sizes = sum((codes >> m & 1 for m in range(n_modalities)), torch.zeros_like(codes))
    weights = _pair_weights(n_modalities).to(values.device)[presence.sum(1)]  # (B, M): by |S|
    found = values.new_zeros(len(presence), n_modalities, n_modalities, values.shape[-1])
    for i, j in combinations(range(n_modalities), 2):
        without = codes[(codes & (1 << i | 1 << j)) == 0]
        together, alone = values[without | 1 << i | 1 << j] - values[without | 1 << i], values[without | 1 << j]
        gain = (together - alone + values[without]).nan_to_num(0.0)
        found[:, i, j] = found[:, j, i] = torch.einsum("bs,sbl->bl", weights[:, sizes[without]], gain) / 2
    diagonal = torch.arange(n_modalities, device=values.device)
    found[:, diagonal, diagonal] = shapley(values, presence) - found.sum(2)
    return found


def _pair_weights(n_modalities: int) -> Tensor:
    """Row n, column s: the weight |S|! (n - |S| - 2)! / (n - 1)! of a subset of size s beside a pair of n players."""
    table = torch.zeros(n_modalities + 1, max(n_modalities, 1), dtype=torch.float64)
    for n in range(2, n_modalities + 1):
        for s in range(n - 1):
            table[n, s] = 1 / ((n - 1) * comb(n - 2, s))
    return table


def synergy(found: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Computes which share of the predictions' movement is interaction: InterSHAP's score.

    The mean |interaction| of all pairs, divided by that plus the mean |own part| of all modalities: 0 where every
    modality speaks for itself, 1 where all that moves a prediction is what two modalities say only together.

    Args:
        found: The frame of `MultiModN.interactions`.
        n_resamples: Bootstrap resamples of patients behind the interval.
        seed: Seed of the resamples.

    Returns:
        One row for each task and output: ``task``, ``output``, ``synergy`` (NaN where nothing moves), ``low`` and
        ``high`` (95 %), ``n`` patients.

    References:
        Wenderoth et al. (2025), Measuring cross-modal interactions in multimodal models, https://arxiv.org/abs/2412.15828
    """
    rows = []
    for (task, output), part in found.groupby(["task", "output"], sort=False):
        size = part["interaction"].abs().to_numpy()
        patients, names = pd.factorize(part.index)
        shared = np.bincount(patients, np.where(part["modality"] != part["other"], size, 0.0), len(names))
        total = np.bincount(patients, size, len(names))
        sums = bootstrap_sums(np.stack([shared, total], axis=1), n_resamples, seed)
        share = low = high = np.nan
        if total.sum():
            share = float(shared.sum() / total.sum())
            low, high = np.nanquantile(sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan), [0.025, 0.975])
        rows.append((task, output, share, low, high, len(names)))
    return pd.DataFrame(rows, columns=["task", "output", "synergy", "low", "high", "n"])
