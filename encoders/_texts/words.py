"""The words of reports, behind gates in front of a frozen network."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.feature_groups import Once, Parts
from multimodn.base.ragged import Ragged
from multimodn.encoders._texts.reports import Reports
from multimodn.encoders._texts.transformer import FrozenTransformer, Windowing

BASELINE = "every word replaced by the mask of the network"
BASELINE_WITHOUT_MASK = "every word replaced by the mean of the network's word vectors"


@dataclass(frozen=True, eq=False)
class ReportWords:
    """The reports of n patients as tokens."""

    network: FrozenTransformer  # the network that encodes them
    windowing: Windowing  # how they are cut
    reports: list[list[Tensor]]  # for each patient the token numbers of each report, long ``(n_tokens,)``
    once: Once = field(default_factory=Once)  # shares the network's outputs among the members of an ensemble

    def vectors(self, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns the network's vector of each patient at ``rows`` behind gates ``(k, n_tokens)``, ``(k, size)``."""

        def vectors() -> Tensor:
            patients, which = torch.unique(rows, return_inverse=True)
            places = [(which == number).nonzero().squeeze(1) for number in range(len(patients))]
            parts = [self._of(int(patient), gates[place]) for patient, place in zip(patients, places, strict=True)]
            return torch.cat(parts)[torch.cat(places).argsort()]

        return self.once(gates, vectors)

    def _of(self, patient: int, gates: Tensor) -> Tensor:
        """Returns a patient's vector behind k rows of gates: the mean over the reports, weighted by tokens."""
        reports = self.reports[patient]
        summed, weights = torch.zeros(()), 0
        for ids, some in zip(reports, torch.split(gates, [len(ids) for ids in reports], dim=1), strict=True):
            vector = self.network.differentiable(ids.expand(len(gates), -1), self.windowing, some)
            # tokens of all windows, those of an overlap twice
            weight = int(self.network.windows(torch.tensor([len(ids)]), self.windowing).length.sum())
            summed, weights = summed.to(vector.device) + weight * vector, weights + weight
        return summed / weights


def cut_words(reports: Reports, network: FrozenTransformer, windowing: Windowing) -> Parts:
    """Makes each word of some reports, with all its tokens, a part.

    Words are separated by blanks; ``report`` counts the patient's reports, and ``start`` and ``stop`` are the position
    of the word in the report.
    """
    tokens: list[list[Tensor]] = [[] for _ in reports.patients]
    opened: list[list[Tensor]] = [[] for _ in reports.patients]
    words: list[list[pd.DataFrame]] = [[] for _ in reports.patients]
    for report, row in enumerate(reports.rows.tolist()):
        text = reports.read(report)
        matches = [(word.group(), word.group(), word.start(), word.end()) for word in re.finditer(r"\S+", text)]
        table = pd.DataFrame(matches, columns=["feature", "value", "start", "stop"]).assign(report=len(words[row]))
        ends = network.offsets(text)[:, 1].numpy()
        # the last character counts: some tokenizers give the blank before a word to its first token
        word = np.searchsorted(table["start"].to_numpy(), ends - 1, side="right") - 1
        opened[row].append(torch.from_numpy(word).clamp(min=0) + sum(map(len, words[row])))
        tokens[row].append(torch.from_numpy(network.token_ids([text])[0]))
        words[row].append(table)
    names = pd.concat([frame for frames in words for frame in frames], ignore_index=True)
    lengths = torch.tensor([sum(map(len, frames)) for frames in words])
    gates = Ragged.cat([torch.cat(each) for each in opened])
    baseline = BASELINE_WITHOUT_MASK if network.tokenizer.mask_token_id is None else BASELINE
    return Parts(names, lengths, gates, ReportWords(network, windowing, tokens), baseline, len(network.blank))
