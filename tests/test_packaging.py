import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import multimodn
from tests._cohorts import write_files

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


def test_no_module_is_imported_under_a_bare_or_old_name_or_over_the_network():
    code = (
        "import importlib, pkgutil, socket, sys, warnings\n"
        "warnings.filterwarnings('error', message='multimodn', category=DeprecationWarning)\n"
        "def refused(*_, **__): raise RuntimeError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused\n"
        "import multimodn\n"
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


def shipped() -> set[str]:
    """The files of all packages, by their place in an installation."""
    tops = {"multimodn": ROOT / "multimodn", **{f"multimodn/{top}": ROOT / top for top in ("encoders", "tasks")}}
    return {
        f"{place}/{file.relative_to(top).as_posix()}"
        for place, top in tops.items()
        for file in top.rglob("*")  # does not follow links
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.mark.slow
def test_the_wheel_of_the_sdist_holds_everything_and_fits_a_model(tmp_path):
    source, files, env = tmp_path / "source", tmp_path / "dist", tmp_path / "venv"
    source.mkdir()
    for name in ("multimodn", "encoders", "tasks"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command, cwd=tmp_path):
        done = subprocess.run([*map(str, command)], cwd=cwd, env=outside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    build = "from setuptools import build_meta; print(build_meta.build_{}({!r}))"
    run(sys.executable, "-c", build.format("sdist", str(files)), cwd=source)
    (sdist,) = files.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    run(sys.executable, "-c", build.format("wheel", str(files)), cwd=unpacked)
    (wheel,) = files.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == shipped()

    venv.create(env, with_pip=False)
    python = env / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # What the package needs comes from the environment of the tests. Lines of a .pth file come after the wheel, and
    # .pth files of the folder that they name are not read: no editable installation answers.
    (site,) = env.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    assert run(python, "-c", "import multimodn; print(multimodn.__file__)").startswith(str(site))

    write_files(tmp_path / "data", training={"epochs": 1})
    program = env / "bin" / "multimodn"
    run(program, "fit", tmp_path / "data" / "study.yaml", "--run", tmp_path / "run")
    assert (tmp_path / "run" / "MODEL_CARD.md").is_file()
    assert run(program, "predict", tmp_path / "run").startswith("patient,task,output,value,n_modalities\n")
    run(program, "report", tmp_path / "run", "--no-baselines", "--out", tmp_path / "report.html")
    assert (tmp_path / "report.html").is_file()
