"""Pairwise Shapley interactions of modalities, and their share of what moves the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.errors import StudyError
from multimodn.explain.contributions import MAX_MODALITIES, link_lattice, shapley, subset_weights
from multimodn.explain.joined import OfPatients
from multimodn.fusion import Ensemble
from multimodn.fusion.paths import all_subsets
from multimodn.statistics.bootstrap import bootstrap_sums


@dataclass(frozen=True)
class Interactions(OfPatients):
    """Own parts and pairwise interactions of M modalities in one task's predictions of B patients."""

    # symmetric ``(B, M, M, L)``, float64: half the interaction of two modalities off the diagonal, the own part of a
    # modality on it. A row adds up to the contribution of its modality, all rows to prediction - prior. 0 where a
    # modality is absent.
    values: Tensor
    presence: Tensor  # modalities that the patients have and the task sees, bool ``(B, M)``


def interactions(model: Ensemble, batch: Batch) -> dict[str, Interactions]:
    """Computes each task's pairwise interactions from its predictions at every subset; the encoders run once.

    They are not sampled: noise would raise `synergy`, a mean of absolute values.

    Raises:
        StudyError: If there are more than `MAX_MODALITIES` modalities.
    """
    n_modalities = batch.presence.shape[1]
    if n_modalities > MAX_MODALITIES:
        raise StudyError(
            f"Interactions need the predictions at every subset: at most {MAX_MODALITIES} modalities, this model has "
            f"{n_modalities}. Contributions, which are then sampled, are there for any number."
        )
    result = {}
    for t, (name, values) in enumerate(link_lattice(model, batch).items()):
        presence = batch.presence & model.first.seen[t].to(batch.presence.device)
        result[name] = Interactions(shapley_interactions(values, presence), presence)
    return result


def shapley_interactions(values: Tensor, presence: Tensor) -> Tensor:
    """Computes exact pairwise Shapley interactions, ``(B, M, M, L)`` float64 (see `Interactions`).

    With v(S) the prediction from subset S, P the present modalities and n = |P|, the interaction I_ij of i and j of P
    is ``sum over S in P without i, j of |S|! (n - |S| - 2)! / (n - 1)! * (v(S + ij) - v(S + i) - v(S + j) + v(S))``,
    half of it for each of them; the own part of i is ``shapley_i - sum over j of I_ij / 2``. Arguments as of `shapley`.

    References:
        Grabisch and Roubens (1999), https://doi.org/10.1007/s001820050125; own and shared parts:
        Lundberg et al. (2020), SHAP interaction values, https://doi.org/10.1038/s42256-019-0138-9
    """
    n_modalities = presence.shape[1]
    values = values.double()
    codes = torch.arange(len(values), device=values.device)
    sizes = all_subsets(n_modalities, values.device).sum(1)
    weights = subset_weights(n_modalities, 2).to(values.device)[presence.sum(1)]  # (B, M): by |S|
    result = values.new_zeros(len(presence), n_modalities, n_modalities, values.shape[-1])
    for i, j in combinations(range(n_modalities), 2):
        without = codes[(codes & (1 << i | 1 << j)) == 0]
        with_i, with_j, with_both = (values[without | bits] for bits in (1 << i, 1 << j, 1 << i | 1 << j))
        gain = (with_both - with_i - with_j + values[without]).nan_to_num(0.0)
        result[:, i, j] = result[:, j, i] = torch.einsum("bs,sbl->bl", weights[:, sizes[without]], gain) / 2
    diagonal = torch.arange(n_modalities, device=values.device)
    result[:, diagonal, diagonal] = shapley(values, presence) - result.sum(2)
    return result


def synergy(interactions: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Computes the share of interactions in what moves the predictions: the InterSHAP score.

    The mean |interaction| of all pairs, divided by that plus the mean |own part| of all modalities: 0 = every modality
    acts on its own, 1 = predictions move by interactions only.

    Returns:
        One row for each task and output: ``task``, ``output``, ``synergy`` (NaN where no prediction moves), ``low`` and
        ``high`` (95 %), ``n`` patients.

    References:
        Wenderoth et al. (2025), Measuring cross-modal interactions in multimodal models, https://arxiv.org/abs/2412.15828
    """
    rows = []
    for (task, output), part in interactions.groupby(["task", "output"], sort=False):
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
