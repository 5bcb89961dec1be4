"""Neutral training where one column, level or variable is empty for a reason, though the modality is there."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from multimodn import Cohort, MultiModN, Study
from multimodn.base.batches import PatientTensors
from multimodn.missingness.cells import cell_tilts, own_factor
from multimodn.tasks.binary import BinaryTask
from multimodn.training.cells import fit_cell_tilts

N, N_TEST = 1500, 2000


def draw(n: int, seed: int, lost_positive: float, lost_negative: float, kind: str):
    """One column is empty for shares of patients with and without the outcome; it says something of the outcome."""
    rng = np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(n)]
    z = rng.normal(size=(n, 3))
    y = rng.random(n) < 1 / (1 + np.exp(-(z[:, 0] + z[:, 1] - 0.5)))
    x = pd.DataFrame(z + 0.5 * rng.normal(size=z.shape), ids, ["a", "b", "c"])
    lost = rng.random(n) < np.where(y, lost_positive, lost_negative)
    if kind == "level":
        x["b"] = pd.cut(x["b"], [-np.inf, -0.7, 0.7, np.inf], labels=["low", "mid", "high"]).astype(object)
    x.loc[lost, "b"] = np.nan if kind != "level" else None
    if kind == "series":
        x = (
            x.rename_axis("id")
            .reset_index()
            .melt("id", var_name="variable")
            .dropna()
            .set_index("id")
            .assign(time=lambda rows: rng.random(len(rows)))
        )
    other = pd.DataFrame({"d": rng.normal(size=n)}, ids)
    several = ["labs"] if kind == "series" else []
    targets = {"y": pd.DataFrame({"y": y.astype(int)}, ids)}
    return Cohort.from_frames({"labs": x, "other": other}, targets, several_rows=several), y


def study(kind: str, **training) -> Study:
    labs = {"name": "labs", "kind": "series" if kind == "series" else "table", "source": "labs"}
    if kind == "series":
        labs |= {"n_layers": 1, "hidden_size": 8}
    return Study.from_dict(
        {
            "name": "cells",
            "cohort": {"patient": "id", "sources": {"labs": "l.csv", "other": "o.csv", "t": "t.csv"}},
            "modalities": [labs, {"name": "other", "kind": "table", "source": "other"}],
            "tasks": [{"name": "y", "kind": "binary", "source": "t", "target": "y"}],
            "training": {"epochs": 12, "batch_size": 128, "learning_rate": 0.01} | training,
        }
    )


def auroc(model: MultiModN, cohort: Cohort, y) -> float:
    return roc_auc_score(y, model.link(cohort)["y"][:, 0].numpy())


@pytest.mark.parametrize("kind", ["number", "level", "series"])
@pytest.mark.parametrize("experts", [[], ["ridge", "trees"]])
def test_a_column_that_is_empty_for_most_patients_with_the_outcome_does_not_mislead(kind, experts):
    training, _ = draw(N, 0, 0.8, 0.0, kind)
    model = MultiModN(study(kind, experts=experts)).fit(training)
    flipped, complete = (auroc(model, *draw(N_TEST, seed, 0.0, lost, kind)) for seed, lost in ((1, 0.8), (2, 0.0)))
    assert flipped > 0.7
    assert complete > 0.72


def test_without_the_correction_the_same_column_misleads():
    training, _ = draw(N, 0, 0.8, 0.0, "number")
    told = study("number", experts=[]).model_copy(update={"missingness": "off"})
    assert auroc(MultiModN(told).fit(training), *draw(N_TEST, 1, 0.0, 0.8, "number")) < 0.5


def patients_of(y: torch.Tensor, presence: torch.Tensor) -> PatientTensors:
    position = torch.where(presence, presence.long().cumsum(0) - 1, -1)
    values = {f"m{m}": torch.zeros(int(presence[:, m].sum()), 1) for m in range(presence.shape[1])}
    return PatientTensors(pd.Index(range(len(y))), values, position, strata=y[:, None].long())


TASK = BinaryTask("y", "y", ["no", "yes"], [0.0])
ONE = torch.ones(1, 1, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(3))
def test_cells_that_are_empty_at_random_have_next_to_no_tilt(seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(600, generator=generator) < 0.3
    empty = (torch.rand(600, 6, generator=generator) < 0.2).double()
    tilts = fit_cell_tilts(patients_of(y, torch.ones(600, 1, dtype=torch.bool)), {0: empty}, [TASK], ONE)
    assert tilts is None or tilts.abs().mean() < 0.1


def test_the_tilt_is_what_emptiness_says_of_the_outcome():
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(4000, generator=generator) < 0.3
    empty = (torch.rand(4000, generator=generator) < torch.where(y, 0.6, 0.1)).double()[:, None]
    tilts = fit_cell_tilts(patients_of(y, torch.ones(4000, 1, dtype=torch.bool)), {0: empty}, [TASK], ONE)
    log_odds = (tilts[:, 0, 0, 1] - tilts[:, 0, 0, 0]).double()
    assert float(log_odds[empty[:, 0] == 1].mean()) == pytest.approx(np.log(0.6 / 0.1), abs=0.15)
    assert float(log_odds[empty[:, 0] == 0].mean()) == pytest.approx(np.log(0.4 / 0.9), abs=0.15)


def test_the_same_cells_in_two_modalities_count_once():
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(4000, generator=generator) < 0.3
    empty = (torch.rand(4000, generator=generator) < torch.where(y, 0.6, 0.1)).double()[:, None]
    both = patients_of(y, torch.ones(4000, 2, dtype=torch.bool))
    tilts = fit_cell_tilts(both, {0: empty, 1: empty}, [TASK], torch.ones(1, 2, dtype=torch.bool))
    log_odds = (tilts[..., 1] - tilts[..., 0]).sum((1, 2))[empty[:, 0] == 1].mean()
    assert float(log_odds) < 1.5 * np.log(6)  # 2 log 6 if each counted as if alone


def test_tilts_of_what_was_read_add_up_and_hidden_modalities_count_for_nobody():
    cells = torch.arange(12.0).view(1, 2, 3, 2)
    taken = torch.tensor([[[True, False]], [[True, True]]])
    seen = torch.tensor([[True, True], [True, True], [False, True]])
    tilts = cell_tilts(cells, taken, seen)
    assert torch.equal(tilts[0, 0], torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]]))
    assert torch.equal(tilts[1, 0], torch.tensor([[6.0, 8.0], [10.0, 12.0], [10.0, 11.0]]))
    assert own_factor(torch.tensor([[0.0, -9.0]]), torch.tensor([1])) == 10.0
