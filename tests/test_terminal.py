"""What the command line prints: data as they are, on any terminal."""

import io
import os
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from multimodn.cli import app, options
from multimodn.cli.terminal.console import ERRORS, plain_console, print_everywhere, working
from multimodn.cli.terminal.tables import show_next, show_scores
from multimodn.runs import fit_run
from tests._cohorts import make_study
from tests.test_cli import failing

BRACKETS = ["[red]x", "p[/]1", "[/bold]", "a[b]c", ":smile:", "[link=x]y", "x\\[b]", "[@click=f]g"]
pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")


@pytest.fixture
def console():
    shown = plain_console()
    shown.file, shown.width = io.StringIO(), 200
    return shown


@pytest.mark.parametrize("name", BRACKETS)
def test_identifiers_and_names_are_printed_as_they_are(console, name):
    scores = pd.DataFrame({"task": [name], "metric": [name], "value": [0.5], "n": [3]})
    show_scores(console, scores, f"Test patients of {name}")
    rows = {"rank": [1], "modality": [name], "gain": [0.1], "cost": [1.0]}
    show_next(console, name, pd.DataFrame(rows), name)
    with working(console, name) as show:
        show(name)
    console.print(f"Wrote {name}.")
    assert console.file.getvalue().count(name) >= 7


@given(st.text(alphabet="[]/\\abred=:.# ", max_size=20).map(str.strip))
def test_no_text_is_markup(text):
    shown = plain_console()
    shown.file, shown.width = io.StringIO(), 200
    shown.print(text)
    assert shown.file.getvalue() == f"{text}\n"


def test_notes_and_errors_are_printed_as_they_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(options.errors, "_width", 500)
    status, said = failing(capsys, monkeypatch, "fit", tmp_path / "[red]a[/x].yaml")
    assert status == 2
    assert "[red]a[/x].yaml" in said


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run whose study, patients, columns, tasks and classes have brackets and letters beyond ASCII in their names."""
    folder = tmp_path_factory.mktemp("odd[red]")
    ids = [f"p[/]é{k:02d}" for k in range(40)]
    content = make_study().to_dict() | {"name": "[/x] Größe", "order": []}
    content["cohort"]["sources"] = {"labs": "labs.csv", "image": "image.csv", "outcome": "outcome.csv"}
    content["tasks"] = [{"name": "death", "kind": "binary", "source": "outcome", "target": "s", "positive": "[/y] tot"}]
    content["training"] |= {"members": 1, "epochs": 1, "experts": []}
    pd.DataFrame({"id": ids, "[bold]crp": range(40), "µ": [1.0, -1.0] * 20}).to_csv(folder / "labs.csv", index=False)
    pd.DataFrame({"id": ids[:20], "f0": range(20)}).to_csv(folder / "image.csv", index=False)
    pd.DataFrame({"id": ids, "s": ["[/y] tot", "[z] ok"] * 20}).to_csv(folder / "outcome.csv", index=False)
    study = type(make_study()).from_dict(content, folder)
    (folder / "study.yaml").write_text(study.to_yaml(), encoding="utf-8")
    fit_run(study, folder / "run[1]")
    return folder / "run[1]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict",), ("explain", "--patient", "p[/]é39"), ("next", "--patient", "p[/]é39"),
        ("conformal", "--coverage"), ("evaluate",), ("audit",), ("drift", "NEW", "--exit-zero"),
        ("predict", "--out", "OUT"),
    ],
)  # fmt: skip
def test_every_command_shows_odd_names(odd, tmp_path, arguments):
    command, *rest = arguments
    given = {"NEW": str(odd.parent / "labs.csv"), "OUT": str(tmp_path / "[b]x.csv")}
    flags = ["--out", str(tmp_path)] if command == "audit" else []
    done = CliRunner().invoke(app.app, [command, str(odd), *(given.get(text, text) for text in rest), *flags])
    assert done.exit_code == 0, (done.output, done.exception)
    names = ("[/x] Größe", "[/y] tot", "p[/]é", "[b]x.csv", "[bold]crp", "death")
    said = done.output.replace("\n", "")  # long paths are broken into lines
    assert any(name in said for name in names)


@pytest.mark.parametrize(
    "setting", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_a_terminal_that_is_not_utf8_shows_everything(odd, setting):
    code = "from multimodn.cli.app import main; main()"
    names = {key: text for key, text in os.environ.items() if key not in ("LANG", "LC_ALL", "PYTHONIOENCODING")}
    command = [sys.executable, "-c", code, "explain", str(odd), "--patient", "p[/]é39"]
    done = subprocess.run(command, capture_output=True, env=names | setting, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(setting.get("PYTHONIOENCODING", "utf-8"))
    assert "p[/]" in said
    assert "39" in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@given(text=st.text(max_size=30))
def test_any_text_can_be_printed(encoding, text):
    print_everywhere()
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=ERRORS, newline="")
    written.write(text)
    written.flush()
    said = written.buffer.getvalue().decode(encoding)
    assert all(said.count(letter) >= text.count(letter) for letter in text if letter.isascii())
    if text.isascii():
        assert said == text


def test_bars_and_signs_have_ascii_forms():
    print_everywhere()
    assert "█▌ ±2 R² ≥ \u22121 é".encode("ascii", ERRORS) == b"## +/-2 R2 >= -1 \\xe9"
