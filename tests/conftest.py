"""Fixtures of the whole suite."""

import gc
import os

# Before any of them is imported: threads that wait for one another cost more than small arrays take.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# Developers search at random; a build that fails must fail again.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=25,
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same seed and on one thread."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


def pytest_collection_finish():
    """Leaves what the libraries made while they were imported out of every garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
