"""The tutorial runs as it stands, and prints what it says."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multimodn.cli.app import app

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"^[+-]?\d*\.?\d+$")


def run_python(code, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(TUTORIAL), "exec"), names)
    return printed.getvalue()


def run_bash(code):
    printed = ""
    for line in code.strip().splitlines():
        command, *arguments = shlex.split(line, comments=True)
        assert command == "multimodn"
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        printed += result.output
    return printed


def alike(said, printed):
    """Whether all words are the same and all numbers close: another processor rounds otherwise."""
    ours, theirs = said.split(), printed.split()
    close = lambda a, b: abs(float(a) - float(b)) <= 0.05 + 0.1 * abs(float(a))  # noqa: E731
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(
        a == b or (NUMBER.match(a) and NUMBER.match(b) and close(a, b)) for a, b in pairs
    )


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
@pytest.mark.parametrize("has_report", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_tutorial_runs_and_prints_what_it_says(tmp_path, monkeypatch, has_report):
    monkeypatch.chdir(tmp_path)
    names, printed, n_compared = {}, "", 0
    for kind, code in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if kind == "python":
            printed = run_python(code, names)
        elif kind == "bash" and (has_report or code != "multimodn report run\n"):  # reports have tests of their own
            printed = run_bash(code)
        elif kind == "bash":
            continue
        else:
            assert alike(code, printed), f"The tutorial says\n{code}\nbut the block before it prints\n{printed}"
            n_compared += 1
    assert n_compared >= 3
    report = tmp_path / "run" / "report.html"
    assert report.exists() == has_report
    assert not has_report or "<svg" in report.read_text(encoding="utf-8")
    assert (tmp_path / "contributions.png").stat().st_size > 10_000
