import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from matplotlib.patches import Polygon

from multimodn.errors import DataError, StudyError
from multimodn.explain.summary import summarise
from multimodn.figures.contributions import beeswarm, importance
from multimodn.figures.theme import LIGHT
from multimodn.figures.waterfall import waterfall
from multimodn.model.results import ContributionFrame
from tests.report._frames_for_figures import LONG, Case, cases, swarm


def texts(picture):
    figure = picture.figure(LIGHT)
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return [*found, *(label.get_text() for axes in figure.axes for label in axes.get_yticklabels())]


@given(cases)
def test_the_bars_of_a_waterfall_add_up_to_the_prediction_less_the_prior(case):
    frame = case.contributions()
    table = waterfall(frame, patient="p0").table.dropna()
    rows = frame.loc[["p0"]].query("task == 'death'")
    whole = rows["prediction"].iloc[0] - rows["prior"].iloc[0]
    assert table["contribution"].sum() == pytest.approx(whole, abs=1e-9 * (1 + table["contribution"].abs().sum()))
    np.testing.assert_allclose(table["start"].iloc[1:], table["end"].iloc[:-1])
    assert table["start"].iloc[0] == rows["prior"].iloc[0]


def test_what_is_drawn_is_what_the_table_says():
    picture = waterfall(Case(n_modalities=9).contributions(), patient="p0")
    axes, bars = picture.figure(LIGHT).axes[0], picture.table.dropna()
    drawn = [patch.get_xy() for patch in axes.patches if isinstance(patch, Polygon) and len(patch.get_xy()) == 6]
    assert len(drawn) == len(bars)
    for corners, (start, end) in zip(drawn, bars[["start", "end"]].to_numpy(), strict=True):
        assert {corners[:, 0].min(), corners[:, 0].max()} == {min(start, end), max(start, end)}
        assert corners[2, 0] == end  # the tip


def test_bars_beyond_the_most_are_one_and_nothing_is_lost():
    frame = Case(n_modalities=30, n_patients=3).contributions()
    few, many = (waterfall(frame, patient="p0", most=most).table.dropna() for most in (5, 99))
    assert len(few) == 5
    assert "smaller ones" in few["modality"].iloc[-1]
    assert few["contribution"].sum() == pytest.approx(many["contribution"].sum())
    sizes = many["contribution"].abs().to_numpy()
    assert (np.diff(sizes) <= 0).all()


def test_modalities_stand_in_the_order_that_is_asked_for():
    frame = Case(n_modalities=9).contributions()
    names = sorted(set(frame.loc["p0", "modality"]))
    assert waterfall(frame, patient="p0", order=names).table.dropna()["modality"].tolist() == names
    with pytest.raises(StudyError, match=r"Unknown modality 'm11' in `order`. Did you mean 'm1'"):
        waterfall(frame, patient="p0", order=["m11"])


def test_what_is_absent_is_named_and_what_is_hidden_is_not():
    frame = Case(n_modalities=9, seed=3).contributions()
    absent = set(frame.modalities) - set(frame.loc["p0", "modality"])
    assert len(absent) > 1
    said = texts(waterfall(frame, patient="p0"))
    assert "absent: not used" in said
    frame.hidden = {"death": [min(absent)]}
    table = waterfall(frame, patient="p0").table
    assert set(table.loc[table["contribution"].isna(), "modality"]) == absent - {min(absent)}


def test_log_odds_are_told_as_probabilities_and_units_are_not():
    frame = Case().contributions().assign(prior=0.0)
    assert "50%" in texts(waterfall(frame, patient="p0"))
    assert "without any modality (50%)" in waterfall(frame, patient="p0").caption
    frame.link_scales = {"death": "units"}
    assert not [text for text in texts(waterfall(frame, patient="p0")) if "%" in text]


def test_the_sign_is_told_by_a_sign_not_by_colour_alone():
    picture = waterfall(Case(n_modalities=9).contributions(), patient="p0")
    numbers = [text for text in texts(picture) if re.fullmatch("[+\u2212][0-9.]+", text)]
    assert {text[0] for text in numbers} == {"+", "\u2212"}
    assert len(numbers) == len(picture.table.dropna())


def test_the_class_that_is_predicted_is_drawn_unless_another_is_named():
    frame = Case(n_classes=3).contributions()
    grades = frame.loc["p0"].query("task == 'grade'").drop_duplicates("output").set_index("output")["prediction"]
    assert f"grade = {grades.idxmax()}" in waterfall(frame, "grade", patient="p0").title
    assert "grade = g1" in waterfall(frame, "grade", "g1", patient="p0").title
    assert "stage above ii:" in waterfall(frame, "stage", patient="p0").title


def test_errors_name_what_is_nearest():
    frame = Case().contributions()
    with pytest.raises(StudyError, match=r"Unknown task: 'deat'. Did you mean 'death'"):
        waterfall(frame, "deat", patient="p0")
    with pytest.raises(StudyError, match=r"Unknown output of task 'grade': 'g9'. Did you mean 'g"):
        swarm(frame, "grade", "g9")
    with pytest.raises(StudyError, match="A waterfall shows one patient, the frame holds 12: name one, patient='p0'"):
        waterfall(frame)
    with pytest.raises(DataError, match=r"Patient 'p99' has no rows here: .* Did you mean 'p"):
        waterfall(frame, patient="p99")
    with pytest.raises(DataError, match="Cannot draw contributions: the frame has no column 'modality'; it has 'task'"):
        beeswarm(frame.drop(columns="modality"), summary=frame)


def test_a_patient_may_be_named_by_a_number():
    frame = Case().contributions()
    frame.index = pd.Index([int(name[1:]) for name in frame.index], name="patient")
    assert waterfall(frame, patient=3).name == waterfall(frame, patient="3").name


def test_a_swarm_has_a_point_for_each_patient_up_to_the_most_and_says_so():
    frame = Case(n_patients=400, n_modalities=3, names=["a", "b", "c"]).contributions()
    picture = swarm(frame, "death")
    lines = [line for line in picture.figure(LIGHT).axes[0].lines if line.get_marker() == "."]
    sizes = [len(one.get_xdata()) + len(other.get_xdata()) for one, other in zip(lines[::2], lines[1::2], strict=True)]
    n = frame.query("task == 'death'")["modality"].value_counts()
    assert sizes == [min(300, n[name]) for name in picture.table["modality"]]
    assert all((line.get_xdata() > 0).all() for line in lines[::2])
    assert "at most 300 points" in picture.caption
    assert "n = 400 patients" in picture.caption
    assert "at most" not in swarm(Case().contributions()).caption


def test_a_swarm_is_sorted_by_its_summary():
    frame = Case(n_patients=30, names=["a", "b", "c"], n_modalities=3).contributions()
    summary = summarise(frame)
    picture = beeswarm(frame, "death", summary=summary)
    expected = summary.query("task == 'death'").sort_values("mean_abs", ascending=False)["modality"]
    assert picture.table["modality"].tolist() == expected.tolist()
    pd.testing.assert_frame_equal(ContributionFrame.of(frame).picture(task="death").table, picture.table)


def test_importance_has_a_panel_for_each_output_and_a_mark_for_each_group():
    summary = Case().summary()
    figure = importance(summary).figure(LIGHT)
    assert [axes.get_title(loc="left") for axes in figure.axes[:7]][:2] == ["death", "grade = g0"]
    assert len(figure.axes) == 1 + 1 + 2 + 3  # the key, and the outputs of three tasks
    one = importance(summary, "death", groups=["site B"])
    assert set(one.table["group"]) == {"site B"}
    with pytest.raises(StudyError, match=r"Unknown group: 'site C'. Did you mean 'site B'"):
        importance(summary, groups=["site C"])


def test_long_names_keep_their_end():
    case = Case(names=[f"{LONG} {k}" for k in range(4)], n_modalities=4)
    names = [text for text in texts(swarm(case.contributions(), "death")) if "…" in text]
    assert len(set(names)) == 4
    assert all(len(name) <= 26 for name in names)
