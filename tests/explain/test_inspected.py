"""The methods of a model about single modalities and patients, and frames that draw themselves."""

import pandas as pd
import pytest

from multimodn import Cohort, MultiModN
from multimodn.data.sources import replaced_sources
from multimodn.errors import StudyError
from multimodn.model.results import AttributionFrame, ContributionFrame
from tests._cohorts import write_files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return MultiModN(write_files(tmp_path_factory.mktemp("inspected"))).fit()


def test_attributions_cover_every_task_and_say_how(model):
    found = model.explain.attributions("labs")
    assert found["task"].unique().tolist() == ["death", "size", "survival"]
    assert set(found["feature"]) == {"crp", "hb", "sodium"}
    assert set(found.convergence_delta) == set(found.index)
    assert "mean of the training patients" in found.baseline
    one = model.explain.attributions("labs", task="size")
    pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(found[found["task"] == "size"]), check_like=True)


def test_an_unknown_modality_or_task_is_named_alone(model):
    with pytest.raises(StudyError, match="Did you mean 'labs'") as caught:
        model.explain.attributions("lab")
    assert "task" not in str(caught.value)
    with pytest.raises(StudyError, match="Did you mean 'death'"):
        model.explain.attributions("labs", task="deth")


def test_a_table_has_no_map_of_pixels(model):
    with pytest.raises(StudyError, match="has no pixels"):
        model.explain.attribution_map("labs", "p00")


def test_similar_patients_are_training_patients_and_nameless(model):
    cohort = Cohort.load(model.study, labelled=False)
    found = model.explain.similar(cohort.subset(model.split.test[:2]), 3)
    assert len(found) == 6
    assert "similar" not in found
    named = model.explain.similar(cohort.subset(model.split.test[:2]), 3, ids=True)
    assert set(named["similar"]) <= set(model.split.train)


def test_frames_draw_themselves_and_slices_too(model):
    found = model.contributions()
    assert isinstance(found, ContributionFrame)
    assert found.plot(task="death").axes
    assert isinstance(found[found["modality"] == "labs"].plot(patient="p00", task="death").axes, list)
    assert isinstance(model.explain.attributions("labs", task="death"), AttributionFrame)


def test_a_source_without_a_path_is_an_error():
    with pytest.raises(StudyError, match="labs: expected NAME=PATH"):
        replaced_sources(["labs"])
