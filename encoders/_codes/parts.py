"""The codes of patients behind gates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.feature_groups import Parts
from multimodn.base.ragged import Ragged, total
from multimodn.encoders._codes.rows import CodeRows
from multimodn.encoders._codes.vocabulary import CodeBag, Weight
from multimodn.encoders._reading import Integers


@dataclass(frozen=True, eq=False)
class CodeParts:
    """The distinct codes of n patients, each with its amount and its features; one without codes has an empty one."""

    codes: Ragged  # float64 items (n_codes, 1 + n_levels): the amount, and the feature at each level, -1 = none

    def gated(self, rows: Tensor, gates: Tensor, n_features: int, weight: Weight) -> Ragged:
        """Returns the bags of patients at long ``rows`` ``(k,)`` whose amounts are times gates ``(k, P)``.

        Items ``(n_items, 2)`` are those of `CodesEncoder.prepare`; gradients flow through weights.
        """
        codes = self.codes[rows.to(self.codes.lengths.device)].to(gates.device)
        amount, feature = codes.items[:, 0].to(gates) * gates.flatten(), codes.items[:, 1:].long()
        row = codes.rows
        row = torch.cat([row.repeat_interleave((feature >= 0).sum(1)), torch.arange(len(rows), device=row.device)])
        amount = torch.cat([amount.repeat_interleave((feature >= 0).sum(1)), amount.new_zeros(len(rows))])
        place = torch.cat([feature[feature >= 0], feature.new_zeros(len(rows))])  # nobody is without any code's feature
        key, inverse = torch.unique(row * n_features + place, return_inverse=True)
        if weight == "count":
            summed = total(amount, inverse, len(key)).log1p()
        else:
            summed = amount.new_zeros(len(key)).scatter_reduce(0, inverse, amount, "amax", include_self=False)
        own, place = key // n_features, key % n_features
        return Ragged(torch.stack([place.to(gates), summed], 1), torch.bincount(own, minlength=len(rows)))


def code_parts(rows: CodeRows, codes: CodeBag, numbers: Integers, weight: Weight, width: int) -> Parts:
    """Makes the codes of patients parts; ``numbers``: the feature of each code at each level, -1 = none."""
    n = len(rows.patients)
    without = np.setdiff1d(np.arange(n), codes.patient)
    patient = np.concatenate([codes.patient, without])
    order = np.argsort(patient, kind="stable")
    names = np.array([rows.spellings[code][0] for code in codes.code] + ["(no code)"] * len(without), dtype=object)
    value = codes.amount if weight == "count" else codes.age
    value = np.concatenate([value, np.full(len(without), 0.0 if weight == "count" else np.nan)])
    of_codes = np.concatenate([codes.amount[:, None], numbers[codes.code]], 1)
    of_none = np.tile([0.0] + [-1.0] * numbers.shape[1], (len(without), 1))
    lengths = torch.from_numpy(np.bincount(patient, minlength=n)).long()
    items = torch.from_numpy(np.concatenate([of_codes, of_none])[order])
    content = CodeParts(Ragged(items, lengths))
    table = pd.DataFrame({"feature": names[order], "value": value[order]})
    baseline = "the patient without any code"
    return Parts.one_by_one(table, lengths, content, baseline, width)
