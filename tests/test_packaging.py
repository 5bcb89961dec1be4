import importlib
import os
import pkgutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import multimodn

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = CONFIG["tool"]["setuptools"]


def folders() -> set[str]:
    """Returns the dotted names of all folders with Python files, links followed by their listed place."""
    found = set()
    for top, prefix in (("multimodn", "multimodn"), ("encoders", "multimodn.encoders"), ("tasks", "multimodn.tasks")):
        for file in (ROOT / top).rglob("*.py"):  # does not follow links
            parts = file.parent.relative_to(ROOT / top).parts
            found.add(".".join((prefix, *parts)))
    return found


def test_every_folder_is_a_listed_package():
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders())
    for package, folder in SETUPTOOLS["package-dir"].items():
        assert (ROOT / folder / "__init__.py").is_file(), package


@pytest.mark.parametrize("name", ["encoders", "tasks"])
def test_the_package_links_to_the_top_level_folder(name):
    link = ROOT / "multimodn" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"  # relative: it works in every clone
    assert not (ROOT / name).is_symlink()


def test_no_module_is_imported_under_a_bare_name():
    code = (
        "import importlib, pkgutil, sys, multimodn\n"
        "for m in pkgutil.walk_packages(multimodn.__path__, 'multimodn.'): importlib.import_module(m.name)\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in {'encoders', 'tasks'}))\n"
        "print('multimodn.encoders.table' in sys.modules, 'multimodn.tasks.binary' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-2:] == ["[]", "True True"]


def test_types_are_shipped():
    assert (ROOT / "multimodn" / "py.typed").is_file()
    assert "py.typed" in SETUPTOOLS["package-data"]["multimodn"]


@pytest.mark.parametrize("group", ["multimodn.encoders", "multimodn.tasks"])
def test_every_entry_point_loads_a_class_of_its_file(group):
    declared = CONFIG["project"]["entry-points"][group]
    installed = {entry.name: entry for entry in entry_points(group=group)}
    assert set(declared) <= set(installed)
    for name, target in declared.items():
        found = installed[name].load()
        assert f"{found.__module__}:{found.__qualname__}" == target
        assert found.__module__ == f"{group}.{name}"


def test_every_public_name_can_be_imported():
    assert len(multimodn.__all__) <= 12
    for name in multimodn.__all__:
        assert getattr(multimodn, name).__module__.startswith("multimodn")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = multimodn.Nothing


def test_the_program_is_declared():
    module, _, function = CONFIG["project"]["scripts"]["multimodn"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_modules_are_short():
    files = [ROOT / f"{m.name.replace('.', '/')}.py" for m in pkgutil.walk_packages(multimodn.__path__, "multimodn.")]
    long = {str(file): n for file in files if file.is_file() and (n := len(file.read_text().splitlines())) > 310}
    assert long == {}
