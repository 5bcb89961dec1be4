"""Another hospital as it is met: patients of one's own registries, other positive labels, unknown categories."""

import warnings

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from multimodn import Cohort, MultiModN, Study
from multimodn.cli.conformal import conformal
from multimodn.data.registries import own_identifiers
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.external.validate import evaluate_external
from multimodn.external.write import write_external
from multimodn.runs import fit_run
from tests._cohorts import make_frames, study_dict, write_files
from tests.evaluate.test_external import hospital

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
FEW = {"n_resamples": 20}
SHORT = {"training": {"epochs": 1, "members": 2}, "split": {"validation": 0.2, "test": 0.3}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder / "run", fit_run(write_files(folder, **SHORT), folder / "run")


def of_registries(folder):
    """A study of two registries, ``north/p00`` ... and ``south/p00`` ..."""
    sources = {}
    for seed, name in enumerate(("north", "south")):
        tables, targets = make_frames(40, seed)
        (folder / name).mkdir()
        written = {**tables, "outcome": pd.concat(targets.values(), axis=1)}
        for source, table in written.items():
            table.rename_axis("id").to_csv(folder / name / f"{source}.csv")
        sources[name] = {"sources": {source: f"{name}/{source}.csv" for source in written}}
    return Study.from_dict(study_dict(cohorts=sources, **SHORT), folder)


def test_patients_of_a_registry_are_known_without_its_name(tmp_path):
    study = of_registries(tmp_path)
    model = MultiModN(study).fit()
    other = hospital(tmp_path / "hospital", n=40, prefix="p")
    with pytest.raises(DataError, match="identifiers of patients who were trained on: p"):
        evaluate_external(model, other, **FEW)
    found = evaluate_external(model, other, allow_overlap=True, **FEW)
    assert any("they were declared other people" in note for note in found.notes)


def test_patients_of_other_registries_are_known_without_their_names(run, tmp_path):
    cohort = Cohort.load(of_registries(tmp_path))
    with pytest.raises(DataError, match="identifiers of patients who were trained on: north/p"):
        evaluate_external(run[1], cohort, **FEW)


def test_only_the_name_of_the_registry_is_left_aside():
    assert own_identifiers(pd.Index(["north/p1", "south/a/b", "p2"])).tolist() == ["p1", "a/b", "p2"]


def test_another_positive_label_is_refused(run, tmp_path):
    other = hospital(tmp_path).to_dict()
    other["tasks"][0]["positive"] = "alive"
    with pytest.raises(StudyError, match="task 'death' has `positive: alive`, the model `positive: dead`"):
        evaluate_external(run[1], Study.from_dict(other, tmp_path), **FEW)


def test_what_is_odd_about_the_data_is_a_note_of_the_page(run, tmp_path):
    class Odd(DataWarning):
        """A warning of the data."""

    _, model = run
    other = hospital(tmp_path)
    prepare = model.prepare

    def loud(cohort, labelled=False):
        warnings.warn("1 level is unknown.", Odd, stacklevel=2)
        return prepare(cohort, labelled=labelled)

    model.prepare = loud
    try:
        found = evaluate_external(model, other, **FEW)
    finally:
        del model.prepare
    assert found.notes.count("1 level is unknown.") == 1
    write_external(found, tmp_path / "out")
    assert "- 1 level is unknown." in (tmp_path / "out" / "EXTERNAL.md").read_text()


def asked(*arguments):
    app = typer.Typer()
    app.command()(conformal)
    return CliRunner().invoke(app, [*map(str, arguments), "--coverage"])


def test_coverage_says_who_is_no_test_patient(run):
    folder, model = run
    trained = model.split.train[0]
    found = asked(folder, "--patient", trained)
    assert isinstance(found.exception, DataError)
    assert f"test patients alone, and {trained} is none of them" in str(found.exception)


def test_coverage_of_training_patients_comes_with_a_warning(run):
    folder, model = run
    n = len(model.split.train) + len(model.split.validation)
    given = [text for name in ("labs", "image", "outcome") for text in ("-s", f"{name}={folder.parent / name}.csv")]
    with pytest.warns(DataWarning, match=f"{n} patient.*coverage is too high"):
        assert asked(folder, *given).exit_code == 0
