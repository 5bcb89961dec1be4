"""Fixtures of the whole suite."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

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
    """Every test starts from the same seed, on one thread: small tensors gain nothing from two."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
