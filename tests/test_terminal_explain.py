"""One patient on the terminal: all numbers there, at any width, without colours, and nobody's name taken for markup."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from multimodn import Cohort, MultiModN
from multimodn.cli.terminal.bars import BarLine, bar, diverging, dot, show_lines
from multimodn.cli.terminal.patient import Story, show_patient, show_story, tell
from multimodn.findings.names import event_words, main_survival
from multimodn.findings.numbers import MINUS
from tests._cohorts import make_frames, make_study
from tests._inputs import make_task

FRAME = pd.DataFrame(
    {"y": [0, 1] * 20, "dead": ["no", "lost"] * 20, "c": list("abcdefgh") * 5, "o": list(range(8)) * 5}
    | {"r": np.arange(40.0), "t": np.arange(40) + 1.0, "z": [1, 0, 0, 1] * 10}
)
TASKS = {
    "binary": make_task("binary", "binary", FRAME, target="y"),
    "loss": make_task("binary", "loss", FRAME, target="dead", positive="lost"),
    "multiclass": make_task("multiclass", "multiclass", FRAME, target="c"),
    "ordinal": make_task("ordinal", "ordinal", FRAME, target="o"),
    "multilabel": make_task("multilabel", "multilabel", FRAME, targets=("y", "z")),
    "regression": make_task("regression", "regression", FRAME, target="r"),
    "survival": make_task("survival", "survival", FRAME, time="t", event="y"),
}


def story(task, n_modalities, n_lacking=0, seed=0, **changes):
    """Steps from random raw outputs; contributions are the differences of one step to the next."""
    import torch

    rng = np.random.default_rng(seed)
    names = [f"modality_{m}" if m else "labs" for m in range(n_modalities + n_lacking)]
    has = names[:n_modalities]
    outputs = task.prior() + torch.cat([torch.zeros(1, task.output_size), torch.randn(n_modalities, task.output_size)])
    link, predicted = task.link(outputs).double().numpy(), task.predict(outputs)
    rows = {"task": task.name}
    steps = [
        rows | {"output": name, "step": k, "modality": ["", *has][k], "value": float(value[k])}
        for name, value in predicted.items()
        for k in range(n_modalities + 1)
    ]
    each = [
        rows | {"output": name, "modality": modality, "step": k + 1, "delta": link[k + 1, j] - link[k, j]}
        | {"value": link[k + 1, j], "contribution": link[k + 1, j] - link[k, j], "standard_error": 0.0}
        | {"prior": link[0, j], "prediction": link[-1, j]}
        for j, name in enumerate(task.link_names)
        for k, modality in enumerate(has)
    ]  # fmt: skip
    orders = [
        rows | {"output": name, "n_orders": 24, "spread": 0.25, "low": link[-1, j] - 0.5, "high": link[-1, j] + 0.5}
        | {"prediction": link[-1, j]}
        for j, name in enumerate(task.link_names)
    ]  # fmt: skip
    pairs = [
        rows | {"output": name, "modality": a, "other": b, "interaction": rng.normal() + 3 * (b == has[-1])}
        for name in task.link_names
        for i, a in enumerate(has)
        for b in has[i:]
    ]
    frames = {
        "steps": pd.DataFrame(steps),
        "deltas": pd.DataFrame(each, columns=["task", "output", "modality", "step", "value", *("delta",)]),
        "shares": pd.DataFrame(each, columns=list(each[0]) if each else ["task", "output", "modality", "prior"]),
        "orders": pd.DataFrame(orders),
        "pairs": pd.DataFrame(pairs, columns=["task", "output", "modality", "other", "interaction"]),
        "final": pd.DataFrame([row for row in steps if row["step"] == n_modalities]),
    }
    if not each:
        frames["shares"] = frames["shares"].reindex(
            columns=["task", "output", "modality", "contribution", "standard_error", "prior", "prediction"]
        )
    given = {"patient": "p1", "has": has, "lacks": names[n_modalities:], "tasks": {task.name: task}}
    given |= {"hidden": {task.name: []}, "link": {task.name: link[-1].tolist()}, **frames}
    return Story(**(given | changes))


def printed(one, width=80, **options):
    file = io.StringIO()
    show_story(Console(file=file, width=width), one, **options)
    return file.getvalue().replace(MINUS, "-")


@given(
    st.sampled_from(list(TASKS)), st.integers(0, 13), st.sampled_from([60, 80, 120, 200]), st.booleans(), st.booleans()
)
@settings(max_examples=40)
def test_any_patient_fits_any_terminal_with_every_number(kind, n, width, every, lacking):
    one = story(TASKS[kind], n, 3 * lacking)
    text = printed(one, width, all_classes=every)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("prior") >= 1
    assert all(name in text for name in [*one.has, *one.lacks])
    shown = [float(x) for x in re.findall(r"[+-]\d+\.\d\d$", text, flags=re.M)]
    sizes = one.shares["contribution"].dropna()
    if every:
        assert set(sizes[sizes.abs() >= 0.005].round(2)) <= set(shown)


def test_the_side_of_a_bar_is_the_sign_of_its_number():
    text = printed(story(TASKS["binary"], 9))
    rows = re.findall(r"^  \+ .*?[%] *\S* +?([█▐▌ ]*)│([█▐▌ ]*) ([+-])", text, flags=re.M)
    assert len(rows) >= 8
    assert all(
        bool(left.strip()) <= (sign == "-") and bool(right.strip()) <= (sign == "+") for left, right, sign in rows
    )
    assert "\x1b" not in text


def test_prior_and_contributions_add_up_to_the_prediction():
    text = printed(story(TASKS["regression"], 5))
    numbers = [float(x) for x in re.findall(r"([+-]?\d+\.\d\d)$", text, flags=re.M)][:7]
    assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=0.05)


def test_nothing_in_a_name_is_markup():
    one = story(TASKS["binary"], 2, patient="[red]p[/]", lacks=["[bold]x"])
    assert "Patient [red]p[/] has labs, modality_1 and lacks [bold]x." in printed(one, 120)


def test_the_sentence_names_what_moved_it_in_the_direction_of_the_prediction_first():
    one = story(TASKS["binary"], 4)
    sizes = [-2.0, 0.5, -0.3, 0.001]
    shares = one.shares.assign(contribution=sizes, prior=0.0, prediction=-1.8)
    text = printed(story(TASKS["binary"], 4, shares=shares, link={"binary": [-1.8]}))
    assert "Down mainly by labs (-2.00) and modality_2 (-0.30), up by modality_1 (+0.50)." in " ".join(text.split())
    still = printed(story(TASKS["binary"], 4, shares=shares.assign(contribution=0.001)))
    assert "No modality contributes." in still


def test_the_likeliest_class_and_the_next_are_shown_others_on_request():
    one = story(TASKS["multiclass"], 3)
    final = one.final.set_index("output")["value"].sort_values(ascending=False)
    text = printed(one)
    assert f"most likely {final.index[0]} " in text
    assert [name for name in "abcdefgh" if f"multiclass = {name}:" in text] == sorted(final.index[:2])
    assert "6 of 8 not shown" in text
    assert all(f"multiclass = {name}:" in printed(one, all_classes=True) for name in "abcdefgh")


def test_of_ordered_classes_the_middle_split_is_shown():
    text = printed(story(TASKS["ordinal"], 3))
    assert re.findall(r"ordinal above (\d):", text) == ["3"]
    assert "6 of 7 not shown" in text


def test_a_positive_class_is_named_unless_it_is_a_yes():
    assert re.search(r"^loss = lost: \d+%", printed(story(TASKS["loss"], 2)), flags=re.M)
    assert re.search(r"^binary: \d+%", printed(story(TASKS["binary"], 2)), flags=re.M)


def test_survival_is_told_as_the_chance_of_an_event_that_rises_with_the_risk():
    one = story(TASKS["survival"], 3)
    times = [name for name in one.final["output"] if name.startswith("survival@")]
    chance = 1 - one.final.set_index("output")["value"][times[(len(times) - 1) // 2]]
    assert f"{event_words(main_survival(times))}, {chance:.0%} (prior" in printed(one)


def test_who_has_nothing_gets_the_prior_and_no_table():
    text = printed(story(TASKS["binary"], 0, 2))
    assert "has nothing, every prediction is the prior; lacks labs, modality_1." in text
    assert "│" not in text
    assert "50% (prior 50%)" in text


def test_steps_that_an_order_leaves_out_are_not_read():
    one = story(TASKS["binary"], 3)
    text = printed(story(TASKS["binary"], 3, deltas=one.deltas[one.deltas["modality"] == "labs"]))
    assert len(re.findall(r"\+ modality_\d +not read", text)) == 2


def test_the_spread_over_orders_holds_the_prediction():
    one = story(TASKS["regression"], 2)
    outside = one.orders.assign(low=one.orders["prediction"] + 1, high=one.orders["prediction"] + 2)
    said = re.search(r"reading: ([\d.-]+) to", printed(story(TASKS["regression"], 2, orders=outside)))
    assert float(said[1]) == pytest.approx(one.orders["prediction"].iloc[0], rel=1e-3)


def test_the_strongest_pair_is_named_and_a_weak_one_is_not():
    one = story(TASKS["binary"], 4)
    pairs = one.pairs.assign(interaction=np.where(one.pairs["modality"] == one.pairs["other"], 9.0, 0.001))
    assert "Interaction:" not in printed(story(TASKS["binary"], 4, pairs=pairs))
    pairs.loc[2, "interaction"] = -1.5
    one_pair = f"{pairs.loc[2, 'modality']} and {pairs.loc[2, 'other']} -1.50"
    text = " ".join(printed(story(TASKS["binary"], 4, pairs=pairs)).split())
    assert f"Interaction: {one_pair}, the strongest of 6 pairs." in text
    assert "Interaction:" not in printed(story(TASKS["binary"], 4, pairs=None))


def test_what_a_task_must_not_see_is_said():
    assert "Hidden from this task: labs." in printed(story(TASKS["binary"], 2, hidden={"binary": ["labs"]}))


@pytest.mark.parametrize(("costs", "said"), [([1, 1, 1, 1], "a (0.200 nats), then b"), ([1, 2, 1, 1], "nats, cost 2)")])
def test_what_to_measure_next_is_ranked(costs, said):
    rows = {
        "task": "binary",
        "modality": list("bacd"),
        "gain": [0.1, 0.2, 0.05, 0.01],
        "cost": costs,
        "rank": [2, 1, 3, 4],
    }
    text = " ".join(printed(story(TASKS["binary"], 2, following=pd.DataFrame(rows))).split())
    assert said in text
    assert ("loss per cost" in text) == (len(set(costs)) > 1)
    assert "and 1 more." in text


def test_attributions_are_summed_by_feature_and_the_largest_come_first():
    rows = {"task": "binary", "output": "binary", "modality": "labs"}
    rows |= {"feature": ["age", "sex", "word", "word"], "value": [63.0, "f", "word", "word"]}
    rows |= {"attribution": [0.25, -0.5, 0.375, 0.375], "position": range(4)}
    text = printed(story(TASKS["binary"], 2, inside=pd.DataFrame(rows)))
    found = re.findall(r"^  (age|sex|word) +(63|f|2 times) .*([+-]0\.\d\d)$", text, flags=re.M)
    assert found == [("word", "2 times", "+0.75"), ("sex", "f", "-0.50"), ("age", "63", "+0.25")]


def test_similar_patients_are_listed_with_outcomes_and_without_names():
    rows = {"rank": [1, 2], "distance": [0.5, 0.75], "shared": [2, 1], "n_modalities": [2, 1]}
    rows |= {"outcome_binary": ["1", ""]}
    text = printed(story(TASKS["binary"], 2, similar=pd.DataFrame(rows)))
    assert "1. distance 0.50, 2 of its 2 modalities shared. binary: 1." in text
    assert "2. distance 0.75, 1 of its 1 modality shared. no outcome known." in text
    assert "rare outcomes may identify them" in text
    named = printed(story(TASKS["binary"], 2, similar=pd.DataFrame(rows | {"similar": ["x9", "y7"]})))
    assert "1. x9, distance" in named


def test_a_standard_error_stands_beside_its_contribution():
    one = story(TASKS["binary"], 12)
    text = printed(story(TASKS["binary"], 12, shares=one.shares.assign(standard_error=0.04)))
    assert len(re.findall(r"[+-]\d\.\d\d ± 0\.04$", text, flags=re.M)) == 12
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("share", "left", "right"), [(-1, 4, 0), (1, 0, 4), (0, 0, 0), (0.5, 0, 2), (-9, 4, 0)])
def test_bars_grow_from_the_middle(share, left, right):
    text = diverging(share, 4).plain
    assert len(text) == 9
    assert [side.count("█") for side in text.split("│")] == [left, right]


def test_bars_and_dots_are_as_long_as_their_share():
    assert [len(bar(share, 8)) for share in (0, 0.5, 1, 7)] == [1, 4, 8, 8]
    assert [dot(share, 5).index("●") for share in (0, 0.5, 1)] == [0, 2, 4]


def test_lines_without_values_have_no_column_for_them():
    file = io.StringIO()
    show_lines(Console(file=file, width=80), ("value", "attribution"), [BarLine("x", size=1.0)], 1.0)
    assert "value" not in file.getvalue()
    assert "attribution" in file.getvalue()


@pytest.fixture(scope="module")
def trained():
    tables, targets = make_frames()
    cohort = Cohort.from_frames(tables, targets)
    return MultiModN(make_study()).fit(cohort), cohort


def test_a_trained_model_is_told_in_full(trained):
    model, cohort = trained
    file = io.StringIO()
    show_patient(Console(file=file, width=100), model, cohort.subset(["p39"]), ["image", "labs"], inside="labs")
    text = file.getvalue()
    assert "Patient p39 has labs and lacks image." in text
    assert text.count("+ labs") == 3
    assert text.count("Inside labs:") == 3
    assert "crp" in text


def test_the_story_of_a_model_adds_up(trained):
    model, cohort = trained
    one = tell(model, cohort.subset(["p00"]), order=["image", "labs"])
    assert one.has == ["image", "labs"]
    for name in one.tasks:
        column = one.columns(name)[0]
        assert list(column.shares) == ["image", "labs"]
        total = column.prior + sum(size for size, _ in column.shares.values())
        assert total == pytest.approx(column.prediction, abs=1e-4)
    for name in one.tasks:
        column = tell(model, cohort.subset(["p00"])).columns(name)[0]
        assert list(column.after) == ["", "labs", "image"]
        assert column.after["image"] == pytest.approx(column.final, abs=1e-6)
