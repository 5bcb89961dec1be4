"""What to measure next: gains are sensible, the right modality is asked for, costs count, and bundles keep the head."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from multimodn import Cohort, MultiModN
from multimodn.cli.app import app
from multimodn.errors import BundleError, DataError, NotFittedError, StudyError
from multimodn.explain.acquisition.examples import examples, n_orders
from multimodn.explain.acquisition.next_modality import gains
from multimodn.runs import fit_run
from tests._cohorts import write_files
from tests.explain._planted import labels, make_study, table

QUICK = {"epochs": 12, "members": 2, "batch_size": 256, "learning_rate": 0.03}


def gated(n, seed):
    """``triage`` tells which of ``scan`` and ``assay`` carries the outcome; ``noise`` never does."""
    rng = np.random.default_rng(seed)
    triage, scan, assay, noise = rng.normal(size=(4, n, 2))
    score = 4.0 * np.where(triage[:, 0] > 0, scan[:, 0], assay[:, 0])
    tables = {"triage": triage, "scan": scan, "assay": assay, "noise": noise}
    return {name: table(values, name) for name, values in tables.items()}, labels(score, rng), triage[:, 0] > 0


def taught_on(cohort, study):
    model = MultiModN(study).fit(cohort)
    model.explain.fit_acquisition(cohort)
    return model


@pytest.fixture(scope="module")
def taught():
    tables, outcome, _ = gated(1000, 0)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    study = make_study(tables, update="product", **QUICK)
    return taught_on(cohort, study), cohort


def newcomers(n=400, seed=1, names=("triage",)):
    tables, _, by_scan = gated(n, seed)
    return Cohort.from_frames({name: tables[name] for name in names}), by_scan


def test_the_modality_that_matters_for_this_patient_is_asked_for(taught):
    model, _ = taught
    cohort, by_scan = newcomers()
    first = model.explain.next(cohort).query("task == 'y' and rank == 1")["modality"]
    right = np.where(by_scan, "scan", "assay")
    assert (first.loc[cohort.patients].to_numpy() == right).mean() > 0.8


def test_gains_are_finite_not_negative_and_least_for_noise(taught):
    model, _ = taught
    found = model.explain.next(newcomers()[0]).query("task == 'y'")
    assert np.isfinite(found["gain"]).all()
    assert (found["gain"] >= 0).all()
    mean = found.groupby("modality")["gain"].mean()
    assert mean.idxmin() == "noise"
    assert mean["noise"] < 0.3 * mean["scan"]


def test_gains_are_the_drops_in_loss_that_newcomers_see(taught):
    model, _ = taught
    tables, outcome, _ = gated(2000, 2)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    patients = model.prepare(cohort, labelled=True)
    found = model.explain.next(newcomers(2000, 2)[0]).query("task == 'y'")
    batch = patients.batch(torch.arange(len(patients)))
    alone = torch.zeros_like(batch.presence)
    alone[:, 0] = True
    with torch.inference_mode():
        network = model.trained.ensemble
        evidence = network.encode(batch)
        loss = lambda chosen: network.tasks["y"](network.subset(evidence, chosen)["y"], batch.targets["y"])  # noqa: E731
        before = loss(alone)
        for m, name in enumerate(model.trained.ensemble.first.modalities[1:], 1):
            more = alone.clone()
            more[:, m] = True
            expected = found.loc[found["modality"] == name, "gain"].mean()
            assert (before - loss(more)).mean().item() == pytest.approx(expected, abs=0.05)


def test_nothing_that_a_patient_has_is_proposed(taught):
    model, _ = taught
    found = model.explain.next(newcomers(20, names=("triage", "noise"))[0])
    assert set(found["modality"]) == {"scan", "assay"}
    assert model.explain.next(newcomers(20, names=("triage", "scan", "assay", "noise"))[0]).empty


def test_costs_decide_the_order(taught):
    model, _ = taught
    cohort, _ = newcomers(50)
    dear = model.explain.next(cohort, costs={"scan": 1e9, "assay": 1e9}).query("rank == 1")
    assert set(dear["modality"]) == {"noise"}
    found = model.explain.next(cohort, costs={"scan": 2.0})
    worth = (found["gain"] / found["cost"]).groupby([found.index, found["task"]])
    assert (worth.rank(ascending=False, method="first") == found["rank"]).all()


@pytest.mark.parametrize(
    ("costs", "match"),
    [({"scan": 0.0}, "The cost of 'scan' is 0.0"), ({"scna": 1.0}, "unknown modality 'scna'.*Did you mean 'scan'")],
)
def test_a_wrong_cost_is_named(taught, costs, match):
    with pytest.raises(StudyError, match=match):
        taught[0].explain.next(newcomers(3)[0], costs=costs)


def test_the_same_seed_teaches_the_same():
    tables, outcome, _ = gated(200, 0)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    model = MultiModN(make_study(tables, update="product", epochs=2, members=2)).fit(cohort)
    model.explain.fit_acquisition(cohort)
    before, torch_state = model.explain.next(newcomers(20)[0]), torch.get_rng_state()
    model.explain.fit_acquisition(cohort)
    pd.testing.assert_frame_equal(model.explain.next(newcomers(20)[0]), before)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_gains_do_not_depend_on_the_other_patients(taught):
    model, _ = taught
    cohort, _ = newcomers(20)
    whole = model.explain.next(cohort)
    alone = model.explain.next(cohort.subset([cohort.patients[7]]))
    np.testing.assert_allclose(alone["gain"], whole.loc[cohort.patients[7], "gain"], rtol=1e-4)


def test_a_bundle_keeps_the_head_and_refuses_an_edited_one(taught, tmp_path):
    model, _ = taught
    cohort, _ = newcomers(20)
    model.save(tmp_path / "bundle")
    pd.testing.assert_frame_equal(MultiModN.load(tmp_path / "bundle").explain.next(cohort), model.explain.next(cohort))
    file = tmp_path / "bundle" / "acquisition.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match=r"acquisition\.safetensors is truncated or was edited"):
        MultiModN.load(tmp_path / "bundle")


def test_a_model_without_a_head_says_what_to_do(taught, tmp_path):
    _, cohort = taught
    plain = MultiModN(make_study(cohort.modalities, epochs=1)).fit(cohort)
    plain.save(tmp_path / "bundle")
    loaded = MultiModN.load(tmp_path / "bundle")
    assert "acquisition" not in json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    with pytest.raises(NotFittedError, match=r"call explain\.fit_acquisition"):
        loaded.explain.next(cohort)


def test_without_held_out_patients_nothing_can_be_learned():
    tables, outcome, _ = gated(60, 0)
    study = make_study(tables, epochs=1)
    study = study.model_copy(update={"split": study.split.model_copy(update={"validation": 0.0})})
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    with pytest.raises(DataError, match="patients held out from training; none has"):
        taught_on(cohort, study)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three tasks, of which one must not see one of the two modalities."""
    folder = tmp_path_factory.mktemp("next")
    study = write_files(folder)
    content = study.to_dict()
    content["modalities"][1] |= {"exclude_for": ["death"], "cost": 4.0}
    study = type(study).from_dict(content, folder)
    fit_run(study, folder / "run")
    return folder


def test_a_hidden_modality_is_not_proposed_for_its_task(run):
    model = MultiModN.load(run / "run")
    cohort = Cohort.load(model.study, labelled=False)
    found = model.explain.next(cohort)
    assert set(found.query("modality == 'image'")["task"]) == {"all", "size", "survival"}
    assert set(found["cost"]) == {4.0}
    patients = model.prepare(cohort)
    with torch.inference_mode():
        assert not gains(model.trained.ensemble, model.trained.acquisition, patients.batch(torch.arange(8)))[
            :, 1, 0
        ].any()


def test_the_command_tells_and_writes(run, tmp_path):
    runner = CliRunner()
    shown = runner.invoke(app, ["next", str(run / "run"), "--patient", "p39", "--cost", "image=2"])
    assert shown.exit_code == 0, shown.output
    assert "image" in shown.output
    full = runner.invoke(app, ["next", str(run / "run"), "--patient", "p00"])
    assert "lacks no modality that could help" in full.output
    written = runner.invoke(app, ["next", str(run / "run"), str(run / "labs.csv"), "--out", str(tmp_path / "n.csv")])
    assert written.exit_code == 0, written.output
    found = pd.read_csv(tmp_path / "n.csv")
    assert len(found) == 40 * 3  # of the table alone, everybody lacks the image, for two tasks and all
    assert set(found["modality"]) == {"image"}


def hiding(tables, hidden, **training):
    """A study with a second task, from which one modality is hidden."""
    content = make_study(tables, **training).to_dict()
    content["tasks"].append(content["tasks"][0] | {"name": "z"})
    content["modalities"][hidden]["exclude_for"] = ["y"]
    return type(make_study(tables)).from_dict(content)


@pytest.fixture(scope="module")
def hidden():
    tables, outcome, _ = gated(1000, 0)
    target = outcome.to_frame("y")
    cohort = Cohort.from_frames(tables, {"y": target, "z": target})
    study = hiding(tables, 3, update="product", **QUICK)
    return taught_on(cohort, study)


def test_what_is_hidden_from_a_task_changes_none_of_its_gains(hidden):
    tables, _, _ = gated(30, 5)
    with_it = Cohort.from_frames({name: tables[name] for name in ("triage", "noise")})
    gain = lambda cohort, task: (  # noqa: E731
        hidden.explain.next(cohort)
        .query("task == @task and modality != 'noise'")
        .sort_values("modality", kind="stable")["gain"]
    )
    without, changed = with_it.modalities["triage"], 30 * tables["noise"]
    for other in (Cohort.from_frames({"triage": without}), Cohort.from_frames({"triage": without, "noise": changed})):
        assert gain(other, "y").equals(gain(with_it, "y"))
        assert not gain(other, "z").equals(gain(with_it, "z"))


def test_where_something_is_hidden_the_state_is_still_read(hidden):
    cohort, by_scan = newcomers()
    first = hidden.explain.next(cohort).query("task == 'y' and rank == 1")["modality"]
    assert (first.loc[cohort.patients].to_numpy() == np.where(by_scan, "scan", "assay")).mean() > 0.8


def test_the_head_is_no_worse_than_a_constant_where_nothing_depends_on_the_patient():
    tables, outcome, _ = gated(600, 3)
    rng = np.random.default_rng(0)
    outcome = pd.Series((tables["scan"].iloc[:, 0] + rng.normal(size=600) > 0).astype(int), outcome.index)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    own = cohort.subset(cohort.patients[:300])
    model = taught_on(own, make_study(tables, members=3, epochs=10, experts=[]))
    patients = model.prepare(cohort.subset(cohort.patients[300:]), labelled=True)
    batch = patients.batch(torch.arange(300))
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        rows = [(torch.tensor([], dtype=torch.long), torch.arange(300))] * 3
        steps = [
            examples(model.trained.ensemble, k, patients, out, None, generator)[0] for k, (_, out) in enumerate(rows)
        ]
        spread, error = 0.0, 0.0
        for k, each in enumerate(steps):
            head = model.trained.acquisition.heads[0]
            gain = (head.member(k, each.features) * head.unit).gather(1, each.taken.view(-1, 1, 1)).squeeze(1)
            mean = torch.stack([each.drop[each.taken == m].mean(0) for m in range(4)])[each.taken]
            spread += (each.drop - mean).square().mean()  # of the best constants, known only afterwards
            error += (each.drop - gain).square().mean()
    assert len(batch.presence) == 300
    assert error < 1.02 * spread


def test_a_later_reading_is_proposed_and_learned_after_the_one_before():
    rng = np.random.default_rng(0)
    tables = {"a@1": table(rng.normal(size=(80, 2)), "a"), "b": table(rng.normal(size=(80, 2)), "b")}
    tables["a@2"] = table(rng.normal(size=(80, 2)), "a").iloc[:40]
    outcome = pd.Series(np.arange(80) % 2, tables["b"].index)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    content = make_study(["a", "b"], epochs=1, members=2).to_dict()
    content["modalities"][0]["repeats"] = {"by": "day", "most": 2}
    content["order"] = []
    model = taught_on(cohort, type(make_study(["a"])).from_dict(content))
    found = model.explain.next(Cohort.from_frames({"b": tables["b"].iloc[:3]})).query("task == 'y'")
    assert set(found["modality"]) == {"a@1"}
    patients = model.prepare(cohort, labelled=True)
    with torch.inference_mode():
        steps = examples(model.trained.ensemble, 0, patients, torch.arange(80), None, torch.Generator().manual_seed(0))[
            0
        ]
    names = model.trained.ensemble.first.modalities
    later = steps.taken == names.index("a@2")
    read = steps.features.rest[:, -3:] > 0
    assert later.any()
    assert read[later][:, names.index("a@1")].all()


def test_a_state_that_is_told_what_is_there_is_not_told_what_is_to_come():
    tables, outcome, _ = gated(200, 0)
    tables["scan"] = tables["scan"].iloc[:100]
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    study = make_study(tables, epochs=3, members=2).model_copy(update={"missingness": "informative"})
    fitted = taught_on(cohort, study)
    model, patients = fitted.trained.ensemble, fitted.prepare(cohort, labelled=True)
    with torch.inference_mode():
        steps = examples(model, 0, patients, torch.arange(200), None, torch.Generator().manual_seed(0))[0]
        first = steps.features.state[~(steps.features.rest[:, -4:] > 0).any(1)]
    assert len(first) > 100
    assert (first == first[0]).all()


def test_large_cohorts_follow_fewer_orders(monkeypatch):
    tables, outcome, _ = gated(100, 0)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    model = MultiModN(make_study(tables, epochs=1)).fit(cohort)
    patients = model.prepare(cohort, labelled=True)
    assert n_orders(patients, [torch.arange(100)]) == 8
    monkeypatch.setattr("multimodn.explain.acquisition.examples.MAX_EXAMPLES", 1000)
    assert n_orders(patients, [torch.arange(100)]) == 2
    assert n_orders(patients, [torch.arange(100)] * 9) == 1


def test_a_task_that_nobody_held_out_has_a_label_of_counts_for_nothing():
    tables, outcome, _ = gated(100, 0)
    study = hiding(tables, 3, epochs=1)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y"), "z": outcome.to_frame("y")})
    model = MultiModN(study).fit(cohort)
    cohort.targets["z"].loc[model.split.validation, "y"] = np.nan
    found = model.explain.fit_acquisition(cohort).next(newcomers(5)[0])
    assert np.isfinite(found["gain"]).all()
    assert found.query("task == 'z'")["gain"].max() < 1e-4


def test_a_run_without_held_out_patients_is_kept(tmp_path):
    study = write_files(tmp_path, split={"validation": 0.0, "test": 0.2})
    model = fit_run(study, tmp_path / "run")
    assert model.trained.acquisition is None
    assert "held out" in MultiModN.load(tmp_path / "run").provenance["acquisition"]


@pytest.mark.parametrize("cost", [float("nan"), float("inf")])
def test_a_cost_is_a_number(taught, cost):
    with pytest.raises(StudyError, match="The cost of 'scan' is"):
        taught[0].explain.next(newcomers(3)[0], costs={"scan": cost})


def test_a_table_that_does_not_exist_is_an_error(run):
    with pytest.raises(DataError, match=r"nowhere\.csv does not exist"):
        CliRunner().invoke(app, ["next", str(run / "run"), "nowhere.csv"], catch_exceptions=False)


def test_a_table_that_fits_no_source_is_an_error(run, tmp_path):
    (tmp_path / "other.csv").write_text("id,x\np00,1\n")
    with pytest.raises(StudyError, match=r"columns of no source of the study \(labs, image\)"):
        CliRunner().invoke(app, ["next", str(run / "run"), str(tmp_path / "other.csv")], catch_exceptions=False)
