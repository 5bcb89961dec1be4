import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, DataWarning, MultiModN, Study

FOLDER = Path(__file__).parents[2] / "experiments" / "acc"
DERIVED_OR_OUTCOME = {
    "C1A.C1B", "mRNA_K4", "MethyLevel", "miRNA.cluster", "SCNA.cluster", "protein.cluster", "COC", "OncoSign",
    "ADS", "purity", "ploidy", "genome_doublings", "vital_status", "days_to_death", "days_to_last_followup",
    "radiation_therapy", "residual_tumor", "pathologic_stage", "pathology_T_stage", "pathology_N_stage",
    "number_of_lymph_nodes", "sampleID",
}  # fmt: skip


@pytest.fixture(scope="module")
def study():
    return Study.load(FOLDER / "study.yaml")


@pytest.fixture(scope="module")
def cohort(study):
    with pytest.warns(DataWarning, match="24 column"):
        return Cohort.load(study)


def test_everyone_is_there_with_the_assays_they_have(cohort):
    assert len(cohort) == 92
    presence = cohort.presence.drop(columns="demographics")
    assert int(presence.all(axis=1).sum()) == 43
    assert presence.sum().to_dict() == {"mutations": 90, "copy_number": 90, "mirna": 80, "rna": 79, "protein": 46}


def test_no_input_follows_from_the_outcome_or_from_another_assay(cohort):
    for frame in cohort.modalities.values():
        assert frame.index.is_unique
        assert not set(frame.columns) & DERIVED_OR_OUTCOME


def test_labels_say_what_the_pathology_table_says(cohort):
    clinical = pd.read_csv(FOLDER / "data" / "clinical.csv", index_col="patientID").loc[cohort.patients]
    residual = cohort.targets["residual"]["residual_tumor"]
    assert residual.isna().equals(clinical["residual_tumor"].isna() | (clinical["residual_tumor"] == "rx"))
    assert set(residual.dropna()) == {"r0", "r1", "r2"}
    death = cohort.targets["death"].astype(float)
    died = clinical["vital_status"] == 1
    assert death["days"][died].equals(clinical["days_to_death"][died].rename("days"))
    assert death["days"][~died].equals(clinical["days_to_last_followup"][~died].rename("days"))
    assert int(death["vital_status"].sum()) == 34


def test_mirna_is_reads_per_million(cohort):
    np.testing.assert_allclose(cohort.modalities["mirna"].sum(axis=1), 1e6, rtol=1e-4)


def test_the_study_trains_and_predicts_from_one_assay(study, cohort):
    training = study.training.model_copy(update={"epochs": 2, "members": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # genes without a mutation
        model = MultiModN(study.model_copy(update={"training": training})).fit(cohort)
    test = cohort.subset(model.split.test)
    scores = model.evaluate(test)
    assert set(scores["task"]) == {"stage", "T", "N", "residual", "death"}
    patient = test.patients[test.presence.all(axis=1)][:1]
    shares = model.contributions(Cohort.from_frames({"rna": test.modalities["rna"].loc[patient]}))
    assert set(shares["modality"]) == {"rna"}
    np.testing.assert_allclose(shares["prior"] + shares["contribution"], shares["prediction"], atol=1e-6)


def test_the_report_counts_what_the_scores_say(cohort):
    spec = importlib.util.spec_from_file_location("acc_run", FOLDER / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    cells = [
        (arm, task, "cindex" if task == "death" else "auroc", repeat, fold, value + 0.01 * fold)
        for arm, value in ((run.OURS, 0.7), (run.LATE, 0.6), ("single:rna", 0.75))
        for task in cohort.targets
        for repeat in range(2)
        for fold in range(3)
    ]
    text = run.results_text(cohort, pd.DataFrame(cells, columns=["arm", "task", "metric", "repeat", "fold", "value"]))
    assert "2 x 3-fold" in text
    assert "only 43 of\n  92" in text
    assert "of all 10 differences (5 tasks x 2 other arms) in\n  10" in text
    assert "5 for and 5 against `ours`" in text
    assert "| ours | 0.71 [" in text
    assert "| late_ridge | +0.10 [+0.10, +0.10] |" in text


def test_the_stability_script_adds_noise_and_names_the_largest_difference(cohort, tmp_path):
    spec = importlib.util.spec_from_file_location("acc_stability", FOLDER / "stability.py")
    stability = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stability)
    table = cohort.modalities["demographics"]
    noisy = stability.noisy(table, np.random.default_rng(0))
    years, plain = (frame["years_to_birth"].dropna().astype(float) for frame in (noisy, table))
    assert 0 < (years / plain - 1).abs().max() < 1e-8
    assert noisy["gender"].equals(table["gender"])
    keys = {"arm": ["a", "a"], "task": ["t", "t"], "metric": ["auroc", "auroc"], "repeat": [0, 0], "fold": [0, 1]}
    for name, values in (("as it is", [0.5, np.nan]), ("noise, seed 0", [0.75, np.nan])):
        pd.DataFrame({**keys, "value": values}).to_csv(stability.path_of(tmp_path, name), index=False)
    [row] = stability.differences(tmp_path, ["as it is", "noise, seed 0"]).to_dict("records")
    assert row == {"variant": "noise, seed 0", "arm": "a", "metric": "auroc", "largest": 0.25, "changed": 1}
