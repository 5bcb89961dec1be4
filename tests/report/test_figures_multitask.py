import numpy as np
import pandas as pd
import pytest

from multimodn.errors import DataError
from multimodn.figures.multitask import DASH, conflict_map, gain_chart
from multimodn.figures.theme import LIGHT
from multimodn.findings.numbers import MINUS

CONFLICTS = pd.DataFrame(
    [("death", "stage", 0.21, 0.1, 30), ("death", "cost $x$", -0.4, 0.9, 30), ("stage", "cost $x$", np.nan, np.nan, 0)],
    columns=["task", "other", "cosine", "conflict", "n"],
)
GAINS = pd.DataFrame(
    [
        ("death", "auroc", 0.7, 0.65, 0.05, 0.01, 0.09, 80),
        ("size", "r2", 0.2, 0.3, -0.1, -0.2, -0.02, 90),
        ("rare", "auroc", 0.6, 0.6, 0.0, np.nan, np.nan, 9),
    ],
    columns=["task", "metric", "joint", "single", "gain", "low", "high", "n"],
)


def texts(picture):
    return [text.get_text() for axes in picture.figure(LIGHT).axes for text in axes.texts]


def test_a_cell_holds_rate_and_cosine_and_a_dash_where_tasks_do_not_meet():
    assert texts(conflict_map(CONFLICTS)) == ["10%\n+0.21", f"90%\n{MINUS}0.40", DASH]


def test_the_alternative_text_names_the_worst_pair():
    assert "death and cost $x$, in 90% of batches" in conflict_map(CONFLICTS).alt
    nobody = CONFLICTS.iloc[2:]
    assert conflict_map(nobody).alt == "No two tasks have labels of the same patients."


def test_each_metric_has_a_panel_of_its_own():
    picture = gain_chart(GAINS)
    assert [axes.get_title(loc="left") for axes in picture.figure(LIGHT).axes] == ["gain in AUROC", "gain in R²"]
    assert f"death +0.050, size {MINUS}0.100" in picture.alt
    assert "n = 9 to 90 labelled test patients" in picture.caption


@pytest.mark.parametrize("picture", [conflict_map(CONFLICTS), gain_chart(GAINS)], ids=["conflicts", "gains"])
def test_a_page_can_hold_it(picture):
    svg = picture.inline_svg()
    assert "#" not in "".join(part for part in svg.split('"') if part.startswith("#") and len(part) == 7)
    assert "interval" in picture.caption
    assert len(picture.table)


@pytest.mark.parametrize("draw", [conflict_map, gain_chart])
def test_nothing_to_draw(draw):
    with pytest.raises(DataError, match="has no rows"):
        draw((CONFLICTS if draw is conflict_map else GAINS).iloc[:0])
