"""Every example in a docstring does what it says."""

import doctest
import importlib
import pkgutil

import pytest

import multimodn

MODULES = ["multimodn", *(found.name for found in pkgutil.walk_packages(multimodn.__path__, "multimodn."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(len(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name))) >= 5
