import pandas as pd
import pytest

from multimodn.figures.calibration import calibration_chart
from multimodn.figures.trajectory import trajectory_fan, trajectory_lines
from multimodn.findings.names import event_words, main_survival, middle, output_words


@pytest.mark.parametrize("n", range(1, 9))
def test_one_horizon_stands_for_survival_everywhere(n):
    outputs = ["risk", *(f"survival@{k + 1} years" for k in range(n))]
    chosen = main_survival(outputs)
    assert chosen == outputs[1 + middle(n)]
    rows = [("p", "death", name, step, "labs", 0.75 - 0.1 * step) for name in outputs for step in (0, 1)]
    frame = pd.DataFrame(rows, columns=["patient", "task", "output", "step", "modality", "value"]).set_index("patient")
    picture = trajectory_fan(frame.assign(link_scale="log-risk"))
    assert event_words(chosen) in picture.title
    assert picture.table["0.5"].tolist() == pytest.approx([0.25, 0.35])  # of the event, not of its absence


def test_times_are_named_with_their_unit():
    assert event_words("survival@5.98958") == "chance of the event by 5.99"
    assert output_words("survival@1 year") == "chance of the event by 1 year"
    assert output_words("survival@1095.75 days") == "chance of the event by 1,096 days"
    assert output_words("n1") == "n1"
    assert main_survival(["n0", "n1"]) is None


def test_a_figure_of_survival_has_a_table_in_its_words():
    rows = [("p", "death", "survival@1 year", step, "labs", 0.75 - 0.1 * step) for step in (0, 1)]
    frame = pd.DataFrame(rows, columns=["patient", "task", "output", "step", "modality", "value"]).set_index("patient")
    table = trajectory_lines(frame.assign(link_scale="log-risk")).table
    assert table["output"].tolist() == ["chance of the event by 1 year"] * 2
    assert table["value"].tolist() == pytest.approx([0.25, 0.35])
    curve = pd.DataFrame({"task": "death", "output": "survival@1 year", "predicted": [0.6], "observed": [0.7]})
    curve = curve.assign(low=0.5, high=0.8, n=40)
    predicted = pd.DataFrame({"task": "death", "output": "survival@1 year", "value": [0.6, 0.6]})
    (row,) = calibration_chart(curve, predicted).table.to_dict("records")
    assert [row[name] for name in ("predicted", "observed", "low", "high")] == pytest.approx([0.4, 0.3, 0.2, 0.5])
    assert row["output"] == "chance of the event by 1 year"
