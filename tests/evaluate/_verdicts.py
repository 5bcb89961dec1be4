"""Comparisons with baselines, made up."""

from itertools import combinations

import numpy as np
import pandas as pd

from multimodn.evaluate.baselines.compare import COLUMNS
from multimodn.findings.frames import ComparisonFrame


def made(late=(0.0, -0.1, 0.1), best=(0.1, 0.02, 0.2), adjusted=0.01, groups=(), n=100, arms=()):
    rows = [("death", "ours", "auroc", "overall", "all", 0.8, 0.7, 0.9, *[np.nan] * 5, n)]
    for arm, (difference, low, high) in (("late_ridge", late), ("best_single", best), *arms):
        numbers = (0.8 - difference, 0.6, 0.9, difference, low, high, 0.001, adjusted, n)
        rows.append(("death", arm, "auroc", "overall", "all", *numbers))
    for arm, by, group, low, high, of_group in groups:
        middle = (low + high) / 2
        rows.append(("death", arm, "auroc", by, group, 0.7, 0.5, 0.9, middle, low, high, 0.01, of_group, 40))
    names = ["labs", "notes", "scan"]
    patterns = {"+".join(some): some for k in range(1, 4) for some in combinations(names, k)}
    return ComparisonFrame.of(
        pd.DataFrame(rows, columns=COLUMNS),
        best_single={"death": "single:labs"},
        seen={"death": names},
        left_out=[],
        patterns=patterns | {"modality_number_01+modality_number_02": ("modality_number_01", "modality_number_02")},
    )
