"""What every result carries: seed, versions, hashes of data and split."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split

PACKAGES = ("multimodn", "torch", "pytorch-lightning", "numpy", "pandas", "scikit-learn")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def provenance(cohort: Cohort, split: Split, seed: int) -> dict[str, Any]:
    """Returns what a reader needs to check or repeat a result."""
    counts = {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)}
    return {
        "seed": seed,
        "versions": versions(),
        "data_hash": cohort.hash(),
        "split_hash": split.hash(),
        "n_patients": counts,
    }
