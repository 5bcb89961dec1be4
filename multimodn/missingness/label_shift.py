"""Label shift between the patients who have a subset of modalities and all patients, and its correction.

Training at subset S uses the outcomes of patients who have S. If the presence of S depends on the outcome y, a network
learns presence as evidence. Where presence depends on nothing else in x_S, P(x_S | y, S) = P(x_S | y), and only one
factor is wrong, which counts estimate:

    P(y | x_S, S)  ~  P(y | x_S) / w_S(y)
    w_S(y) = P(y) / P_visit(y | S)
    P_visit(y | S)  ~  sum over rows i with outcome y and S within S_i of 1 / C(|S_i|, |S|)

where 1 / C(|S_i|, |S|) is the probability that a random order of the row's modalities passes S; where rows have
weights (`missingness.propensity`), it is multiplied by the row's. Two corrections:

- *tilt*: the likelihood is that of P(y | x_S) / w_S(y), normalised over outcomes, so that the network learns
  P(y | x_S). It is maximum likelihood with a known offset: efficient, as every row has the same weight (Prentice and
  Pyke 1979, Biometrika 66(3); logit adjustment, Menon et al. 2021, arXiv 2007.07314).
- *weight*: each row's loss is multiplied by w_S(y) (Lipton, Wang and Smola 2018, arXiv 1802.03916). It needs no
  likelihood of outcome strata, but a few rare patients then have large weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task

MAX_TABLE = 12
"""With at most so many modalities corrections of all subsets are computed once; with more, those of each batch."""


@dataclass(frozen=True)
class Corrections:
    """Corrections of the loss at each state of a batch, by task."""

    tilts: dict[str, Tensor]  # log factors of the outcome strata, -log w_S(y), ``(S, B, n_strata)``
    # factors of the loss, ``(S, B)``: for tasks without a likelihood of strata, and for all tasks where rows have
    # weights
    weights: dict[str, Tensor]


class LabelShift:
    """The label shift of every subset, by task, from training rows.

    Counts are smoothed: n_eff = (sum c)^2 / sum c^2 rows of a subset (c the probabilities above; Kish 1965) are pooled
    with `pseudo_rows` that have the outcomes of all rows. Without label shift every tilt is 0 and every weight 1.

    Args:
        presence: Bool ``(N, M)``, training rows.
        strata: Long ``(N, T)``, outcome strata of the tasks (`multimodn.base.task.Task.strata`), -1 = no label.
        tasks: The T tasks.
        seen: Which modalities each task may see, bool ``(T, M)``; default: all. The others are absent for the task.
        clip: Largest w_S(y) in a weight.
        pseudo_rows: See above.
        half_trust: A weight is also multiplied by n / (n + half_trust), n the effective number of weighted rows of S:
            rare subsets have little influence. See `effective_rows`.
        weights: Weights of the rows, ``(N, T)``, see `multimodn.missingness.propensity`; default: all are 1.
    """

    def __init__(
        self,
        presence: Tensor,
        strata: Tensor,
        tasks: Sequence[Task],
        seen: Tensor | None = None,
        *,
        clip: float = 50.0,
        pseudo_rows: float = 1.0,
        half_trust: float = 5.0,
        weights: Tensor | None = None,
    ) -> None:
        self.tasks, self.clip, self.pseudo_rows, self.half_trust = list(tasks), clip, pseudo_rows, half_trust
        self.n_modalities = presence.shape[1]
        most = max(task.n_strata for task in tasks)
        patterns, which = torch.unique(presence, dim=0, return_inverse=True)
        self._patterns = patterns.double()
        seen = torch.ones(len(tasks), presence.shape[1], dtype=torch.bool) if seen is None else seen.cpu()
        self._views, self._view_of = torch.unique(seen.double(), dim=0, return_inverse=True)
        own = torch.ones(strata.shape, dtype=torch.float64) if weights is None else weights.double()

        def summed(values: Tensor) -> Tensor:
            sums = torch.zeros(len(patterns), len(tasks), most + 1, dtype=torch.float64)
            columns = torch.arange(len(tasks)).expand_as(strata)
            sums.index_put_((which.unsqueeze(1), columns, strata), values, accumulate=True)
            return sums[..., :-1]  # the last column took the rows without a label, -1

        self._sums, self._squares = summed(own), summed(own.square())  # by pattern, task and stratum
        totals = summed(torch.ones_like(own)).sum(0)
        self.prior = totals / totals.sum(-1, keepdim=True).clamp(min=1)  # of the cohort as it is, without weights

    @classmethod
    def of_rows(cls, patients: PatientTensors, rows: Tensor, tasks: Sequence[Task], seen: Tensor) -> LabelShift:
        """Counts some rows of prepared patients with strata, by their weights if there are any."""
        assert patients.strata is not None
        weights = None if patients.weights is None else patients.weights[rows]
        return cls(patients.presence[rows], patients.strata[rows], tasks, seen, weights=weights)

    def corrections(self, taken: Tensor, strata: Tensor, row_weights: Tensor | None = None) -> Corrections:
        """Looks up the corrections of S states of B rows, which have seen subsets ``taken``, bool ``(S, B, M)``.

        Strata are long ``(B, T)``, -1 = no label; weights of rows ``(B, T)``, see `multimodn.missingness.propensity`.
        """
        tilts, weights, codes = self._lookup(taken)
        own = strata.clamp(min=0)
        corrections = Corrections({}, {})
        for t, task in enumerate(self.tasks):
            if task.n_strata == 1:
                continue
            if task.has_strata_likelihood:
                corrections.tilts[task.name] = tilts[codes, t, : task.n_strata]
            else:
                corrections.weights[task.name] = weights[codes, t, own[:, t]]
            if row_weights is not None:
                factor = corrections.weights.get(task.name, torch.ones_like(codes, dtype=row_weights.dtype))
                corrections.weights[task.name] = factor * row_weights[:, t]
        return corrections

    def subset_tilts(self, taken: Tensor) -> Tensor:
        """Looks up `tilts` at the subsets ``(S, B, M)`` of S states of B rows: ``(S, B, T, L)``."""
        tilts, _, codes = self._lookup(taken)
        return tilts[codes]

    def balance(self, taken: Tensor, strata: Tensor) -> dict[str, Tensor]:
        """Looks up `weights` for states ``(S, B, M)`` of rows with strata ``(B, T)``: for each task ``(S, B)``."""
        _, weights, codes = self._lookup(taken)
        own = strata.clamp(min=0)
        return {task.name: weights[codes, t, own[:, t]] for t, task in enumerate(self.tasks)}

    def _lookup(self, taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.n_modalities <= MAX_TABLE:
            bits = 2.0 ** torch.arange(self.n_modalities, device=taken.device)
            tilts, weights = (table.to(taken.device) for table in self._tables)
            return tilts, weights, (taken.to(bits.dtype) @ bits).long()
        subsets, codes = torch.unique(taken.flatten(0, 1).cpu(), dim=0, return_inverse=True)
        tilts, weights = (f(subsets).float().to(taken.device) for f in (self.tilts, self.weights))
        return tilts, weights, codes.view(taken.shape[:2]).to(taken.device)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        codes = torch.arange(2**self.n_modalities)
        subsets = (codes.unsqueeze(1) >> torch.arange(self.n_modalities) & 1) > 0
        return self.tilts(subsets).float(), self.weights(subsets).float()

    def tilts(self, subsets: Tensor) -> Tensor:
        """Returns -log w_S(y) of subsets ``(S, M)``, ``(S, T, L)`` float64; 0 for a stratum that no row has."""
        visits, squares = self._visits(subsets, torch.ones_like(self.prior))
        total = visits.sum(-1, keepdim=True)
        size = (total.squeeze(-1).square() / squares.clamp(min=1e-300)).nan_to_num(0.0).unsqueeze(-1)
        share = torch.where(total > 0, visits / total.clamp(min=1e-300), self.prior)
        smoothed = (size * share + self.pseudo_rows * self.prior) / (size + self.pseudo_rows)
        return torch.where(self.prior > 0, (smoothed / self.prior).log(), 0.0)

    def weights(self, subsets: Tensor) -> Tensor:
        """Returns the weights of subsets ``(S, M)``, ``(S, T, L)`` float64: w_S(y), shrunk for rare subsets."""
        size = self.effective_rows(subsets)
        return self.shift_weights(subsets) * (size / (size + self.half_trust)).unsqueeze(-1)

    def shift_weights(self, subsets: Tensor) -> Tensor:
        """Returns w_S(y), clipped, ``(S, T, L)``; its mean over the visits of each subset is 1.

        Where no row of a subset has some stratum, those that occur get their shares of one another among all rows.
        """
        visits, _ = self._visits(subsets, torch.ones_like(self.prior))
        total = visits.sum(-1, keepdim=True)
        weights = torch.where(visits > 0, self.prior * total / visits.clamp(min=1e-300), 0.0).clamp(max=self.clip)
        return weights * total / (weights * visits).sum(-1, keepdim=True).clamp(min=1e-300)

    def effective_rows(self, subsets: Tensor) -> Tensor:
        """Returns the effective number of weighted rows ``(S, T)``; 0 unless they have `comparable_outcomes`."""
        weights = self.shift_weights(subsets)
        visits, squares = self._visits(subsets, weights)
        size = (weights * visits).sum(-1).square() / squares.clamp(min=1e-300)
        usable = [comparable_outcomes(task, visits[:, t], self.prior[t]) for t, task in enumerate(self.tasks)]
        return size.masked_fill(~torch.stack(usable, dim=-1), 0.0)

    def _visits(self, subsets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sums the probabilities of passing each subset, ``(S, T, L)``, and their weighted squares, ``(S, T)``."""
        visits = torch.zeros(len(subsets), *self._sums.shape[1:], dtype=torch.float64)
        squares = torch.zeros_like(visits)
        for v, seen in enumerate(self._views):
            tasks = self._view_of == v
            chance = _passing_probabilities(subsets.double() * seen, self._patterns * seen)
            visits[:, tasks] = torch.einsum("su,utl->stl", chance, self._sums[:, tasks])
            squares[:, tasks] = torch.einsum("su,utl->stl", chance.square(), self._squares[:, tasks])
        return visits, (squares * weights.square()).sum(-1)


def comparable_outcomes(task: Task, rows: Tensor, all_rows: Tensor) -> Tensor:
    """Returns whether rows of a subset can teach a task more than what presence says, bool ``(...)``.

    ``rows``: counts in each stratum of those who have the subset, ``(..., L)``; ``all_rows``: of everyone, ``(L,)``.
    They cannot with one stratum only, where everyone has several, nor without an event of survival, where everyone has
    some: whatever a weighted loss learned there is that this modality means this outcome.
    """
    occurs, known = rows > 0, all_rows > 0
    comparable = occurs.sum(-1) >= known.sum(-1).clamp(max=2)
    if getattr(task, "link_scale", None) == "log-risk":
        events = slice(task.n_strata // 2, task.n_strata)  # the upper half of the strata
        comparable &= occurs[..., events].any(-1) | ~known[events].any()
    return comparable


def _passing_probabilities(subsets: Tensor, patterns: Tensor) -> Tensor:
    """Returns P(a random order of a pattern ``(U, M)`` passes a subset ``(S, M)``), ``(S, U)``."""
    sizes, whole = subsets.sum(1, keepdim=True), patterns.sum(1)
    within = subsets @ (1 - patterns).T == 0
    gamma: Callable[[Tensor], Tensor] = torch.lgamma
    log_choose = gamma(whole + 1) - gamma(sizes + 1) - gamma((whole - sizes).clamp(min=0) + 1)
    return torch.where(within, torch.exp(-log_choose), 0.0)


def frequency_shift(everyone: Tensor, having: Tensor, n_strata: int) -> Tensor:
    """Returns log P(y | having) - log P(y) of each stratum, ``(L,)`` float64, smoothed by one row of everyone's."""
    prior = torch.bincount(everyone, minlength=n_strata).double()
    prior = prior / prior.sum()
    return _log_ratio(torch.bincount(having, minlength=n_strata).double(), prior)


def shift_of_states(taken: Tensor, strata: Tensor, weight: Tensor, n_strata: int) -> Tensor:
    """Returns log P(y | S) - log P(y) of each stratum at states ``(S, n, M)`` with weights ``(S, n)``: ``(S, n, L)``.

    P(y | S) is that of these very states: which rows reach a subset depends on how subsets were chosen.
    """
    subsets, which = torch.unique(taken.flatten(0, 1), dim=0, return_inverse=True)
    place = which * n_strata + strata.repeat(len(taken))
    counts, squares = torch.zeros(2, len(subsets) * n_strata, dtype=torch.float64)
    counts = counts.index_add(0, place, weight.flatten()).view(-1, n_strata)
    squares = squares.index_add(0, place, weight.flatten().square()).view(-1, n_strata).sum(1, keepdim=True)
    total = counts.sum(1, keepdim=True)
    size = total.square() / squares.clamp(min=1e-300)  # effective number of rows (Kish 1965)
    prior = torch.bincount(strata, minlength=n_strata).double()
    shift = _log_ratio(counts / total.clamp(min=1e-300) * size, prior / prior.sum())
    return shift[which].view(*taken.shape[:2], n_strata)


def _log_ratio(counts: Tensor, prior: Tensor) -> Tensor:
    """Returns the log of shares over the prior's, ``(..., L)``, smoothed by one row of it; 0 for what never occurs."""
    share = (counts + prior) / (counts.sum(-1, keepdim=True) + 1)
    return torch.where(prior > 0, (share / prior.clamp(min=1e-300)).log(), 0.0)
