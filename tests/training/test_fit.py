import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, MultiModN, Study
from multimodn.data.splits import Split
from multimodn.errors import DataError, DataWarning
from multimodn.runs import fit_run
from multimodn.training import fit
from multimodn.training.module import FusionModule
from multimodn.training.stacked.module import StackedModule
from tests._cohorts import make_cohort, make_frames, make_study, write_files


def make_split(n_validation: int = 8) -> Split:
    ids = make_cohort().patients.to_numpy()
    return Split(ids[: 30 - n_validation], ids[30 - n_validation : 30], ids[30:])


def interrupt(monkeypatch, epoch: int, where: str = "on_train_epoch_start") -> None:
    """Raises KeyboardInterrupt in ``epoch`` (from 0), as Ctrl-C would."""

    def stopping(original):
        def stopped(self, *args):
            if self.current_epoch == epoch:
                raise KeyboardInterrupt
            return original(self, *args)

        return stopped

    for module in (FusionModule, StackedModule):
        monkeypatch.setattr(module, where, stopping(getattr(module, where)))


def weights(model: MultiModN) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.trained.ensemble.state_dict().items()}


def assert_same_weights(one: MultiModN, other: MultiModN) -> None:
    expected = weights(other)
    for name, tensor in weights(one).items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


@cache
def uninterrupted(members: int) -> MultiModN:
    return MultiModN(make_study(training={"epochs": 4, "members": members})).fit(make_cohort(), split=make_split())


@pytest.mark.parametrize("where", ["on_train_epoch_start", "training_step", "on_validation_epoch_start"])
@pytest.mark.parametrize("members", [1, 2])
def test_an_interrupted_fit_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, where, members):
    whole, cohort, split = uninterrupted(members), make_cohort(), make_split()
    study = whole.study
    with monkeypatch.context() as patch:
        interrupt(patch, 2, where)
        with pytest.raises(KeyboardInterrupt):
            MultiModN(study).fit(cohort, split=split, folder=tmp_path)
    folder = tmp_path / ("member0" if members == 1 else "ensemble")
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 1  # epochs 0 and 1 were finished
    assert not (tmp_path / "member0" / "finished.json").exists()
    torch.manual_seed(99)
    resumed = MultiModN(study).fit(cohort, split=split, folder=tmp_path)
    assert_same_weights(resumed, whole)
    assert resumed.provenance["members"][0]["epochs"] == 4


def test_a_finished_member_is_not_trained_again(tmp_path, monkeypatch):
    study = make_study(training={"epochs": 2})
    first = MultiModN(study).fit(make_cohort(), split=make_split(), folder=tmp_path)
    interrupt(monkeypatch, 0)
    assert_same_weights(MultiModN(study).fit(make_cohort(), split=make_split(), folder=tmp_path), first)


def test_an_interrupted_run_has_no_bundle_and_resumes(tmp_path, monkeypatch):
    study = write_files(tmp_path / "data", training={"epochs": 4})
    whole = fit_run(study, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            fit_run(study, tmp_path / "run")
    assert not (tmp_path / "run" / "bundle").exists()
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
    resumed = fit_run(study, tmp_path / "run", resume=True)
    assert_same_weights(resumed, whole)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
    files = [file.name for file in (tmp_path / "run").rglob("*")]
    assert not [name for name in files if "partial" in name or ".old" in name]
    assert_same_weights(MultiModN.load(tmp_path / "run" / "bundle"), whole)


def test_nobody_to_validate_on():
    study = make_study(training={"epochs": 3}, split={"validation": 0, "test": 0.2})
    model = MultiModN(study).fit(make_cohort(), split=make_split(0))
    assert model.provenance["members"] == [
        {"checkpoint": model.provenance["members"][0]["checkpoint"], "validation_loss": None, "epochs": 3}
    ]
    assert model.predict(make_cohort())["value"].notna().all()


def test_a_given_split_without_validation_is_stopped_by_a_part_of_the_training_patients():
    study = make_study(training={"epochs": 60, "patience": 2, "learning_rate": 0.3})
    with pytest.warns(DataWarning, match="6 of its 30 training patients"):
        model = MultiModN(study).fit(make_cohort(), split=make_split(0))
    assert model.provenance["members"][0]["validation_loss"] is not None
    assert model.provenance["members"][0]["epochs"] < 60
    assert model.provenance["validation"] == "drawn from the training patients of the given split"
    assert model.provenance["n_patients"] == {"train": 24, "validation": 6, "test": 10}
    assert set(model.split.train) | set(model.split.validation) == set(make_split(0).train)


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path):
    study = make_study(training={"epochs": 60, "patience": 2, "learning_rate": 0.3})
    model = MultiModN(study).fit(make_cohort(), split=make_split(), folder=tmp_path)
    log = model.provenance["members"][0]
    assert log["epochs"] < 60
    losses = pd.read_csv(tmp_path / "member0" / "log" / "version_0" / "metrics.csv")["validation_loss"].dropna()
    assert log["validation_loss"] == pytest.approx(losses.min(), rel=1e-5)
    assert len(losses) == int(losses.to_numpy().argmin()) + 1 + 2


def changed_tests(split: Split) -> Cohort:
    tables, targets = make_frames()
    tables["labs"].loc[split.test] = 1e6 * (1 + tables["labs"].loc[split.test].abs())
    targets["size"].loc[split.test] = -1e6
    targets["survival"].loc[split.test, "months"] = 1e6
    targets["death"].loc[split.test, "status"] = "alive"
    return Cohort.from_frames(tables, targets)


@pytest.mark.parametrize("members", [1, 2])
def test_nothing_of_the_test_patients_reaches_the_model(members):
    study, split = make_study(training={"members": members}), make_split()
    model = MultiModN(study).fit(make_cohort(), split=split)
    other = MultiModN(study).fit(changed_tests(split), split=split)
    assert_same_weights(other, model)
    for name, encoder in model.trained.ensemble.first.encoders.items():
        assert other.trained.ensemble.first.encoders[name].config() == encoder.config()
    for name, task in model.trained.ensemble.tasks.items():
        assert other.trained.ensemble.tasks[name].config() == task.config()


def test_a_single_member_is_fitted_on_training_patients_only():
    split = make_split()
    swapped = Split(split.train, split.test, split.validation)
    one, other = (MultiModN(make_study()).fit(make_cohort(), split=part) for part in (split, swapped))
    for name, encoder in one.trained.ensemble.first.encoders.items():
        assert other.trained.ensemble.first.encoders[name].config() == encoder.config()
    start, again = (model.trajectory(make_cohort()).query("step == 0").iloc[0] for model in (one, other))
    assert start["task"] == again["task"]


def test_every_problem_of_the_training_data_is_listed():
    tables, targets = make_frames()
    tables["labs"] = tables["labs"].astype({"crp": object})
    tables["labs"].loc["p03", "crp"] = "high"
    tables["image"].loc["p04", "f1"] = np.nan
    cohort = Cohort.from_frames(tables, targets)
    with pytest.raises(DataError, match=r"(?s)modality 'labs'.*'high'.*p03.*modality 'image'.*p04"):
        MultiModN(make_study()).fit(cohort, split=make_split())


def test_caller_randomness_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    MultiModN(make_study(training={"epochs": 1})).fit(make_cohort(), split=make_split())
    assert torch.equal(torch.rand(3), expected)


def test_study_and_cohort_may_come_from_files(tmp_path):
    write_files(tmp_path)
    model = MultiModN(tmp_path / "study.yaml").fit()
    from_frames = MultiModN(Study.load(tmp_path / "study.yaml")).fit(Cohort.load(model.study), split=model.split)
    assert_same_weights(model, from_frames)


@pytest.mark.parametrize(("largest", "threads"), [(fit.SMALL_STEP, 1), (1, 2)])
def test_a_small_network_trains_on_one_thread(monkeypatch, largest, threads):
    monkeypatch.setattr(fit, "SMALL_STEP", largest)
    original, seen = FusionModule.training_step, []

    def watched(self, *args):
        seen.append(torch.get_num_threads())
        return original(self, *args)

    monkeypatch.setattr(FusionModule, "training_step", watched)
    torch.set_num_threads(2)
    MultiModN(make_study(training={"epochs": 1})).fit(make_cohort(), split=make_split())
    assert set(seen) == {threads}
    assert torch.get_num_threads() == 2  # as before


def test_an_interrupted_fit_restores_the_threads(monkeypatch):
    interrupt(monkeypatch, 0)
    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        MultiModN(make_study(training={"epochs": 1})).fit(make_cohort(), split=make_split())
    assert torch.get_num_threads() == 2
