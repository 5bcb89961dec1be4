"""The penalty is a prior on weights, which neither the number of patients nor that of tasks changes."""

import pytest
import torch

from multimodn.base.batches import BatchLoader
from multimodn.training.build import build_model, prepare
from multimodn.training.module import FusionModule
from tests._cohorts import make_cohort, make_study, study_dict


def strength(n_tasks, copies):
    """What the optimiser is given, times the patients and tasks of which its loss is the mean."""
    tasks = study_dict()["tasks"][:1]
    study = make_study(tasks=[{**tasks[0], "name": f"death{k}"} for k in range(n_tasks)], training={"penalty": 2.0})
    cohort = make_cohort()
    cohort.targets.update({f"death{k}": cohort.targets["death"] for k in range(n_tasks)})
    model = build_model(study, cohort, seed=0).eval()
    patients = prepare(model, cohort, labelled=True)
    rows = torch.arange(len(patients)).repeat(copies)
    module = FusionModule(model, study.training, BatchLoader(patients, rows, len(rows)), 0)
    decay = module.configure_optimizers()["optimizer"].param_groups[0]["weight_decay"]
    return decay * len(rows) * n_tasks


@pytest.mark.parametrize(("n_tasks", "copies"), [(1, 1), (1, 5), (3, 1), (3, 2)])
def test_its_strength_is_that_of_the_study(n_tasks, copies):
    assert strength(n_tasks, copies) == pytest.approx(2.0)
