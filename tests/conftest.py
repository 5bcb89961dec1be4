"""Fixtures of the whole suite."""

# ruff: noqa: E402
import gc
import os
from functools import cache
from importlib import metadata

# Before any of them is imported: threads that wait for one another cost more than small arrays take.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Every training notes the versions of libraries, and Lightning looks for plug-ins: they are read from disk once.
for name in ("entry_points", "version"):
    setattr(metadata, name, cache(getattr(metadata, name)))

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# Developers search at random; a build that fails must fail again. `make slow` asks for more examples.
for profile, max_examples in (("fast", 12), ("full", 50)):
    settings.register_profile(
        profile,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=max_examples,
        derandomize=os.environ.get("CI") == "true",
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same seed and on one thread."""
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` takes a millisecond, for devices that no test uses
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _one_network():
    """Studies that name no number of members train one network: five would cost five times as much."""
    from multimodn.study.training import TrainingSpec

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingSpec, "n_members", lambda spec, n_patients: spec.members or 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_cards():
    """Every card holds scores and an audit: resampled little and cross-validated once, but in tests of their own."""
    from multimodn.card.card import write_card
    from multimodn.evaluate.performance.performance import performance

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(write_card.__kwdefaults__, "n_resamples", 20)
        patch.setitem(performance.__kwdefaults__, "n_calls", 10)
        patch.setattr("multimodn.audit.independence.N_BOOTSTRAP", 50)
        patch.setattr("multimodn.audit.independence.N_REPEATS", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _coarse_pictures():
    """PNG files of a quarter of the points: what is drawn stays the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodn.figures.picture.DPI", 75)
        yield


def pytest_collection_finish():
    """Leaves what the libraries made while they were imported out of every garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
