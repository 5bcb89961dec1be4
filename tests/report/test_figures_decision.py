"""The figure of net benefit."""

import re

import numpy as np
import pandas as pd
import pytest

from multimodn.errors import DataError, StudyError
from multimodn.evaluate.performance.decision_curve import STRATEGIES
from multimodn.figures.decision import decision_chart
from multimodn.figures.theme import DARK, LIGHT
from tests.report.test_figures_all import boxes, overlap


def curve(outputs=("death",), prevalence=0.3, has_interval=True, task="death", gain=0.05):
    at = np.arange(1, 100) / 100
    everybody = prevalence - (1 - prevalence) * at / (1 - at)
    best = np.maximum(everybody, 0)
    model = np.where(at < 0.7, best + gain, 0.0)
    ends = 0.04 if has_interval else np.nan
    columns = dict(
        zip(STRATEGIES, (model, model - ends, model + ends, everybody, 0.0 * at, model - best), strict=False)
    )
    columns |= {"gain_low": model - best - ends, "gain_high": model - best + ends}
    rows = pd.DataFrame({"task": task, "threshold": at, **columns, "prevalence": prevalence, "n": 152})
    return pd.concat([rows.assign(output=output) for output in outputs], ignore_index=True)


MADE = {
    "one": lambda: decision_chart(curve()),
    "no interval": lambda: decision_chart(curve(has_interval=False)),
    "many": lambda: decision_chart(curve([f"a class of long name {k}" for k in range(9)], task="grade $x$")),
    "two": lambda: decision_chart(curve([">i", ">ii"], task="stage")),
    "no use": lambda: decision_chart(curve(gain=0.0)),
    "rare": lambda: decision_chart(curve(prevalence=0.002, gain=0.0001)),
}
every = pytest.mark.parametrize("name", MADE)


@pytest.mark.parametrize(("name", "theme"), [("one", LIGHT), ("one", DARK), ("no interval", DARK), ("two", LIGHT)])
def test_the_figure_has_the_colours_of_its_theme_only(name, theme):
    tags = "".join(re.findall(r"<[^>]*>", MADE[name]().svg(theme)))
    assert set(re.findall("#[0-9a-f]{6}", tags)) <= {colour for _, colour in theme.roles()}


@every
def test_no_text_is_cut_off_or_lies_on_another(name):
    figure = MADE[name]().figure(LIGHT, is_titled=True)
    texts, (width, height) = boxes(figure), figure.get_size_inches() * figure.dpi
    assert all(box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1 for *_, box in texts)
    level = [(text, box) for text, rotation, box in texts if rotation == 0]
    assert not [(a, b) for k, (a, one) in enumerate(level) for b, other in level[:k] if overlap(one, other)]


def test_strategies_are_told_apart_without_colours():
    axes = MADE["one"]().figure(LIGHT).axes[0]
    assert len({(str(line._unscaled_dash_pattern), line.get_linewidth()) for line in axes.lines}) == 3
    assert [line.get_label() for line in axes.lines] == ["model", "treat all", "treat none"]


@every
def test_it_says_of_how_many_what_is_drawn_and_with_what_interval(name):
    made = MADE[name]()
    assert made.caption.startswith("n = 152 labelled patients. Net benefit: ")
    assert "95% interval (bootstrap over patients)" in made.caption
    assert made.alt.endswith(".")
    assert made.table["threshold"].mul(20).round(6).mod(1).eq(0).all()


def test_the_words_say_where_the_model_is_worth_it():
    assert "at 69 thresholds, 1% to 69%, the whole interval at 69 thresholds" in MADE["one"]().alt
    assert "the whole interval at none" in MADE["no interval"]().alt
    assert "at no threshold has the model more net benefit" in MADE["no use"]().alt
    assert "3 outputs not shown" in MADE["many"]().caption


def test_the_axis_ends_where_nobody_would_be_treated():
    assert MADE["one"]().figure().axes[0].get_xlim() == pytest.approx((0, 0.74))


def test_nothing_to_draw_is_an_error():
    with pytest.raises(DataError, match="have the same outcome"):
        decision_chart(curve(prevalence=1.0))
    with pytest.raises(DataError, match="has no rows"):
        decision_chart(curve().head(0))
    with pytest.raises(DataError, match="no column 'gain'"):
        decision_chart(curve().drop(columns="gain"))
    with pytest.raises(StudyError, match="Did you mean 'death'"):
        decision_chart(curve(), ["deaht"])
