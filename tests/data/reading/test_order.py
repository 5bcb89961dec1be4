import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort
from multimodn.data.reading.order import order_of_readings
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.study.study import RepeatSpec
from tests.data._studies import write_study

IN_ORDER = [
    ["visit 1", "visit 2", "visit 10"],
    ["Visit 1", "visit 2", "VISIT 10"],
    ["V1", "V2", "V10"],
    ["1st visit", "2nd visit", "10th visit"],
    ["baseline_arm_1", "6_month_arm_1", "12_month_arm_1"],
    ["Baseline (Arm 1: Drug A)", "3 Month (Arm 1: Drug A)", "12 Month (Arm 2: B)"],
    ["screening", "baseline", "week 2", "week 12"],
    ["C1D1", "C1D8", "C2D1", "C10D1"],
    ["day -7", "day 1", "day 10"],
    ["6 weeks", "3 months", "1 year"],
    ["01", "2", "010"],
    ["2,5", "10,5"],
    ["05.01.2024", "01.02.2024", "20.03.2024"],
    ["05.01.2024", "01.02.2024", "02.03.2024"],
    ["5.1.2024 09:05", "5.1.2024 10:00"],
    ["12/31/2023", "01/02/2024", "02/01/2024"],
    ["31/12/2023 23:00", "01/01/2024 01:00"],
    ["12/31/99", "1/1/00"],
    ["2024-1-5", "2024-01-20", "2024-10-01"],
    ["2023/12/31", "2024/01/02"],
    ["2024-01-05T10:00:00+02:00", "2024-01-05T09:00:00Z"],
    ["31DEC2023", "05JAN2024", "01FEB2024"],
    ["Dec 31, 2023", "Jan 5, 2024"],
    ["1. Mai 2023", "3. Okt 2023"],
    ["12.2023", "01.2024"],
    ["12/2023", "01/2024"],
    ["9:05", "10:00"],
    ["8:00 AM", "12:00 PM", "1:00 PM"],
    ["2023 Q4", "2024 Q1"],
]

IN_DOUBT = [
    (["01/02/2024", "02/01/2024"], r"may have the day or the month first; say so by `date_format`"),
    (["24-01-05", "23-12-31"], r"may have the day or the month first"),
    (["13/01/2024", "01/13/2024"], r"may have the day or the month first"),
    (["1,000", "2,000"], r"may stand before decimals or between thousands; write `decimal"),
    (["2024-01-05T10:00:00+02:00", "2024-01-05T09:00:00"], r"some of the times have a time zone"),
    (["V1", "W2"], r"the order of 'V1', 'W2' is not clear\. List the texts .*`repeats: .*order: \[V1, W2\]"),
    (["admission", "discharge"], r"is not clear"),
    (["baseline", "day -1"], r"is not clear"),
    (["Q4 2023", "Q1 2024"], r"is not clear"),
    (["32.01.2024", "01.02.2024"], r"is not clear"),
    (["1/2", "1/10"], r"is not clear"),
]


@pytest.mark.parametrize("texts", IN_ORDER, ids=lambda texts: texts[0])
def test_readings_come_in_the_order_of_time_whatever_that_of_the_rows(texts):
    for order in (np.arange(len(texts)), np.arange(len(texts))[::-1]):
        ranks, _ = order_of_readings(pd.Series(np.array(texts, dtype=object)[order]))
        assert ranks.tolist() == order.tolist()


@pytest.mark.parametrize(("texts", "message"), IN_DOUBT)
def test_texts_in_doubt_are_an_error_that_says_what_settles_it(texts, message):
    with pytest.raises(DataError, match=message):
        order_of_readings(pd.Series(texts))


def test_a_listed_order_and_a_date_format_settle_doubt():
    assert order_of_readings(pd.Series(["b", "a", "b"]), ["b", "a"])[0].tolist() == [0, 1, 0]
    assert order_of_readings(pd.Series([2.0, 1.0]), ["2", "1"])[0].tolist() == [0, 1]
    dates = pd.Series(["01/02/2024", "02/01/2024"])
    assert order_of_readings(dates, date_format="%d/%m/%Y")[0].tolist() == [1, 0]
    assert order_of_readings(dates, date_format="%m/%d/%Y")[0].tolist() == [0, 1]
    with pytest.raises(DataError, match=r"`order` does not name 'c' \(first of patient 'P2'\)"):
        order_of_readings(pd.Series(["a", "c"], index=["P1", "P2"]), ["a", "b"])
    with pytest.raises(DataError, match=r"are not dates of the form `date_format: %Y`"):
        order_of_readings(dates, date_format="%Y")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_numbers_are_ranked_as_numbers(numbers):
    ranks, how = order_of_readings(pd.Series(numbers))
    expected = pd.Series(numbers).rank(method="dense").astype(int) - 1
    assert ranks.tolist() == expected.tolist()
    assert how is None


DATES = st.dates(datetime.date(1970, 1, 1), datetime.date(2060, 12, 31))


@given(st.lists(DATES, min_size=2, unique=True))
def test_a_date_has_the_same_place_in_every_writing(dates):
    expected = order_of_readings(pd.Series([f"{date:%Y-%m-%d}" for date in dates]))[0].tolist()
    assert expected == pd.Series(pd.to_datetime(dates)).rank(method="dense").astype(int).sub(1).tolist()
    for form in ("%d.%m.%Y", "%Y/%m/%d", "%d %b %Y", "%d%b%Y", "%b %d, %Y", "%d.%m.%Y 08:30", "%Y-%m-%dT23:59:59Z"):
        assert order_of_readings(pd.Series([date.strftime(form) for date in dates]))[0].tolist() == expected


def test_a_cohort_orders_readings_by_text_and_says_so(tmp_path):
    visits = "id,day,crp\n001,visit 10,30\n001,visit 9,20\n002,visit 1,10\n"
    labs = {"name": "labs", "kind": "table", "source": "labs", "repeats": {"by": "day", "most": 2}}
    history = {"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]}
    study = write_study(tmp_path, labs=visits, modalities=[history, labs])
    with pytest.warns(DataWarning, match=r"ordered by 'day' by the numbers in them, from 'visit 1', 'visit 9', 'visit"):
        cohort = Cohort.load(study)
    assert cohort.modalities["labs@2"]["crp"].to_dict() == {"001": 30}
    labs["repeats"] = {"by": "day", "most": 2, "order": ["visit 10", "visit 9", "visit 1"]}
    cohort = Cohort.load(write_study(tmp_path, labs=visits, modalities=[history, labs]), labelled=False)
    assert cohort.modalities["labs@2"]["crp"].to_dict() == {"001": 20}
    with pytest.raises(DataError, match=r"modality 'labs', 'day': the order of 'last', 'first' is not clear"):
        Cohort.load(write_study(tmp_path, labs="id,day,crp\n001,last,1\n001,first,2\n", modalities=study.modalities))


def test_an_order_lists_each_text_once():
    assert RepeatSpec(by="day", most=2, order=[1, "b"]).order == ["1", "b"]
    with pytest.raises(StudyError, match="a is listed twice"):
        RepeatSpec(by="day", most=2, order=["a", "a "])
