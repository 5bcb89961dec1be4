"""The figures of cohort, performance and calibration."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.errors import DataError, StudyError
from multimodn.figures.calibration import calibration_chart
from multimodn.figures.cohort import outcomes_chart, patterns_chart
from multimodn.figures.forest import merge_rows
from multimodn.figures.performance import groups_chart, main_rows, overall_chart, score_words, steps_chart
from multimodn.figures.theme import DARK
from multimodn.findings.frames import PerformanceFrame
from multimodn.findings.names import pattern_words

matrices = st.integers(1, 9).flatmap(
    lambda m: st.lists(st.lists(st.booleans(), min_size=m, max_size=m), min_size=1, max_size=30)
)


def presence_of(rows):
    return pd.DataFrame(rows, columns=[f"m{k}" for k in range(len(rows[0]))], dtype=bool)


@given(matrices, st.integers(1, 4))
def test_every_patient_is_in_one_pattern(rows, most):
    found = patterns_chart(presence_of(rows), most=most).table
    assert found["patients"].sum() == len(rows)
    assert found["share"].sum() == pytest.approx(1)
    one_by_one = found["patients"][found["modalities"].notna()]
    assert one_by_one.is_monotonic_decreasing


names = [f"m{k}" for k in range(6)]


@given(st.sets(st.sampled_from(names)))
def test_the_words_of_a_pattern_tell_it(has):
    words = pattern_words([name for name in names if name in has], names)
    if words.startswith("all but "):
        assert set(words.removeprefix("all but ").split(", ")) == set(names) - has
    elif words in ("none", "all 6"):
        assert has == (set() if words == "none" else set(names))
    else:
        assert set(words.split(" + ")) == has


@given(st.lists(st.permutations(names).map(lambda p: p[:4]), min_size=1, max_size=4))
def test_joined_rows_hold_every_name_once_and_keep_the_order_of_the_first(lists):
    found = merge_rows(lists)
    assert sorted(found) == sorted({name for one in lists for name in one})
    assert [name for name in found if name in lists[0]] == list(lists[0])


def performance(tasks=("death", "size"), n_steps=3, has_intervals=True):
    rows = []
    groups = [("overall", "all", -1), ("step", "(none)", 0)]
    groups += [("step", "+".join(f"m{j}" for j in range(k)), k) for k in range(1, n_steps + 1)]
    groups += [("pattern", "m0+m1+m2", -1), ("pattern", "other patterns (3)", -1), ("subgroup", "labs.sex = f", -1)]
    for k, task in enumerate(tasks):
        for metric in (("auroc", "brier"), ("r2", "rmse"))[k % 2]:
            for j, (by, group, step) in enumerate(groups):
                value = 0.5 + 0.01 * j + 0.03 * k
                ends = (value - 0.1, value + 0.1) if has_intervals else (np.nan, np.nan)
                rows.append((task, metric, by, group, step, value, *ends, 40 - j))
    columns = ["task", "metric", "by", "group", "step", "value", "low", "high", "n"]
    return PerformanceFrame.of(
        pd.DataFrame(rows, columns=columns),
        main_metric={task: ("auroc", "r2")[k % 2] for k, task in enumerate(tasks)},
        patterns={"+".join(f"m{j}" for j in range(k)) or "(none)": tuple(f"m{j}" for j in range(k)) for k in range(9)},
    )


def curve(output="death", shift=0.0):
    predicted = np.linspace(0.1, 0.6, 6)
    rows = {"task": "death", "output": output, "predicted": predicted, "observed": predicted + shift}
    return pd.DataFrame(rows).assign(low=predicted - 0.1, high=predicted + 0.1, n=15)


def predicted(*outputs):
    values = np.linspace(0, 0.7, 90)
    return pd.concat([pd.DataFrame({"task": "death", "output": name, "value": values}) for name in outputs])


OUTCOMES = pd.DataFrame({"task": "death", "outcome": [*"abcdefghijk", ""], "patients": range(12, 0, -1)})
PICTURES = {
    "patterns": lambda: patterns_chart(presence_of([[True, False, True], [True, True, True], [False] * 3])),
    "outcomes": lambda: outcomes_chart(OUTCOMES),
    "overall": lambda: overall_chart(performance()),
    "overall, no intervals": lambda: overall_chart(performance(has_intervals=False)),
    "steps": lambda: steps_chart(performance()),
    "patterns of performance": lambda: groups_chart(performance(), "pattern", ["m0", "m1", "m2"]),
    "subgroups": lambda: groups_chart(performance(), "subgroup"),
    "calibration": lambda: calibration_chart(curve(), predicted("death")),
    "calibration, unobserved": lambda: calibration_chart(
        pd.concat([curve("survival@7"), curve("survival@7").assign(observed=np.nan, low=np.nan, high=np.nan)]),
        predicted("survival@7"),
    ),
    "calibration, numbers": lambda: calibration_chart(
        curve().assign(predicted=[-3.0, 1, 2, 3, 4, 90], low=np.nan), predicted("death").assign(value=-7.0)
    ),
}
every = pytest.mark.parametrize("name", PICTURES)


@every
def test_a_figure_says_of_how_many_and_with_what_interval(name):
    made = PICTURES[name]()
    assert made.caption.startswith("n = ")
    assert "interval" in made.caption
    assert made.alt.endswith(".")
    assert made.table is not None
    assert len(made.table)


@every
def test_a_figure_has_the_colours_of_its_theme_only(name):
    tags = "".join(re.findall(r"<[^>]*>", PICTURES[name]().svg(DARK)))
    assert set(re.findall("#[0-9a-f]{6}", tags)) <= {colour for _, colour in DARK.roles()}


def test_the_main_metric_of_a_task_is_drawn():
    rows = main_rows(performance(), "overall")
    assert dict(zip(rows["task"], rows["metric"], strict=True)) == {"death": "auroc", "size": "r2"}


def test_a_score_without_an_interval_says_so():
    rows = main_rows(performance(has_intervals=False), "overall").head(1)
    assert score_words(rows) == ["AUROC 0.50 (no interval)"]
    assert score_words(main_rows(performance(), "overall").head(1)) == ["AUROC 0.50 (0.40 to 0.60)"]


def test_many_outcomes_of_a_task_are_joined_in_the_figure_and_stay_in_the_table():
    made = outcomes_chart(OUTCOMES)
    assert len(made.table) == 12
    assert "4 others" in made.svg()


def test_calibration_names_the_bin_that_is_furthest_off():
    shifted = curve()
    shifted.loc[2, "observed"] = 0.95
    assert "predicted 0.30, observed 0.95" in calibration_chart(shifted, predicted("death")).alt


def test_widest_outputs_are_drawn_where_there_are_many():
    outputs = [f"c{k}" for k in range(8)]
    values = pd.concat([predicted(name).eval("value = value * @k") for k, name in enumerate(outputs, 1)])
    made = calibration_chart(pd.concat([curve(name) for name in outputs]), values, most=3)
    assert list(made.table["output"].unique()) == outputs[-3:]
    assert "5 outputs not shown" in made.caption


def test_nothing_to_draw_is_an_error_that_says_what_is_missing():
    with pytest.raises(DataError, match="no patients, or no modalities"):
        patterns_chart(pd.DataFrame())
    with pytest.raises(DataError, match="no task has outcomes"):
        outcomes_chart(OUTCOMES.head(0))
    with pytest.raises(DataError, match="no rows by subgroup"):
        groups_chart(performance().query("by != 'subgroup'"), "subgroup")
    with pytest.raises(DataError, match="no rows by step"):
        steps_chart(performance().query("by != 'step'"))
    with pytest.raises(DataError, match="no outcome of task 'death' was observed"):
        calibration_chart(curve().assign(observed=np.nan), predicted("death"))
    with pytest.raises(StudyError, match="by 'site'; expected pattern or subgroup"):
        groups_chart(performance(), "site")
    with pytest.raises(StudyError, match=r"Unknown task: 'deaht'\. Did you mean 'death'"):
        calibration_chart(curve(), predicted("death"), ["deaht"])
