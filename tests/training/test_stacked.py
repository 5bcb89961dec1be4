"""Members side by side are the members that are trained one after another."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from multimodn import Cohort, MultiModN
from multimodn.encoders.table import TableEncoder
from multimodn.fusion import random_paths
from multimodn.training.build import build_model, prepare
from multimodn.training.cells import with_cell_tilts
from multimodn.training.fit import TrainerFlags
from multimodn.training.stacked import fit as stacked_fit
from multimodn.training.stacked.batches import StackedLoader, stack
from multimodn.training.stacked.network import StackedFusion
from multimodn.training.trainer import MemberFit
from tests._cohorts import make_cohort, make_frames, make_study
from tests.training.test_fit import assert_same_weights, make_split, weights

QUIET = TrainerFlags("cpu", progress=False)


def modalities(**options):
    """Without dropout, whose random numbers are drawn for all members at once."""
    sizes = {"hidden_size": 8, "embedding_size": 8, "dropout": 0.0}
    return [
        {"name": "labs", "kind": "table", "source": "labs", **sizes, **options},
        {"name": "image", "kind": "embedding", "source": "image", **sizes, "embedding_size": 5},
    ]


def study(members=2, training=None, **changes):
    training = {"epochs": 3, "members": members, "experts": [], "calibrate": False, **(training or {})}
    return make_study(**({"modalities": modalities()} | changes), training=training)


def fit(monkeypatch, spec, *, together, split=None, folder=None, cohort=None):
    """Fits, and makes sure that members were trained in the way that is asked for."""
    original = stacked_fit.fit_side_by_side

    def chosen(models, jobs, bar):
        done = together and original(models, jobs, bar)
        assert done == together
        return done

    with monkeypatch.context() as patch:
        patch.setattr(stacked_fit, "fit_side_by_side", chosen)
        cohort = cohort or make_cohort()
        return MultiModN(spec).fit(cohort, split=split or make_split(), folder=folder, flags=QUIET)


def assert_alike(one, other):
    expected = weights(other)
    for name, tensor in weights(one).items():
        np.testing.assert_allclose(tensor, expected[name], atol=2e-5, rtol=2e-4, err_msg=name)
    for own, alone in zip(one.provenance["members"], other.provenance["members"], strict=True):
        assert own["epochs"] == alone["epochs"]
        assert own["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-5)


@pytest.mark.parametrize("update", ["residual", "product", "gated", "linear"])
def test_side_by_side_is_one_after_another(monkeypatch, update):
    spec = study(training={"update": update})
    one, other = (fit(monkeypatch, spec, together=together) for together in (True, False))
    assert_alike(one, other)


@pytest.mark.parametrize("mode", ["off", "informative"])
def test_in_every_mode_of_missingness(monkeypatch, mode):
    spec = study(missingness=mode)
    assert_alike(*(fit(monkeypatch, spec, together=together) for together in (True, False)))


def test_with_cells_that_are_empty_for_a_reason(monkeypatch):
    tables, targets = make_frames()
    tables["labs"].loc[tables["labs"]["crp"] > 0.2, "hb"] = np.nan
    cohort = Cohort.from_frames(tables, targets)
    spec = study()
    model = build_model(spec, cohort, 0)
    tasks = list(model.tasks.values())
    patients = with_cell_tilts(prepare(model, cohort, labelled=True), cohort, spec, tasks, model.seen)
    assert patients.cells.abs().max() > 0
    assert_alike(*(fit(monkeypatch, spec, together=together, cohort=cohort) for together in (True, False)))


def test_with_a_modality_that_a_task_must_not_see(monkeypatch):
    spec = study(modalities=modalities(exclude_for=["death"]))
    assert_alike(*(fit(monkeypatch, spec, together=together) for together in (True, False)))


def test_where_members_have_different_numbers_of_batches(monkeypatch):
    # 30 patients in 4 folds: 22 or 23 to train on, in 2 or 3 batches
    spec = study(members=4, training={"batch_size": 11})
    assert_alike(*(fit(monkeypatch, spec, together=together) for together in (True, False)))


def test_readings_that_share_an_encoder_have_the_same_outputs(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"p{i:02d}" for i in range(40)]
    rows = [(patient, day, rng.normal()) for i, patient in enumerate(ids) for day in range(1 + i % 3)]
    pd.DataFrame(rows, columns=["id", "day", "crp"]).to_csv(tmp_path / "visits.csv", index=False)
    pd.DataFrame({"id": ids, "status": rng.integers(0, 2, 40)}).to_csv(tmp_path / "outcome.csv", index=False)
    spec = make_study(
        tmp_path,
        modalities=[{"name": "labs", "kind": "table", "source": "visits", "repeats": {"by": "day", "most": 3}}],
        tasks=[{"name": "death", "kind": "binary", "source": "outcome", "target": "status"}],
        cohort={"patient": "id", "sources": {"visits": "visits.csv", "outcome": "outcome.csv"}},
    )
    cohort = Cohort.load(spec)
    models = [build_model(spec, cohort, seed).eval() for seed in range(2)]
    patients = prepare(models[0], cohort, labelled=True)
    members = [torch.arange(0, 25), torch.arange(20, 40)]
    paths = [random_paths(patients.presence[own]) for own in members]
    found = StackedFusion(models, patients).eval()(stack(models[0], patients, members, paths, [None, None]))["death"]
    for model, own, path, outputs in zip(models, members, paths, found.split(25, dim=1), strict=True):
        expected = model.read(model.encode(patients.batch(own)), path)["death"]
        torch.testing.assert_close(outputs[:, : len(own)], expected)


def test_each_member_stops_for_itself_and_keeps_its_best_weights(monkeypatch):
    spec = study(members=3, training={"epochs": 25, "patience": 2, "learning_rate": 0.1, "batch_size": 32})
    one, other = (fit(monkeypatch, spec, together=together) for together in (True, False))
    assert len({member["epochs"] for member in one.provenance["members"]}) > 1
    assert_alike(one, other)


def test_equal_seeds_give_equal_members_with_dropout(tmp_path):
    spec = make_study(training={"epochs": 2, "members": 2, "experts": []})
    assert_same_weights(*(MultiModN(spec).fit(make_cohort(), split=make_split(), flags=QUIET) for _ in range(2)))


def test_a_member_that_diverges_leaves_the_others_alone():
    spec, cohort = study(members=2), make_cohort()
    models = [build_model(spec, cohort, seed) for seed in range(2)]
    patients = prepare(models[0], cohort, labelled=True)
    network = StackedFusion(models, patients)
    loaders = [job_of(spec, patients, torch.arange(40), torch.arange(0)).training_batches() for _ in models]
    batches = StackedLoader(models[0], loaders, [None, None])
    batches.start_epoch(0, [0, 1])
    with torch.no_grad():
        network.penalised[0].fill_(torch.nan)
    network.losses(next(iter(batches))).sum().backward()
    assert network.penalised[0].grad.isnan().any()
    assert network.penalised[1].grad.isfinite().all()
    assert network.penalised[1].grad.abs().sum() > 0


def job_of(spec, patients, train, validation, **changes):
    return MemberFit(patients, train, validation, spec.training, 0, changes.pop("folder", None), flags=QUIET, **changes)


class BatchNormalised(nn.Module):
    """A linear map behind the mean of the batch, which would be that of all members."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    @property
    def straight(self):
        return self.layers.straight

    def forward(self, x):
        return self.layers(x - x.mean(0))


class Transposed(BatchNormalised):
    """A linear map of cells whose rows are those of no member."""

    def __init__(self, layers):
        super().__init__(layers)
        self.over = nn.Linear(1, 1)

    def forward(self, x):
        return self.layers(self.over(x.T.unsqueeze(-1)).squeeze(-1).T)


class WeightReader(BatchNormalised):
    """Multiplies with the weights itself."""

    def forward(self, x):
        return x @ self.straight.weight.T + self.straight.bias


@pytest.mark.parametrize("wrapper", [BatchNormalised, Transposed, WeightReader])
def test_an_encoder_that_mixes_rows_is_trained_one_after_another(monkeypatch, caplog, wrapper):
    original = TableEncoder.__init__

    def changed(self, *args):
        original(self, *args)
        self.layers = wrapper(self.layers)

    monkeypatch.setattr(TableEncoder, "__init__", changed)
    with caplog.at_level(logging.INFO):
        MultiModN(study(members=2, training={"epochs": 1})).fit(make_cohort(), split=make_split(), flags=QUIET)
    assert "one after another: side by side" in caplog.text


def test_weights_outside_linear_maps_are_trained_one_after_another(monkeypatch, caplog):
    original = TableEncoder.__init__

    def changed(self, *args):
        original(self, *args)
        self.scale = nn.Parameter(torch.ones(1))

    monkeypatch.setattr(TableEncoder, "__init__", changed)
    with caplog.at_level(logging.INFO):
        MultiModN(study(members=2, training={"epochs": 1})).fit(make_cohort(), split=make_split(), flags=QUIET)
    assert "parameters outside linear maps" in caplog.text


@pytest.mark.parametrize("training", [{"balance": "uncertainty"}, {"update": "attention"}])
def test_what_is_not_the_common_case_is_trained_one_after_another(tmp_path, training):
    spec = study(members=2, training={"epochs": 1, **training})
    MultiModN(spec).fit(make_cohort(), split=make_split(), folder=tmp_path, flags=QUIET)
    assert (tmp_path / "member1" / "last.ckpt").exists()
    assert not (tmp_path / stacked_fit.FOLDER).exists()


def test_members_that_were_begun_one_after_another_go_on_so(monkeypatch, tmp_path):
    spec = study(members=2)
    first = fit(monkeypatch, spec, together=False, folder=tmp_path)
    (tmp_path / "member1" / "finished.json").unlink()
    again = MultiModN(spec).fit(make_cohort(), split=make_split(), folder=tmp_path, flags=QUIET)
    assert_same_weights(again, first)


def test_an_ensemble_killed_after_its_last_epoch_is_only_written(tmp_path):
    spec = study(members=3, training={"epochs": 20, "patience": 1, "learning_rate": 0.2})
    first = MultiModN(spec).fit(make_cohort(), split=make_split(), folder=tmp_path, flags=QUIET)
    for member in ("member1", "member2"):
        (tmp_path / member / "finished.json").unlink()
    again = MultiModN(spec).fit(make_cohort(), split=make_split(), folder=tmp_path, flags=QUIET)
    assert_same_weights(again, first)
    assert again.provenance["members"] == first.provenance["members"]


def test_the_weights_of_a_member_pack_and_unpack():
    spec, cohort = study(members=2), make_cohort()
    models = [build_model(spec, cohort, seed) for seed in range(2)]
    network = StackedFusion(models, prepare(models[0], cohort, labelled=True))
    expected = {name: value.clone() for name, value in models[1].state_dict().items()}
    network.unpack((network.penalised[1], network.free[1]), models[0])
    assert all(torch.equal(value, expected[name]) for name, value in models[0].state_dict().items())
