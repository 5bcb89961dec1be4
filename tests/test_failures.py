"""Failures that are known from this kind of software and must stay impossible here."""

import socket

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, MultiModN
from multimodn.data.splits import Split, make_split
from multimodn.errors import DataError
from multimodn.runs import fit_run
from tests._cohorts import make_cohort, make_frames, make_study, write_files


@pytest.fixture(scope="module")
def model():
    return MultiModN(make_study()).fit(make_cohort())


def values(frame):
    return frame["value"].to_numpy()


def test_a_patient_who_lacks_a_modality_does_not_take_it_from_the_others(model):
    # Most patients of the batch lack the image: who has it keeps it, also when the others' cells are all empty.
    tables, _ = make_frames()
    tables["image"] = tables["image"].copy()
    tables["image"].iloc[1:] = np.nan
    frame = model.predict(Cohort.from_frames(tables))
    assert (frame.loc["p00", "n_modalities"] == 2).all()
    assert (frame.loc["p01", "n_modalities"] == 1).all()
    whole = model.predict(make_cohort())
    np.testing.assert_allclose(frame.loc["p00", "value"], whole.loc["p00", "value"], atol=1e-6)
    np.testing.assert_allclose(frame.loc["p39", "value"], whole.loc["p39", "value"], atol=1e-6)


def test_the_encoder_runs_on_exactly_the_patients_who_have_the_modality(model):
    seen = []
    encoder = model.trained.ensemble.first.encoders["image"]
    hook = encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model.predict(make_cohort())
    hook.remove()
    assert sum(seen) == 32


def test_scales_are_those_of_training_patients(model):
    # An outlier among the test patients moves nobody's scale.
    tables, targets = make_frames()
    split = model.split
    tables["labs"].loc[split.test[0], "crp"] = 1e9
    other = MultiModN(make_study()).fit(Cohort.from_frames(tables, targets), split=split)
    for name, tensor in model.trained.ensemble.state_dict().items():
        assert torch.equal(tensor, other.trained.ensemble.state_dict()[name]), name


def test_a_wrong_number_of_columns_is_an_error_and_never_missing(model):
    narrow = make_frames()[0]["image"].drop(columns="f3")
    with pytest.raises(DataError, match=r"(?s)modality 'image'.*column 'f3' is missing"):
        model.predict(Cohort.from_frames({"image": narrow}))


def test_a_patient_in_several_rows_is_refused():
    # Two samples of one patient could land on both sides of a split.
    tables, targets = make_frames()
    labs = pd.concat([tables["labs"], tables["labs"].iloc[[0]]])
    with pytest.raises(DataError, match=r"1 patient\(s\) have several rows: p00"):
        Cohort.from_frames({"labs": labs}, targets)


def test_a_split_has_every_patient_on_one_side_only():
    cohort = make_cohort()
    split = make_split(make_study(), cohort)
    everyone = np.concatenate([split.train, split.validation, split.test])
    assert len(set(everyone)) == len(everyone) == len(cohort)
    with pytest.raises(DataError, match="are in the split twice: p00"):
        Split(["p00", "p01"], [], ["p00"])


def test_predicting_twice_gives_the_same(model):
    # Nothing is drawn at random for a patient without a modality.
    cohort = make_cohort()
    first = model.predict(cohort)
    torch.manual_seed(123)
    np.testing.assert_array_equal(values(model.predict(cohort)), values(first))
    assert not model.trained.ensemble.training


def test_rows_are_joined_by_patient_and_never_by_position(model):
    tables, _ = make_frames()
    turned = {"labs": tables["labs"].iloc[::-1], "image": tables["image"].sample(frac=1, random_state=0)}
    frame = model.predict(Cohort.from_frames(turned))
    whole = model.predict(make_cohort())
    for patient in ("p00", "p20", "p39"):
        np.testing.assert_allclose(frame.loc[patient, "value"], whole.loc[patient, "value"], atol=1e-6)


def test_an_empty_cell_never_becomes_an_empty_prediction(model):
    tables, _ = make_frames()
    labs = tables["labs"].copy()
    labs.iloc[::2, 0] = np.nan
    cohort = Cohort.from_frames({"labs": labs})
    assert model.predict(cohort)["value"].notna().all()
    assert model.contributions(cohort)["contribution"].notna().all()


def test_a_vector_with_an_empty_or_infinite_number_is_refused(model):
    image = make_frames()[0]["image"]
    holes = image.copy()
    holes.loc["p03", "f1"] = np.nan
    with pytest.raises(DataError, match="p03"):
        model.predict(Cohort.from_frames({"image": holes}))
    infinite = image.copy()
    infinite.loc["p03", "f1"] = np.inf
    with pytest.raises(DataError, match=r"column 'f1': 1 infinite value.*'p03'"):
        Cohort.from_frames({"image": infinite})


def test_predictions_differ_between_patients(model):
    # A function that answers constants would pass many a shape test.
    frame = model.predict(make_cohort())
    for _, part in frame.query("output in ['probability', 'mean', 'risk']").groupby("output"):
        assert part["value"].nunique() > 30
    assert model.contributions(make_cohort())["contribution"].nunique() > 100


def test_a_class_and_a_number_are_learned_together_with_probabilities_in_range(model):
    frame = model.predict(make_cohort())
    chance = frame.loc[frame["output"] == "probability", "value"]
    assert chance.between(0, 1).all()
    assert frame.loc[frame["output"] == "sd", "value"].gt(0).all()


def test_nothing_is_looked_up_on_the_network(tmp_path, monkeypatch):
    # Training, saving and loading, with every connection refused; imports are tested in a process of their own.
    def refused(*_, **__):
        raise RuntimeError("network")

    for owner, name in ((socket.socket, "connect"), (socket, "create_connection"), (socket, "getaddrinfo")):
        monkeypatch.setattr(owner, name, refused)
    path = MultiModN(make_study(training={"epochs": 1})).fit(make_cohort()).save(tmp_path / "model")
    assert len(MultiModN.load(path).predict(make_cohort())) > 0


def test_a_misspelt_subgroup_is_told_before_training(tmp_path):
    study = write_files(tmp_path, subgroups=["labs.crq"])
    with pytest.raises(DataError, match=r"modality 'labs' has no column 'crq'\. Did you mean 'crp'"):
        fit_run(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()
