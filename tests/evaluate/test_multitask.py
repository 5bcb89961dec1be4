import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from multimodn import Cohort, DataWarning
from multimodn.data.registries import join_registries
from multimodn.data.splits import Split
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.baselines.single_task import COLUMNS, Compared, paired_gain, single_task, task_gains, trained
from tests._cohorts import make_cohort, make_frames, make_study
from tests._inputs import make_task


def make_split(cohort, n_train=24, n_validation=6):
    ids = cohort.patients.to_numpy()
    return Split(ids[:n_train], ids[n_train : n_train + n_validation], ids[n_train + n_validation :])


def binary_cells(n=60, noise=(0.5, 2.0), n_cells=2):
    """Two folds of one cohort; the first model's predictions are better."""
    rng = np.random.default_rng(0)
    truth = (rng.random(n) < 0.5).astype(float)
    task = make_task("binary", "y", pd.DataFrame({"y": truth.astype(int)}), target="y")
    links = [truth + rng.normal(size=n) * sd for sd in noise]
    cells = []
    for rows in np.array_split(np.arange(n), n_cells):
        pair = tuple(torch.from_numpy(link[rows]).unsqueeze(1) for link in links)
        cells.append(Compared(task, rows, torch.from_numpy(truth[rows]).float(), pair))
    return cells


def area(truth, score):
    """The share of pairs in the right order, ties a half."""
    apart = score[truth > 0][:, None] - score[truth == 0]
    return (apart > 0).mean() + 0.5 * (apart == 0).mean()


def test_a_gain_is_the_difference_of_the_means_over_folds():
    cells = binary_cells()
    expected = [np.mean([roc_auc_score(cell.target, cell.links[k].flatten()) for cell in cells]) for k in range(2)]
    found = paired_gain(cells, 60)
    assert found["joint"] == pytest.approx(expected[0])
    assert found["single"] == pytest.approx(expected[1])
    assert found["gain"] == pytest.approx(expected[0] - expected[1])
    assert found["n"] == 60


def test_the_interval_is_that_of_a_paired_bootstrap_over_patients():
    cells = binary_cells(noise=(0.8, 1.5))
    found = paired_gain(cells, 60, 4000)
    rng, gains = np.random.default_rng(1), []
    for _ in range(500):
        drawn = rng.integers(0, 60, 60)
        parts = []
        for cell in cells:  # a fold is a stretch of the patients
            at = drawn[(drawn >= cell.rows[0]) & (drawn <= cell.rows[-1])] - cell.rows[0]
            parts.append([area(cell.target[at].numpy(), link[at].flatten().numpy()) for link in cell.links])
        one, other = np.mean(parts, axis=0)
        gains.append(one - other)
    low, high = np.quantile(gains, [0.025, 0.975])
    assert found["low"] == pytest.approx(low, abs=0.03)
    assert found["high"] == pytest.approx(high, abs=0.03)


def test_a_model_gains_nothing_over_itself():
    cells = [Compared(c.task, c.rows, c.target, (c.links[0], c.links[0])) for c in binary_cells()]
    found = paired_gain(cells, 60)
    assert (found["gain"], found["low"], found["high"]) == (0, 0, 0)


def test_too_few_patients_have_no_interval():
    found = paired_gain(binary_cells(16), 16)
    assert np.isnan(found["low"])
    assert not np.isnan(found["gain"])


def test_metrics_that_are_no_area_are_resampled_too():
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.normal(size=50)).float()
    task = make_task("regression", "r", pd.DataFrame({"r": target.numpy()}), target="r")
    links = tuple((target + sd * torch.from_numpy(rng.normal(size=50))).double().unsqueeze(1) for sd in (0.2, 0.9))
    found = paired_gain([Compared(task, np.arange(50), target, links)], 50, 400)
    assert found["low"] > 0
    expected = [
        1 - float(((link.flatten() - target) ** 2).sum() / ((target - target.mean()) ** 2).sum()) for link in links
    ]
    assert found["gain"] == pytest.approx(expected[0] - expected[1], rel=1e-5)


@pytest.fixture(scope="module")
def gains():
    study = make_study(training={"epochs": 1})
    cohort = make_cohort(n=60)
    seen = []
    found = task_gains(
        study, cohort, make_split(cohort, 30, 10), tasks=["death", "size"], n_resamples=50,
        on_cell=lambda task, k: seen.append((task, k)),
    )  # fmt: skip
    return found, seen


def test_each_task_has_a_row(gains):
    found, seen = gains
    assert list(found.columns) == COLUMNS
    assert found["task"].tolist() == ["death", "size"]
    assert found["metric"].tolist() == ["auroc", "r2"]
    np.testing.assert_allclose(found["gain"], found["joint"] - found["single"])
    assert found["n"].tolist() == [15, 20]
    assert seen == [("death", 0), ("size", 0)]


def test_a_study_of_one_task_gains_nothing():
    study = make_study(training={"epochs": 1})
    study = study.model_copy(update={"tasks": study.tasks[1:2]})
    cohort = make_cohort()
    found = task_gains(study, cohort, make_split(cohort), n_resamples=20)
    assert found["gain"].tolist() == [0.0]


def test_labels_of_test_patients_reach_no_model():
    study, cohort = make_study(training={"epochs": 1}), make_cohort()
    split = make_split(cohort)
    targets = {name: table.copy() for name, table in cohort.targets.items()}
    targets["size"].loc[list(split.test)] = -1e6
    other = Cohort(cohort.patients, cohort.modalities, targets)
    one, same = (trained(study, each, split).link(cohort)["size"] for each in (cohort, other))
    assert torch.equal(one, same)


def test_of_registries_a_single_task_keeps_those_that_record_it_and_takes_as_many_steps():
    parts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for name, n, task in (("large", 40, "death"), ("small", 20, "size")):
            tables, targets = make_frames(n, seed=n)
            parts[name] = Cohort.from_frames(tables, {task: targets[task]})
    cohort = join_registries(parts)
    ids = cohort.patients.to_numpy()
    study = make_study(training={"epochs": 10, "patience": 4})
    alone, _, split = single_task(study, cohort, Split(ids[::2], ids[1::4], ids[3::4]), "size")
    assert [task.name for task in alone.tasks] == ["size"]
    assert all(patient.startswith("small/") for patient in [*split.train, *split.validation])
    assert len(split.train) == 10
    assert alone.training.epochs == 30
    assert alone.training.patience == 12
    assert alone.training.penalty == study.training.penalty


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tasks": ["deth"]}, StudyError, "Unknown task 'deth'.*Did you mean 'death'"),
        ({"n_folds": 3}, StudyError, "either a split"),
        ({}, DataError, "no test patients"),
    ],
)
def test_what_cannot_be_compared(options, error, message):
    cohort = make_cohort()
    with pytest.raises(error, match=message):
        task_gains(make_study(), cohort, make_split(cohort, 30, 10), **options)
