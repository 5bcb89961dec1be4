"""Says how much the results depend on rounding: the processor's instructions, the last digits of the inputs.

Cross-validates the study under other instruction sets and with a relative noise of 1e-9 on every number that a modality
holds, and prints the largest difference of a score from a run without any of this, by variant, arm and metric.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).resolve().parent
NOISE = 1e-9
"""Relative size of the noise on the inputs: normal, two seeds."""
TOLERANCE = 1e-4
VARIANTS: dict[str, tuple[int | None, dict[str, str]]] = {
    "as it is": (None, {}),
    "torch without vectors": (None, {"ATEN_CPU_CAPABILITY": "default"}),
    "torch with AVX2": (None, {"ATEN_CPU_CAPABILITY": "avx2"}),
    "an older processor": (
        None,
        {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    ),
    "noise, seed 0": (0, {}),
    "noise, seed 1": (1, {}),
}
"""Name to the seed of the noise on the inputs, and what the environment sets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", default=["late_ridge", "ours"], choices=["late_ridge", "ours"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder for the scores of each variant")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # a process of its own for each variant
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only:
        cross_validated(options).to_csv(path_of(options.out, options.only), index=False)
        return
    for name in options.variants:
        if not path_of(options.out, name).exists():
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            subprocess.run(command, env=os.environ | threads | VARIANTS[name][1], check=True)
    table = differences(options.out, options.variants)
    print(table.to_string(index=False))
    print(f"Largest difference: {table['largest'].max():.2g}; tolerance {TOLERANCE:g}.")


def path_of(folder: Path, variant: str) -> Path:
    """Where the scores of a variant are kept."""
    return folder / f"{variant.replace(' ', '-').replace(',', '')}.csv"


def cross_validated(options: argparse.Namespace) -> pd.DataFrame:
    """Cross-validates the study as `run.py` does, with the noise of the variant."""
    import torch

    from multimodn import Cohort, DataWarning, Study
    from multimodn.evaluate.baselines.ridge import late_ridge
    from multimodn.evaluate.crossval.arms import ours
    from multimodn.evaluate.crossval.crossval import cross_validate

    torch.set_num_threads(1)
    study = Study.load(FOLDER / "study.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        cohort = Cohort.load(study)
    seed = VARIANTS[options.only][0]
    if seed is not None:
        generator = np.random.default_rng(seed)
        cohort = replace(cohort, modalities={n: noisy(t, generator) for n, t in cohort.modalities.items()})
    arms = [{"late_ridge": late_ridge, "ours": ours}[name] for name in options.arms]
    return cross_validate(study, cohort, arms, options.folds, options.repeats)


def noisy(table: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Multiplies every number of a table by one plus a normal noise."""
    numbers = table.select_dtypes("number").astype(np.float64)
    return table.assign(**(numbers * (1 + NOISE * generator.normal(size=numbers.shape))))


def differences(folder: Path, variants: Sequence[str]) -> pd.DataFrame:
    """Returns ``variant, arm, metric, largest`` (difference from the first variant) and ``changed`` (scores)."""
    keys = ["arm", "task", "metric", "repeat", "fold"]
    first, *others = (pd.read_csv(path_of(folder, name)).set_index(keys)["value"] for name in variants)
    parts = []
    for name, scores in zip(variants[1:], others, strict=True):
        apart = (scores - first.reindex(scores.index)).abs()
        apart = apart.fillna((scores.isna() != first.reindex(scores.index).isna()).astype(float))
        groups = apart.groupby(level=["arm", "metric"], sort=False)
        found = groups.agg(largest="max", changed=lambda part: int((part > TOLERANCE).sum())).reset_index()
        parts.append(found.assign(variant=name))
    return pd.concat(parts, ignore_index=True)[["variant", "arm", "metric", "largest", "changed"]]


if __name__ == "__main__":
    main()
