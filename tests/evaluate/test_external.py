"""External validation: who may be there, what is computed, and what is written."""

import numpy as np
import pandas as pd
import pytest
import typer
from scipy.special import expit
from typer.testing import CliRunner

from multimodn import Cohort, Study
from multimodn.cli.evaluate import evaluate
from multimodn.errors import DataError, MultiModNError, StudyError
from multimodn.external.tables import REFITTED, SHIFTED, _fit, calibration_table, comparison_table
from multimodn.external.validate import evaluate_external, external_cohort
from multimodn.external.write import write_external
from multimodn.monitor.reference import make_reference, write_reference
from multimodn.runs import fit_run
from tests._cohorts import make_frames, study_dict, write_files

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
FEW = {"n_resamples": 50}


def hospital(
    folder, n=60, seed=7, prefix="h", tables=("labs", "image"), tasks=("death", "size", "survival"), **changes
):
    """Writes the files and the study of another hospital."""
    frames, targets = make_frames(n, seed)
    folder.mkdir(parents=True, exist_ok=True)
    outcome = pd.concat([targets[name] for name in tasks], axis=1)
    for name, frame in {**{t: frames[t] for t in tables}, "outcome": outcome}.items():
        frame = frame.rename(index=lambda patient: patient.replace("p", prefix))
        changes.get(name, lambda f: f)(frame).rename_axis("id").to_csv(folder / f"{name}.csv")
    data = study_dict(name="other")
    data["cohort"]["sources"] = {name: f"{name}.csv" for name in (*tables, "outcome")}
    data["modalities"] = [m for m in data["modalities"] if m["name"] in tables]
    data["tasks"] = [t for t in data["tasks"] if t["name"] in tasks]
    study = Study.from_dict(data, folder)
    (folder / "other.yaml").write_text(study.to_yaml())
    return study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    study = write_files(folder, training={"epochs": 3}, split={"validation": 0.2, "test": 0.4}, subgroups=["image.f0"])
    model = fit_run(study, folder / "run")
    write_reference(model, Cohort.load(study), folder / "run")
    return folder / "run", model


@pytest.fixture(scope="module")
def found(run, tmp_path_factory):
    _, model = run
    reference = make_reference(model, Cohort.load(model.study))
    other = hospital(tmp_path_factory.mktemp("hospital"))
    return evaluate_external(model, other, reference=reference, **FEW), other


def test_scores_are_those_of_the_model_on_these_patients(run, found):
    _, model = run
    external, other = found
    expected = model.evaluate(external_cohort(model, other)).set_index(["task", "metric"])["value"]
    overall = external.performance[external.performance["by"] == "overall"].set_index(["task", "metric"])["value"]
    pd.testing.assert_series_equal(overall.loc[expected.index], expected, check_dtype=False)


def test_who_is_there_is_counted(found):
    flow = found[0].flow.set_index(["what", "name", "who"])["n"]
    assert flow["patients", "", "all"] == 60
    assert flow["modality", "image", "has it"] == 52
    assert flow["task", "death", "labelled"] == flow["task", "death", "dead"] + flow["task", "death", "alive"] == 45


def test_the_difference_is_external_less_internal(run, found):
    _, model = run
    table = found[0].comparison
    internal = model.evaluate().set_index(["task", "metric"])["value"]
    keys = pd.MultiIndex.from_frame(table[["task", "metric"]])
    shared = keys.isin(internal.index)
    np.testing.assert_allclose(table["internal"][shared], internal.loc[keys[shared]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table["difference"], table["external"] - table["internal"])
    known = table["low"].notna()
    assert known.any()
    assert (table["low"] <= table["high"])[known].all()
    assert "ece" not in set(table["metric"])


def test_a_cohort_compared_with_itself_does_not_differ(run):
    _, model = run
    patients = model.prepare(Cohort.load(model.study), labelled=True)
    table = comparison_table(model, patients, patients, n_resamples=200)
    assert (table["difference"] == 0).all()
    known = table["low"].notna()
    assert ((table["low"] <= 0) & (table["high"] >= 0))[known].all()


def test_updates_reach_what_they_are_for(run, found):
    _, model = run
    table = calibration_table(model, model.prepare(external_cohort(model, found[1]), labelled=True))
    of_death = table[table["task"] == "death"].set_index("update")
    assert list(of_death.index) == ["none", "intercept", "intercept and slope"]
    assert of_death["intercept"]["intercept"] == pytest.approx(0, abs=1e-4)
    assert of_death["slope"]["intercept and slope"] == pytest.approx(1, abs=1e-3)
    assert of_death["stretch"]["intercept and slope"] == pytest.approx(of_death["slope"]["none"], rel=1e-3)
    of_size = table[table["task"] == "size"].set_index("update")
    assert of_size["slope"]["intercept and slope"] == pytest.approx(1, abs=1e-6)
    assert set(table.loc[table["task"] == "survival", "update"]) <= {"none"}


def test_the_updates_are_those_of_a_newton_fit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    y = (rng.random(500) < expit(0.5 + 0.7 * x)).astype(float)
    beta = np.zeros(2)
    rows = np.stack([np.ones(500), x], axis=1)
    for _ in range(30):
        p = expit(rows @ beta)
        beta += np.linalg.solve((rows * (p * (1 - p))[:, None]).T @ rows, rows.T @ (y - p))
    assert _fit("log-odds", x, y, REFITTED) == pytest.approx(beta, abs=1e-4)
    assert expit(x + _fit("log-odds", x, y, SHIFTED)[0]).mean() == pytest.approx(y.mean())


def test_what_the_other_hospital_lacks_is_absent_and_told(run, tmp_path):
    _, model = run
    external = evaluate_external(model, hospital(tmp_path, tables=["labs"], tasks=["death"]), **FEW)
    assert set(external.performance["task"]) == {"death"}
    notes = " ".join(external.notes)
    assert "absent in all patients: image" in notes
    assert "not evaluated: size, survival" in notes
    assert "no columns for: image.f0" in notes
    assert external.drift is None


def test_subgroups_of_the_study_are_scored(found):
    assert "subgroup" in set(found[0].performance["by"])


def test_nobody_may_be_on_both_sides(run, tmp_path):
    _, model = run
    other = hospital(tmp_path, n=40, prefix="p")
    with pytest.raises(
        DataError, match=r"24 patient\(s\) have identifiers of patients who were trained on: p[\s\S]*--al"
    ):
        evaluate_external(model, other, **FEW)
    external = evaluate_external(model, other, allow_overlap=True, **FEW)
    assert any("declared other people" in note for note in external.notes)


def test_patients_who_were_trained_on_are_refused_in_a_study_of_several_registries_too(run, tmp_path):
    _, model = run
    for name, prefix in (
        ("north", "p"),
        ("south", "q"),
    ):  # north has patients of the training data under their own names
        hospital(tmp_path / name, n=40, prefix=prefix)
    data = hospital(tmp_path).to_dict()
    data["cohorts"] = {
        name: {"sources": {source: f"{name}/{source}.csv" for source in data["cohort"]["sources"]}}
        for name in ("north", "south")
    }
    with pytest.raises(DataError, match=r"24 patient\(s\) have identifiers of patients who were trained on: north/p"):
        evaluate_external(model, Study.from_dict(data, tmp_path), **FEW)


def test_unknown_names_are_told_all_at_once(run, tmp_path):
    _, model = run
    data = hospital(tmp_path).to_dict()
    data["modalities"][0]["name"] = "lab"
    data["tasks"][0]["name"] = "dead"
    data["tasks"][1]["target"] = "months"
    data["order"] = []
    with pytest.raises(
        StudyError, match=r"'lab' is unknown[\s\S]*'labs'[\s\S]*'dead' is unknown[\s\S]*SELECT x AS size"
    ):
        evaluate_external(model, Study.from_dict(data, tmp_path))


def test_missing_columns_are_told(run, tmp_path):
    _, model = run
    with pytest.raises(DataError, match=r"'labs'[\s\S]*crp"):
        evaluate_external(model, hospital(tmp_path, labs=lambda f: f.drop(columns="crp")))


def test_labels_that_training_did_not_know_are_told_with_patient_and_value(run, tmp_path):
    _, model = run
    unknown = lambda f: f.assign(status=f["status"].replace("dead", "deceased"))  # noqa: E731
    with pytest.raises(DataError, match=r"patient 'h.*deceased"):
        evaluate_external(model, hospital(tmp_path, outcome=unknown))


def test_a_cohort_without_labels_is_refused(run, tmp_path):
    _, model = run
    empty = lambda f: f.assign(status=None)  # noqa: E731
    with pytest.raises(DataError, match="Nobody in 'other' has a label"):
        evaluate_external(model, hospital(tmp_path, tasks=["death"], outcome=empty))


def test_kept_scores_stand_in_for_test_patients_who_cannot_be_read(run, tmp_path, monkeypatch):
    _, model = run

    def gone():
        raise DataError("gone")

    monkeypatch.setattr(model, "test_cohort", gone)
    external = evaluate_external(model, hospital(tmp_path), **FEW)
    assert external.comparison["low"].isna().all()
    assert external.comparison["internal"].notna().any()
    assert any("kept scores" in note for note in external.notes)


def test_all_is_written_and_the_page_says_where_it_comes_from(run, found, tmp_path):
    _, model = run
    external, _ = found
    files = {file.name for file in write_external(external, tmp_path / "out")}
    expected = {"flow", "performance", "calibration", "comparison", "drift", "coverage"}
    assert files == {f"{name}.csv" for name in expected} | {"EXTERNAL.md"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == files
    page = (tmp_path / "out" / "EXTERNAL.md").read_text()
    assert model.provenance["data_hash"] in page
    for heading in ("Patients", "Performance", "Calibration", "Provenance", "Differences from the training patients"):
        assert f"## {heading}" in page
    assert "| nan" not in page


app = typer.Typer()
app.command()(evaluate)


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, MultiModNError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_command_writes_a_folder_in_the_run(run, tmp_path):
    hospital(tmp_path)
    said = call(run[0], tmp_path / "other.yaml", "--out", tmp_path / "out")
    assert "60 patients of other" in said
    assert "in the internal test, difference" in said
    assert "Drift:" in said
    assert (tmp_path / "out" / "EXTERNAL.md").exists()
    with pytest.raises(StudyError, match="the other study names its own"):
        call(run[0], tmp_path / "other.yaml", "-s", "labs=x.csv")


def test_the_command_scores_test_patients_with_intervals(run, tmp_path):
    said = call(run[0], "-o", tmp_path / "scores.csv")
    assert "16 patients of tiny" in said
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert {"task", "metric", "value", "low", "high", "n"} <= set(scores.columns)
    known = scores[scores["low"].notna()]
    assert len(known)
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    assert "40 patients of tiny" in call(run[0], "--all")
