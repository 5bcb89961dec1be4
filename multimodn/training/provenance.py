"""The provenance of results: seed, versions, hashes of data and split."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from multimodn.data.cohort import Cohort
from multimodn.data.splits import PARTS, Split

PACKAGES = ("multimodn", "torch", "pytorch-lightning", "numpy", "pandas", "scikit-learn")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed as a package"
    return installed


def provenance(cohort: Cohort, split: Split, seed: int) -> dict[str, Any]:
    """Returns the information to check or repeat a result."""
    hashes = {"data_hash": cohort.hash(), "split_hash": split.hash()}
    n_patients = {part: len(getattr(split, part)) for part in PARTS}
    drawn = {"validation": "drawn from the training patients of the given split"} if split.is_validation_drawn else {}
    return {"seed": seed, "versions": versions(), **hashes, "n_patients": n_patients, **drawn}
