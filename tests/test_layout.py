"""Imports run one way: `lint-imports` holds the layers, these tests what it cannot say."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "benchmarks" / "layout.py"


@pytest.fixture(scope="module")
def layout():
    spec = importlib.util.spec_from_file_location("layout", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def graph(layout):
    return layout.imports(ROOT)


def test_no_module_imports_itself_through_others(layout, graph):
    assert layout.cycles(graph) == []


def test_rooms_stand_on_at_most_ten_floors(layout, graph):
    between = layout.rooms(graph)
    assert layout.cycles(between) == []
    assert max(layout.floors(between).values()) <= 10


def test_few_files_lie_at_the_root():
    assert len(list((ROOT / "multimodn").glob("*.py"))) <= 6


def test_cycles_and_floors_are_found(layout):
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a", "d"}}
    assert layout.cycles(graph) == [["b", "c"]]
    assert layout.floors(graph) == {"a": 3, "b": 2, "c": 2, "d": 1, "e": 4}
