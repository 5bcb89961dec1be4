"""Names of before the packages were ordered: they import, and say where they are now."""

from importlib import import_module
from pathlib import Path

import pytest

import multimodn

MOVED = dict(line.split(" ", 1) for line in (Path(multimodn.__file__).parent / "moved.txt").read_text().splitlines())


@pytest.mark.parametrize("old", sorted(MOVED))
def test_contents_of_a_moved_module_are_found(old):
    assert all(import_module(place) for place in MOVED[old].split())
    assert import_module(old).__name__ == old


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ("multimodn.estimator", "MultiModN"),
        ("multimodn.base", "load_kind"),
        ("multimodn.study", "SourceSpec"),
        ("multimodn.evaluate.crossval", "cross_predict"),
        ("multimodn.evaluate.comparison", "compare"),
        ("multimodn.data.batches", "PatientTensors"),
        ("multimodn.slides.reading", "open_slide"),
    ],
)
def test_a_moved_name_warns_and_is_the_same(old, name):
    with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} is now multimodn\."):
        value = getattr(import_module(old), name)
    assert any(value is getattr(import_module(place), name, None) for place in MOVED[old].split())


def test_what_was_never_there_is_an_error():
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from multimodn.estimator import no_such_name")
    with pytest.raises(ModuleNotFoundError):
        import_module("multimodn.no_such_module")
