import pandas as pd
import pytest

from multimodn.figures.trajectory import trajectory_fan
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
