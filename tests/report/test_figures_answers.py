import numpy as np
import pandas as pd
import pytest

from multimodn.errors import DataError, StudyError
from multimodn.figures.acquisition import next_chart
from multimodn.figures.attributions import attribution_bars
from multimodn.figures.orders import order_spread, synergy_chart
from multimodn.figures.theme import LIGHT
from multimodn.figures.trajectory import trajectory_fan, trajectory_lines
from multimodn.figures.value import training_curves, value_chart
from multimodn.figures.word_strip import word_strip
from multimodn.findings.frames import DescribedFrame
from tests.report._frames_for_figures import Case, pairs_map


def words_of(picture):
    figure = picture.figure(LIGHT)
    labels = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return [text.get_text() for text in (*labels, *(text for axes in figure.axes for text in axes.texts))]


def test_a_fan_holds_quantiles_of_those_who_take_a_step():
    frame = Case(n_patients=60).trajectory()
    table = trajectory_fan(frame, "death").table
    for line in table.itertuples():
        values = frame.query("task == 'death' and step == @line.step")["value"]
        assert line.n == len(values)
        if line.n >= 10:
            assert table.loc[line.Index, "0.25"] == pytest.approx(values.quantile(0.25))
        else:
            assert np.isnan(table.loc[line.Index, "0.5"])


def test_a_patient_in_a_fan_is_drawn_with_the_names_of_the_steps():
    frame = Case().trajectory()
    rows = frame.loc["p1"].query("task == 'death'")
    picture = trajectory_fan(frame, patients=["p1"])
    line = next(line for line in picture.figure(LIGHT).axes[0].lines if line.get_color() == LIGHT.high)
    np.testing.assert_allclose(line.get_ydata(), rows["value"])
    assert len(trajectory_fan(frame, patients=["p1", "p2"]).figure(LIGHT).axes) == 2
    assert "cost $x$" in words_of(picture)
    with pytest.raises(StudyError, match="5 patients are named to be drawn by themselves; at most 4 fit"):
        trajectory_fan(frame, patients=["p0"] * 5)
    with pytest.raises(DataError, match="Patient 'p77' has no rows here"):
        trajectory_fan(frame, patients=["p77"])


def test_one_patient_has_a_line_for_each_class_and_none_for_what_is_no_probability():
    frame = Case(n_classes=4).trajectory()
    more = frame.query("output == 'g0'").assign(output="expected", value=2.5)
    both = DescribedFrame.of(pd.concat([frame, more]), like=frame)
    picture = trajectory_lines(both, "grade", patient="p0")
    said = " ".join(words_of(picture))
    assert all(f"g{k}:" in said for k in range(4))
    assert "expected" not in said
    assert "expected position" in trajectory_lines(both, "grade", "expected", patient="p0").alt


def test_survival_is_told_by_the_time_and_log_risk_is_no_probability():
    frame = pd.concat(
        [
            Case(n_classes=1).trajectory().query("task == 'death'").assign(output=name)
            for name in ("risk", "survival@365")
        ]
    )
    frame = DescribedFrame.of(frame, link_scales={"death": "log-risk"})
    assert trajectory_fan(frame).title == "death: chance of the event by 365, step by step"
    assert "log-risk of death" in trajectory_fan(frame, output="risk").title
    assert "%" not in trajectory_fan(frame, output="risk").alt


def test_a_map_averages_over_those_who_have_both_and_is_drawn_whole():
    case = Case(n_modalities=3, names=["a", "b", "c"])
    frame = case.interactions()
    table = pairs_map(frame).table
    rows = frame.query("task == 'death'")
    for one, other in (("a", "a"), ("b", "a"), ("c", "b")):
        of_pair = rows[(rows["modality"] == other) & (rows["other"] == one)]["interaction"]
        assert table.loc[one, other] == pytest.approx(of_pair.abs().mean())
    assert np.isnan(table.loc["a", "b"])  # the lower half says it all
    picture = pairs_map(frame, patient="p0")
    assert "n = 1 patient" in picture.caption
    assert "interval" not in picture.caption
    assert "Synergy, the share" in pairs_map(frame).caption


def test_a_map_leaves_the_smallest_out_and_says_so():
    picture = pairs_map(Case(n_modalities=20).interactions(), most=7)
    assert picture.table.shape == (7, 7)
    assert "13 modalities with smaller values not shown" in picture.caption


def test_orders_that_cross_half_are_counted():
    frame = pd.DataFrame(
        {
            "task": "t",
            "output": "t",
            "n_orders": 24,
            "spread": 0.1,
            "low": [-1, 1, -2],
            "high": [1, 2, -1],
            "prediction": 0.0,
        },
        index=pd.Index(["a", "b", "c"], name="patient"),
    )
    with_scale = DescribedFrame.of(frame, link_scales={"t": "log-odds"})
    assert "0.10   crosses 50%: 1 of 3" in words_of(order_spread(with_scale))
    assert "crosses" not in " ".join(words_of(order_spread(frame)))


def test_synergy_is_written_beside_its_interval():
    frame = pd.DataFrame({"task": ["t"], "output": ["t"], "synergy": [0.123], "low": [0.1], "high": [0.2], "n": [7]})
    picture = synergy_chart(frame)
    assert "12.3%" in words_of(picture)
    assert "n = 7 patients" in picture.caption


def test_value_with_and_without_weights_stands_side_by_side_where_they_differ():
    frame = Case().value()
    assert "weighted" in value_chart(frame).svg()
    same = value_chart(frame.assign(unweighted=frame["value"]))
    assert "unweighted" not in same.svg()
    assert "Weights would not change" in same.caption
    with pytest.raises(StudyError, match=r"Unknown metric: 'auroc2'. Did you mean 'auroc'"):
        value_chart(frame, metric="auroc2")


def test_what_is_next_is_ranked_for_a_patient_and_counted_for_a_cohort():
    frame = Case(n_patients=20).next()
    mine = frame.loc["p0"].query("task == 'death'").sort_values("rank")
    assert next_chart(frame, patient="p0").table["modality"].tolist() == mine["modality"].tolist()
    cohort = next_chart(frame)
    first = frame.query("task == 'death' and rank == 1")["modality"].value_counts()
    assert (
        cohort.table.set_index("modality")["first"].to_dict()
        == first.reindex(cohort.table["modality"], fill_value=0).to_dict()
    )
    assert "n = 20 patients" in cohort.caption
    assert "   cost" in " ".join(words_of(next_chart(frame, patient="p0")))
    assert "   cost" not in " ".join(words_of(next_chart(frame.assign(cost=1.0), patient="p0")))


def test_attributions_of_a_word_add_up_and_absent_words_count_as_nothing():
    frame = Case().attributions().query("task == 'death'")
    frame["feature"] = np.where(frame["position"] < 2, "twice", frame["feature"])
    table = attribution_bars(frame, patient="p0", most=99).table
    assert table["attribution"].sum() == pytest.approx(frame.loc["p0", "attribution"].sum())
    assert "twice (2 times)" in set(table["feature"])
    some = frame[(frame.index != "p0") | (frame["feature"] != "m0")]
    one = attribution_bars(some, most=99).table.set_index("feature")["attribution"]["m0"]
    sizes = some[some["feature"] == "m0"]["attribution"].abs()
    assert one == pytest.approx(sizes.sum() / 12)
    assert f"in {len(sizes)}" in " ".join(words_of(attribution_bars(some, most=99)))


@pytest.mark.parametrize(
    ("value", "said"),
    [(63, "age = 63"), (1.23456, "age = 1.235"), (None, "age = empty"), (np.nan, "age = empty"), ("<2", "age = <2")],
)
def test_a_feature_stands_beside_its_value(value, said):
    row = {
        "modality": "labs",
        "task": "t",
        "output": "t",
        "feature": "age",
        "position": 0,
        "value": value,
        "attribution": 0.1,
    }
    frame = pd.DataFrame([row], index=pd.Index(["p"], name="patient"))
    assert said in words_of(attribution_bars(frame))


def test_words_are_coloured_and_signed_in_the_order_of_the_text():
    frame = pd.DataFrame(
        {
            "modality": "report",
            "task": "t",
            "output": "t",
            "feature": ["b<c", "no", "the", "$d$"],
            "position": [2, 0, 1, 3],
        },
        index=pd.Index(["p"] * 4, name="patient"),
    ).assign(value="", attribution=[1.0, -0.5, 0.01, 0.4])
    picture = word_strip(frame)
    assert picture.table["word"].tolist() == ["no", "the", "b<c", "$d$"]
    assert [text.get_text() for text in picture.figure().axes[0].texts] == ["no⁻", "the", "b<c⁺", "$d$⁺"]


def test_of_a_long_report_the_passage_that_moves_most_is_drawn():
    n = 900
    frame = pd.DataFrame(
        {"modality": "r", "task": "t", "output": "t", "feature": [f"w{k}" for k in range(n)], "position": range(n)},
        index=pd.Index(["p"] * n, name="patient"),
    ).assign(value="", attribution=np.where(np.arange(n) == 700, 1.0, 1e-6))
    picture = word_strip(frame)
    assert len(picture.table) == 300
    assert "w700" in set(picture.table["word"])
    assert "of which the 300 that move the prediction most" in picture.caption


def test_the_best_epoch_of_each_member_is_marked():
    frame = Case().training()
    best = frame.loc[frame.groupby("member")["validation_loss"].idxmin()]
    dots = [line for line in training_curves(frame).figure(LIGHT).axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == best["epoch"].tolist()
