"""The study of pathology metadata: nothing that tells a label reaches the task that predicts it."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, MultiModN, Study
from multimodn.evaluate.baselines.ridge import fit_late_ridge
from multimodn.training.fit import TrainerFlags

HERE = Path(__file__).parents[2] / "experiments" / "pathology_metadata"
N = 60
STAINS = ("he", "cd3", "cd8", "cd56", "cd68", "cd163", "pdl1", "mhc1")
SITES = {"hypopharynx": "c138", "larynx": "c320", "oral cavity": "c021", "oropharynx": "c099"}


def module(name):
    spec = importlib.util.spec_from_file_location(f"pathology_metadata_{name}", HERE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def tables():
    """Tables with HANCOCK's columns and made-up patients, whose ICD codes tell site and N class outright."""
    rng = np.random.default_rng(0)
    ids = pd.Index([f"{i:03d}" for i in range(N)])
    site = np.array(list(SITES))[np.arange(N) % 4]
    nodes = rng.integers(0, 2, N)
    form = pd.DataFrame({"site": site, "n_class": np.where(nodes, "N2", "N0")}, ids)
    form["hpv"] = rng.choice(["negative", "positive"], N)
    form["grade"] = rng.choice(["G1", "G2", "G3"], N)
    form["perineural"], form["lymphovascular"] = rng.choice(["no", "yes"], N), rng.choice(["no", "yes"], N)
    form["t_class"] = rng.choice(["T1", "T2", "T3", "T4"], N)
    form.loc[ids[:16], "n_class"] = ["N1", "N1", "N3", "N3"] * 4
    icd_site = pd.DataFrame({code: (site == name) * 1 for name, code in SITES.items()}, ids)
    icd_nodes = pd.DataFrame({"c770": nodes, "c778": 1 - nodes}, ids)

    def noise(*columns):
        return pd.DataFrame(rng.normal(size=(N, len(columns))), ids, list(columns))

    clinical = noise("age").assign(
        sex=rng.integers(0, 2, N), primarily_metastasis=rng.integers(0, 2, N), smoking_status=rng.integers(0, 3, N)
    )
    found = {stain: noise(*(f"e{i}" for i in range(12))) for stain in STAINS}
    found |= {"form": form, "icd_site": icd_site, "icd_nodes": icd_nodes, "clinical": clinical}
    return found | {"blood": noise("hb", "crp"), "tma_cell_density": noise("cd3_z", "cd8_z")}


@pytest.fixture(scope="module")
def study():
    whole = Study.load(HERE / "study.yaml")
    spec = whole.training.model_copy(update={"members": 1, "epochs": 4})
    return whole.model_copy(update={"training": spec})


def test_no_entry_of_the_form_is_an_input(study):
    assert all(modality.source != "form" for modality in study.modalities)
    assert {modality.name: modality.exclude_for for modality in study.modalities if modality.exclude_for} == {
        "icd_site": ["site"],
        "icd_nodes": ["n_class"],
    }


def test_codes_that_tell_a_label_change_nothing_of_its_predictions(study, tables):
    cohort = Cohort.load(study, sources=tables)
    model = MultiModN(study).fit(cohort, flags=TrainerFlags(progress=False))
    turned = {name: 1 - tables[name] for name in ("icd_site", "icd_nodes")}
    other = Cohort.load(study, sources=tables | turned)
    before, after = model.link(cohort), model.link(other)
    assert torch.equal(
        before["site"], model.link(Cohort.load(study, sources=tables | {"icd_site": turned["icd_site"]}))["site"]
    )
    one = Cohort.load(study, sources=tables | {"icd_nodes": turned["icd_nodes"]})
    assert torch.equal(before["n_class"], model.link(one)["n_class"])
    assert not torch.equal(before["grade"], after["grade"])


def test_a_baseline_that_saw_the_codes_would_be_right_and_does_not_see_them(study, tables):
    cohort = Cohort.load(study, sources=tables)
    half, rest = cohort.subset(cohort.patients[:30]), cohort.subset(cohort.patients[30:])
    icd = [modality for modality in study.modalities if modality.name.startswith("icd")]
    site = [task for task in study.tasks if task.name in ("site", "n_class")]
    small = study.model_copy(update={"modalities": icd, "tasks": site})
    hidden = fit_late_ridge(small, half, 0)
    assert set(hidden["single:icd_site"](rest)) == {"n_class"}
    assert set(hidden["single:icd_nodes"](rest)) == {"site"}
    shown = [modality.model_copy(update={"exclude_for": []}) for modality in icd]
    told = fit_late_ridge(small.model_copy(update={"modalities": shown}), half, 0)["single:icd_site"](rest)["site"]
    assert (np.array(sorted(SITES))[told.argmax(1)] == rest.targets["site"]["site"].to_numpy()).all()


def test_the_scores_are_those_of_the_package(study, tables):
    from multimodn.training.build import fit_tasks

    scoring = module("scoring")
    cohort = Cohort.load(study, sources=tables)
    rng = np.random.default_rng(0)
    for task in fit_tasks(study, cohort):
        target, known = task.prepare(cohort.targets[task.name])
        wanted = task.link_target(target[known])
        link = torch.from_numpy(rng.normal(size=wanted.shape))
        predicted = {("a", task.name, 0, 0): scoring.Predicted(np.flatnonzero(known), link.numpy(), wanted.numpy())}
        expected = task.link_metrics(link, wanted)["auroc"]
        assert scoring.tidy(predicted)["value"].item() == pytest.approx(expected)
        assert scoring.Bootstrap(predicted, N, 10).auroc("a", task.name)[0] == pytest.approx(expected)
