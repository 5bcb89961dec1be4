"""Forest plots of this model and simple ones."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from multimodn.errors import DataError
from multimodn.figures.baselines import baselines_chart, differences_chart
from multimodn.figures.theme import DARK, LIGHT
from multimodn.findings.frames import ComparisonFrame
from tests.evaluate._verdicts import made

CHARTS = (baselines_chart, differences_chart)
each = pytest.mark.parametrize("chart", CHARTS)


def several(n_tasks=2):
    groups = [("late_ridge", "pattern", "labs", -0.1, 0.1, 1.0)]
    parts = [made(groups=groups).assign(task=f"task {k}") for k in range(n_tasks)]
    return pd.concat(parts, ignore_index=True)


@each
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_it_is_drawn_in_the_colours_of_the_theme(chart, theme):
    found = set(re.findall(r"#[0-9a-f]{6}\b", " ".join(re.findall(r"<[^>]*>", chart(several()).svg(theme)))))
    assert found <= {colour.lower() for _, colour in theme.roles()}


@each
def test_a_caption_says_of_how_many_and_what_an_interval_is(chart):
    picture = chart(several())
    assert "n = 100 labelled test patients" in picture.caption
    assert "interval" in picture.caption
    assert picture.alt.endswith(".")


@each
def test_a_row_of_the_table_is_a_dot(chart):
    picture = chart(several())
    figure = picture.figure()
    FigureCanvasAgg(figure).draw()
    dots = sum(len(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_marker() == "o")
    assert dots == len(picture.table)


def test_differences_are_those_of_all_patients_and_counted():
    picture = differences_chart(several())
    assert list(picture.table["compared with"]) == ["late ridge fusion", "the best single modality"] * 2
    assert "2 of 4 intervals exclude 0; 4 with p < 0.05 after Holm's correction." in picture.caption


def test_the_line_of_no_difference_is_in_the_middle():
    figure = differences_chart(several()).figure()
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        left, right = axes.get_xlim()
        assert left == -right
        assert any(np.allclose(line.get_xdata(), 0) for line in axes.lines)


def test_a_caption_names_what_was_left_out_and_chosen():
    frame = ComparisonFrame.of(
        several(), left_out=["slides"], failed={"tabm": ""}, best_single={"a": "single:labs"}, n_training=9
    )
    caption = baselines_chart(frame).caption
    assert "use tables and embeddings only, not slides" in caption
    assert "Not trainable on these data: TabM" in caption
    assert "chosen on them: labs (a)" in caption
    assert "same 9 patients" in caption


@each
def test_tasks_beyond_a_dozen_are_counted(chart):
    picture = chart(several(14))
    assert "2 tasks not shown" in picture.caption
    assert picture.table["task"].nunique() == 12


@each
def test_a_frame_without_rows_is_refused(chart):
    with pytest.raises(DataError, match="Nothing to draw"):
        chart(made().head(0))


def test_without_a_baseline_there_is_no_difference():
    frame = made()
    with pytest.raises(DataError, match="no baseline was compared"):
        differences_chart(frame[frame["arm"] == "ours"])
