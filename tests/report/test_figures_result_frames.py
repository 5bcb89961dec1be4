import subprocess
import sys

import pandas as pd
import pytest
from matplotlib.figure import Figure

from multimodn.errors import DataError, StudyError
from multimodn.figures.theme import DARK, LIGHT
from multimodn.model import results
from multimodn.model.results import (
    AttributionFrame,
    ContributionFrame,
    InteractionFrame,
    NextFrame,
    OrderFrame,
    ResultFrame,
    SummaryFrame,
    SynergyFrame,
    TrajectoryFrame,
    ValueFrame,
)
from tests.report._frames_for_figures import Case

MADE = {
    ContributionFrame: lambda: Case().contributions(),
    TrajectoryFrame: lambda: Case().trajectory(),
    InteractionFrame: lambda: Case().interactions(),
    SynergyFrame: lambda: Case().synergy(),
    SummaryFrame: lambda: Case().summary(),
    OrderFrame: lambda: Case().orders(),
    ValueFrame: lambda: Case().value(),
    NextFrame: lambda: Case().next(),
    AttributionFrame: lambda: Case().attributions(),
}
every = pytest.mark.parametrize(("cls", "made"), MADE.items(), ids=[cls.__name__ for cls in MADE])


def test_every_class_is_tested():
    classes = {found for found in vars(results).values() if isinstance(found, type) and issubclass(found, ResultFrame)}
    assert classes - {ResultFrame} == set(MADE)


@every
def test_a_slice_stays_what_it_is_and_all_else_is_pandas(cls, made):
    frame = cls.of(made(), link_scales={"death": "log-odds"}, modalities=["a"], hidden={"death": ("b",)})
    for part in (
        frame.iloc[:3],
        frame[frame.columns[:2]],
        frame.copy(),
        frame.sort_values(frame.columns[0]),
        frame.query("index == index"),
    ):
        assert type(part) is cls
        assert all(getattr(part, name) == getattr(frame, name) for name in cls._metadata)
    assert type(frame[frame.columns[0]]) is pd.Series
    pd.testing.assert_frame_equal(pd.DataFrame(frame), pd.DataFrame(made()))
    assert callable(pd.DataFrame(frame).plot.bar)


@every
def test_every_frame_draws_itself(cls, made):
    frame = cls.of(made())
    figure = frame.plot(theme="dark")
    assert isinstance(figure, Figure)
    assert figure.get_facecolor() == pytest.approx([int(DARK.paper[k : k + 2], 16) / 255 for k in (1, 3, 5)] + [1])
    assert figure.get_suptitle().replace("\n", " ") == frame.picture().title
    assert "".join(figure.get_supxlabel().split()) == "".join(frame.picture().caption.split())


def test_one_patient_is_a_waterfall_and_several_are_a_swarm():
    frame = ContributionFrame.of(Case().contributions())
    assert frame.picture().name.startswith("beeswarm-")
    assert frame.picture(patient="p1").name == "waterfall-death-death-p1"
    assert frame.loc[["p1"]].picture().name == "waterfall-death-death-p1"
    assert frame.picture(task="grade", output="g1").name == "beeswarm-grade-g1"


def test_one_patient_has_lines_and_several_are_a_fan():
    frame = TrajectoryFrame.of(Case().trajectory())
    assert frame.picture(patient="p1").name == "trajectory-death-probability-p1"
    assert "step by step" in frame.loc[["p1"]].picture(task="grade").title
    assert len(frame.loc[["p1"]].picture(task="grade").figure(LIGHT).axes[0].texts) == 2


@pytest.mark.parametrize("cls", [SynergyFrame, OrderFrame])
def test_one_output_of_a_task_can_be_drawn_alone(cls):
    table = cls.of(MADE[cls]()).picture(task="stage", output=">ii").table
    assert table["output"].tolist() == [">ii"]
    with pytest.raises(StudyError, match=r"Unknown output: '>iv'. Did you mean"):
        cls.of(MADE[cls]()).plot(output=">iv")


def test_a_text_can_be_drawn_as_text():
    frame = AttributionFrame.of(Case().words())
    assert frame.picture(patient="p0", as_text=True).name.startswith("words-report-death")
    assert isinstance(frame.plot(patient="p0", modality="report", as_text=True), Figure)


@pytest.mark.parametrize("cls", [SummaryFrame, ValueFrame, SynergyFrame])
def test_means_over_patients_have_no_patient(cls):
    with pytest.raises(StudyError, match=f"This {cls.__name__} holds means over patients, not patient 'p0'"):
        cls.of(MADE[cls]()).plot(patient="p0")


def test_errors_say_what_is_nearest():
    frame = ContributionFrame.of(Case().contributions())
    with pytest.raises(StudyError, match=r"Unknown theme 'drak'. Did you mean 'dark'"):
        frame.plot(theme="drak")
    with pytest.raises(StudyError, match=r"Unknown task: 'deth'. Did you mean 'death'"):
        frame.plot(task="deth")
    with pytest.raises(DataError, match="the frame has no column 'prior'"):
        frame.drop(columns="prior").plot(patient="p0")
    with pytest.raises(DataError, match="Nothing to draw: contributions has no rows"):
        frame.iloc[:0].plot()


def test_matplotlib_waits_until_something_is_drawn():
    code = (
        "import sys, pandas as pd\nfrom multimodn.model.results import ContributionFrame\n"
        "frame = ContributionFrame.of(pd.DataFrame({'task': ['a']}), modalities=['m'])\nframe.iloc[:1]\n"
        "print([name for name in ('matplotlib', 'torch', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
