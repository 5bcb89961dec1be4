"""Calibration of an ensemble: the mean of networks is steeper than each, and ranks stay as they are."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from multimodn import Cohort, MultiModN, Study
from multimodn.data.splits import Split
from multimodn.fusion.calibration import Calibration
from multimodn.tasks.binary import BinaryTask
from multimodn.training.build import prepare
from multimodn.training.calibrate import _spread_ratios
from multimodn.training.fit import TrainerFlags, member_rows
from multimodn.training.fit_calibration import LEAST_SCALE, fit_scale

N_TRAIN = 400


def study(members, missingness="off"):
    return Study(
        name="noisy",
        cohort={"patient": "id", "sources": {"a": "a.csv", "b": "b.csv", "y": "y.csv"}},
        modalities=[
            {"name": name, "kind": "table", "source": name, "n_layers": 0, "numeric": "scaled", "embedding_size": 8}
            for name in "ab"
        ],
        tasks=[{"name": "death", "kind": "binary", "source": "y", "target": "y", "positive": 1}],
        missingness=missingness,
        training={
            "epochs": 15,
            "experts": [],
            "members": members,
            "penalty": 5.0,
            "batch_size": 64,
            "learning_rate": 0.01,
        },
    )


def cohort():
    rng = np.random.default_rng(0)
    n = N_TRAIN + 6000
    ids = [f"p{i}" for i in range(n)]
    x = rng.normal(size=(n, 60))
    y = rng.random(n) < 1 / (1 + np.exp(-(x[:, :3].sum(1) + x[:, 30:33].sum(1)) * 0.6))
    tables = {"a": pd.DataFrame(x[:, :30], ids), "b": pd.DataFrame(x[:, 30:], ids).iloc[: n - 1000]}
    tables = {name: table.add_prefix("c") for name, table in tables.items()}
    return Cohort.from_frames(tables, {"death": pd.DataFrame({"y": y * 1}, ids)})


@pytest.fixture(scope="module")
def fitted():
    everyone = cohort()
    training = everyone.subset(everyone.patients[:N_TRAIN])
    nobody = np.array([], dtype=object)
    split = Split(training.patients.to_numpy(dtype=object), nobody, nobody)
    model = MultiModN(study(5)).fit(training, split=split, flags=TrainerFlags(progress=False))
    return model, training, split, everyone.subset(everyone.patients[N_TRAIN:])


def links(model, patients, calibration=None):
    kept = model.trained.ensemble.calibration
    model.trained.ensemble.calibration = calibration or kept
    found = model.link(patients)["death"][:, 0].double().numpy()
    model.trained.ensemble.calibration = kept
    return found


def slope(link, truth):
    return LogisticRegression(C=np.inf).fit(link[:, None], truth).coef_[0, 0]


def test_the_slope_of_an_ensemble_is_one_on_new_patients(fitted):
    model, _, _, new = fitted
    patients = model.prepare(new, labelled=True)
    truth = patients.targets["death"].numpy()
    bare = Calibration(list(model.trained.ensemble.tasks.values()), model.trained.ensemble.first.seen)
    assert slope(links(model, patients, bare), truth) > 1.25
    assert slope(links(model, patients), truth) == pytest.approx(1, abs=0.2)


def test_where_presence_may_tell_who_ranks_above_whom_stays(fitted):
    model, _, _, new = fitted
    patients = model.prepare(new)
    bare = Calibration(list(model.trained.ensemble.tasks.values()), model.trained.ensemble.first.seen)
    before, after = links(model, patients, bare), links(model, patients)
    assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()


def test_what_members_disagree_in_scales_the_mean_as_much_as_on_new_patients(fitted):
    model, training, split, new = fitted
    rows = member_rows(model.study, training, split)
    told = _spread_ratios(model.trained.ensemble, prepare(model.trained.ensemble.first, training, labelled=True), rows)
    everyone = torch.arange(len(new))
    true = _spread_ratios(model.trained.ensemble, model.prepare(new), [(everyone, everyone)])
    assert told["death"] > 1.05
    assert told["death"] == pytest.approx(true["death"], rel=0.05)


def test_a_single_member_is_its_own_mean(fitted):
    _, training, _, _ = fitted
    ids = training.patients.to_numpy(dtype=object)
    split = Split(ids[:300], ids[300:], np.array([], dtype=object))
    model = MultiModN(study(1)).fit(training, split=split, flags=TrainerFlags(progress=False))
    rows = member_rows(model.study, training, split)
    assert _spread_ratios(model.trained.ensemble, model.prepare(training), rows) == {"death": 1.0}
    assert model.provenance["calibration"] == {"death": "one scale"}


def task():
    return BinaryTask("death", "status", ["alive", "dead"], [0.0])


@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.0])
def test_a_scale_takes_back_what_evidence_was_stretched_by(stretch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8000, 1, generator=generator, dtype=torch.float64)
    target = (torch.rand(8000, generator=generator) < logits[:, 0].sigmoid()).float()
    scale, _ = fit_scale(task(), torch.zeros(1), stretch * logits, target, target.long())
    assert scale == pytest.approx(1 / stretch, rel=0.07)


def test_rows_that_are_ranked_the_wrong_way_round_do_not_reverse_a_model():
    target = torch.tensor([0.0, 1.0]).repeat(50)
    scale, _ = fit_scale(task(), torch.zeros(1), (1 - 2 * target).unsqueeze(1).double(), target, target.long())
    assert scale == LEAST_SCALE


def test_few_held_out_rows_fit_nothing():
    target = torch.tensor([0.0, 1.0]).repeat(5)
    scale, said = fit_scale(task(), torch.zeros(1), torch.randn(10, 1).double(), target, target.long())
    assert scale == 1
    assert said.startswith("identity: 10 held-out rows")


def test_weights_of_before_scales_still_load():
    old = {name: value for name, value in Calibration([task()], 2).state_dict().items() if name != "scale"}
    calibration = Calibration([task()], 2)
    calibration.load_state_dict(old)
    assert calibration.is_identity
