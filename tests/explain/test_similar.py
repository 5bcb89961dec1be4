"""Similar patients: the nearest by definition, never oneself, nobody named unless asked for."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, MultiModN
from multimodn.errors import DataError, StudyError
from multimodn.explain import similar_patients
from multimodn.explain.similar_patients import similar
from tests._cohorts import make_frames, make_study


@pytest.fixture(scope="module")
def trained():
    tables, targets = make_frames()
    study = make_study(
        modalities=[
            {"name": "labs", "kind": "table", "source": "labs", "hidden_size": 8, "embedding_size": 8},
            {"name": "image", "kind": "embedding", "source": "image", "embedding_size": 8, "exclude_for": ["size"]},
        ],
        training={"members": 2},
    )
    model = MultiModN(study).fit(Cohort.from_frames(tables, targets))
    return model, Cohort.from_frames(tables, targets)


@pytest.fixture(scope="module")
def patients(trained):
    model, cohort = trained
    return model.trained.ensemble, model.prepare(cohort, labelled=True)


def test_the_nearest_are_those_of_the_definition(patients):
    model, everybody = patients
    found = similar(model, everybody, everybody, 3, ids=True)
    with torch.inference_mode():
        batch = next(everybody.batches(len(everybody)))
        learned = slice(model.first.update.state_size)  # not what the experts say
        states = [
            member.states(e := member.encode(batch), member.paths(e))[-1, :, learned] for member in model.networks
        ]
    z = torch.cat(states, 1)
    z = ((z - z.mean(0)) / z.std(0, correction=0)).numpy()
    apart = (((z[:, None] - z[None]) ** 2).mean(2) ** 0.5).astype(float)
    np.fill_diagonal(apart, np.inf)
    for i, patient in enumerate(everybody.patients):
        nearest = np.argsort(apart[i])[:3]
        assert list(found.loc[patient, "similar"]) == list(everybody.patients[nearest])
        np.testing.assert_allclose(found.loc[patient, "distance"], apart[i, nearest], rtol=1e-4)


def test_pairs_at_random_are_about_the_root_of_two_apart(patients):
    model, everybody = patients
    found = similar(model, everybody, everybody, len(everybody))
    n = len(everybody)
    assert (found["distance"] ** 2).mean() == pytest.approx(2 * n / (n - 1), rel=1e-4)


def test_ranks_rise_with_the_distance_and_nobody_is_a_neighbour_of_oneself(patients):
    model, everybody = patients
    found = similar(model, everybody, everybody, 100, ids=True)
    assert len(found) == len(everybody) * (len(everybody) - 1)
    assert (found.index != found["similar"]).all()
    for _, part in found.groupby(level=0):
        assert part["distance"].is_monotonic_increasing
        assert list(part["rank"]) == list(range(1, len(everybody)))


def test_chunks_change_nothing(patients, monkeypatch):
    model, everybody = patients
    whole = similar(model, everybody, everybody, 4, ids=True)
    monkeypatch.setattr(similar_patients, "CELLS", 3 * len(everybody))
    monkeypatch.setattr(similar_patients, "BATCH", 7)
    pd.testing.assert_frame_equal(similar(model, everybody, everybody, 4, ids=True), whole, rtol=1e-4)


def test_without_ids_nobody_is_named(patients):
    model, everybody = patients
    found = similar(model, everybody, everybody, 2)
    others = found.drop(columns=["rank", "distance", "shared", "n_modalities"])
    assert "similar" not in found
    assert not others.isin(list(everybody.patients)).any().any()


def test_outcomes_are_those_of_the_neighbours(trained, patients):
    _, cohort = trained
    model, everybody = patients
    found = similar(model, everybody, everybody, 2, ids=True)
    status = cohort.targets["death"]["status"].reindex(found["similar"])
    assert list(found["outcome_death"]) == ["" if pd.isna(text) else text for text in status]
    size = cohort.targets["size"]["size"].reindex(found["similar"])
    np.testing.assert_allclose(found["outcome_size"].astype(float), size, rtol=1e-3)
    table = cohort.targets["survival"].loc[found["similar"].iloc[0]]
    assert found["outcome_survival"].iloc[0] == (
        f"{'event at' if table['event'] else 'no event up to'} {np.float32(table['months']):g}"
    )


def test_without_targets_there_are_no_outcomes(trained, patients):
    model, everybody = patients
    unlabelled = trained[0].prepare(trained[1])
    assert list(similar(model, everybody, unlabelled, 1)) == ["rank", "distance", "shared", "n_modalities"]


def test_modalities_that_both_have_are_counted(patients):
    model, everybody = patients
    found = similar(model, everybody, everybody, 39, ids=True)
    both = everybody.presence.sum(1).numpy()
    of = pd.Series(both, everybody.patients)
    assert (found["n_modalities"] == of.reindex(found["similar"]).to_numpy()).all()
    assert (found["shared"] == np.minimum(of.reindex(found.index), of.reindex(found["similar"]).to_numpy())).all()


def test_the_view_of_a_task_does_not_see_what_is_hidden_from_it(trained, patients):
    model, everybody = patients
    cohort = trained[1]
    fewer = replace(cohort, modalities=cohort.modalities | {"image": cohort.modalities["image"].iloc[:0]})
    without = trained[0].prepare(fewer, labelled=True)
    of_size = similar(model, everybody, everybody, 3, ids=True, task="size")
    pd.testing.assert_frame_equal(of_size, similar(model, without, without, 3, ids=True), rtol=1e-5)
    assert of_size["shared"].max() == 1
    assert not np.allclose(of_size["distance"], similar(model, everybody, everybody, 3)["distance"])


def test_a_state_that_never_varies_tells_nobody_apart(trained, patients):
    model, everybody = patients
    cohort = trained[1]
    nothing = replace(cohort, modalities={name: frame.iloc[:0] for name, frame in cohort.modalities.items()})
    found = similar(model, everybody, trained[0].prepare(nothing), 2)
    assert (found["distance"] == 0).all()


def test_an_unknown_task_or_nobody_to_find_is_refused(patients):
    model, everybody = patients
    with pytest.raises(StudyError, match="Did you mean 'death'"):
        similar(model, everybody, everybody, task="deaths")
    with pytest.raises(DataError, match="found k = 0 of 40"):
        similar(model, everybody, everybody, 0)
