"""The stress test of cells: a column of a table or a variable of a series is empty, the modality is there."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from multimodn import Cohort
from multimodn.base.encoder import Encoder
from multimodn.encoders import TableEncoder, TableOptions
from multimodn.encoders.embedding import EmbeddingEncoder, EmbeddingOptions
from multimodn.encoders.series import SeriesEncoder, SeriesOptions
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.evaluate.stress.mechanisms import Mechanism
from multimodn.evaluate.stress.report import means
from multimodn.evaluate.stress.run import stress_run
from multimodn.evaluate.stress.stress import Plan, stress
from tests.encoders._frames import mixed_table
from tests.encoders._series_cases import measurements
from tests.missingness.test_audit_cells import make_study, planted

COLUMNS = (("labs", "b"),)
STEPS = make_study().steps


@pytest.fixture
def cohort():
    return planted(300, 0, 0.0)  # nothing is empty


def outcome(cohort):
    return cohort.targets["outcome"]["outcome"].astype(float)


def empty(cohort, modality="labs", column="b"):
    return cohort.modalities[modality][column].isna()


@given(hnp.arrays(bool, (60, 2)))
def test_cells_of_a_table_are_emptied_and_no_others(chosen):
    frame = mixed_table().iloc[:60]
    before = frame.copy()
    for columns in (["lactate", "site"], ["smoker", "nodes"]):
        emptied = pd.DataFrame(chosen[: len(frame)], frame.index, columns)
        after = TableEncoder.with_empty_cells(frame, emptied, TableOptions())
        expected = TableEncoder.empty_cells(frame, TableOptions())
        expected[columns] |= emptied
        pd.testing.assert_frame_equal(TableEncoder.empty_cells(after, TableOptions()), expected)
        pd.testing.assert_frame_equal(frame, before)
        others = [name for name in frame if name not in columns]
        pd.testing.assert_frame_equal(after[others], frame[others])


@given(hnp.arrays(bool, (40,)))
def test_measurements_of_a_variable_are_left_out_and_no_others(chosen):
    frame, options = measurements(40), SeriesOptions()
    cells = SeriesEncoder.empty_cells(frame, options)
    emptied = pd.DataFrame({"lactate": chosen}, cells.index)
    after = SeriesEncoder.with_empty_cells(frame, emptied, options)
    lost = frame["variable"].eq("lactate").to_numpy() & emptied["lactate"].reindex(frame.index).to_numpy()
    pd.testing.assert_frame_equal(after, frame[~lost])


def test_kinds_without_cells_cannot_empty_them():
    frame = pd.DataFrame({"f0": [1.0]}, ["p"])
    assert EmbeddingEncoder.with_empty_cells.__func__ is Encoder.with_empty_cells.__func__
    with pytest.raises(NotImplementedError, match="EmbeddingEncoder has no cells"):
        EmbeddingEncoder.with_empty_cells(frame, frame.isna(), EmbeddingOptions())


@pytest.mark.parametrize(("kind", "positive", "negative"), [("mnar", 0.8, 0), ("flipped", 0, 0.8), ("mcar", 0.8, 0.8)])
def test_cells_go_missing_by_outcome_and_modalities_stay(cohort, kind, positive, negative):
    blanked = Mechanism(kind, 0.8, columns=COLUMNS).apply(cohort, outcome(cohort), 1, STEPS)
    pd.testing.assert_frame_equal(blanked.presence, cohort.presence)
    shares = empty(blanked).groupby(outcome(cohort)).mean()
    assert shares[1.0] == pytest.approx(positive, abs=0.1)
    assert shares[0.0] == pytest.approx(negative, abs=0.1)
    assert not empty(cohort).any()
    for name, frame in cohort.modalities.items():
        others = frame.columns.drop("b", errors="ignore")
        pd.testing.assert_frame_equal(blanked.modalities[name][others], frame[others])


def test_a_column_can_be_empty_for_its_own_value_or_another_one(cohort):
    by_itself = Mechanism("self", 1.0, columns=COLUMNS).apply(cohort, seed=1, specs=STEPS)
    values = cohort.modalities["labs"]
    assert (empty(by_itself) == (values["b"] > values["b"].median())).all()
    by_first = Mechanism("mar", 1.0, columns=(*COLUMNS, ("labs", "a"))).apply(cohort, seed=1, specs=STEPS)
    assert (empty(by_first) == (values["c"] > values["c"].median())).all()  # the first that is not emptied
    with pytest.raises(StudyError, match="needs numbers in a column of a table: 'z' of 'labs'"):
        Mechanism("self", 1.0, columns=(("labs", "z"),)).apply(cohort, specs=STEPS)


def test_modalities_are_drawn_as_without_columns(cohort):
    alone = Mechanism("mnar", 0.6, ("other",)).apply(cohort, outcome(cohort), 3)
    both = Mechanism("mnar", 0.6, ("other",), columns=COLUMNS).apply(cohort, outcome(cohort), 3, STEPS)
    pd.testing.assert_frame_equal(both.presence, alone.presence)
    assert empty(both).any()


def test_complete_leaves_out_who_lacks_the_cell_or_its_modality(cohort):
    some = Mechanism("mcar", 0.5, columns=COLUMNS).apply(cohort, seed=1, specs=STEPS)
    lacking = some.modalities["labs"].index[:20]
    some = Cohort.from_frames(some.modalities | {"labs": some.modalities["labs"].drop(lacking)}, some.targets)
    mechanism = Mechanism("complete", columns=COLUMNS)
    whole = mechanism.apply(some, specs=STEPS)
    filled = some.modalities["labs"]["b"].dropna().index
    assert set(whole.patients) == set(filled)
    assert mechanism.has_all(some, STEPS).sum() == len(filled)
    nobody = Mechanism("mcar", 1.0, columns=COLUMNS).apply(cohort, specs=STEPS)
    with pytest.raises(DataError, match="no patient has all of b of labs"):
        mechanism.apply(nobody, specs=STEPS)


def test_a_patient_keeps_the_cells_of_a_modality_that_would_have_none_left(cohort):
    every = tuple(("labs", name) for name in "abc")
    with pytest.warns(DataWarning, match="without any cell of 'labs'; they keep them"):
        blanked = Mechanism("mcar", 0.9, columns=every).apply(cohort, seed=1, specs=STEPS)
    n_empty = blanked.modalities["labs"].isna().sum(axis=1)
    assert set(n_empty) == {0, 1, 2}  # all three were drawn for most


@pytest.mark.parametrize(
    ("columns", "message"),
    [((("labs", "bb"),), r"'labs' has no column 'bb'\..*b"), ((("lab", "b"),), r"unknown modality 'lab'.*labs")],
)
def test_an_unknown_column_is_named(cohort, columns, message):
    with pytest.raises(StudyError, match=message):
        stress(make_study(), cohort, Plan("outcome", columns=columns), arms={"a": constant})
    with pytest.raises(StudyError, match=re.escape("'labs' names no column. Write modality:column")):
        stress_run(make_study(), None, columns=["labs"])


def constant(study, training, seed):
    """An arm that answers whether the cell is filled; of training patients it says nothing."""
    return {"a": lambda cohort: {"outcome": 1.0 - empty(cohort).to_numpy(dtype=np.float64)[:, None]}}


def test_emptiness_alone_scores_what_the_mechanism_makes_it_worth(cohort):
    plan = Plan("outcome", columns=COLUMNS, n_folds=2, mcar=(1.0,), each_subset=False)
    auroc = means(stress(make_study(), cohort, plan, arms={"a": constant}), "outcome", "auroc").loc["a"]
    assert auroc["same:0.8"] == pytest.approx(0.1, abs=0.05)
    assert auroc["flipped:0.8"] == pytest.approx(0.9, abs=0.05)
    assert auroc["complete"] == auroc["natural"] == auroc["mcar:1"] == 0.5


def test_training_lacks_the_cells_and_the_oracle_does_not(cohort):
    seen = {}

    def arm(name):
        def trainer(study, training, seed):
            seen[name] = empty(training).groupby(outcome(training)).mean().to_dict()
            return constant(study, training, seed)

        return trainer

    plan = Plan("outcome", columns=COLUMNS, n_folds=2, mcar=(), each_subset=False)
    stress(make_study(), cohort, plan, arms={name: arm(name) for name in ("a", "oracle")})
    assert seen["oracle"] == {0.0: 0.0, 1.0: 0.0}
    assert seen["a"] == {0.0: 0.0, 1.0: pytest.approx(0.8, abs=0.1)}


@pytest.mark.filterwarnings("ignore:Mechanism:multimodn.errors.DataWarning")  # who was measured for nothing else
@pytest.mark.parametrize("kind", ["mcar", "mnar", "flipped"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_variables_of_a_series_go_missing(kind, strength):
    frame = measurements(40)
    ids = frame.index.unique()
    targets = pd.DataFrame({"outcome": np.arange(40) % 2}, ids)
    cohort = Cohort.from_frames({"vitals": frame}, {"outcome": targets}, several_rows=["vitals"])
    specs = make_study(["vitals"], vitals={"kind": "series"}).steps
    mechanism = Mechanism(kind, strength, columns=(("vitals", "lactate"),))
    blanked = mechanism.apply(cohort, outcome(cohort), 1, specs)
    assert blanked.presence.equals(cohort.presence)
    after = blanked.modalities["vitals"]
    pd.testing.assert_frame_equal(after[after["variable"] != "lactate"], frame[frame["variable"] != "lactate"])
    has_others = cohort.patients.isin(frame.index[frame["variable"] != "lactate"])
    high = {"mcar": [0.0, 1.0], "mnar": [1.0], "flipped": [0.0]}[kind]
    at_risk = cohort.patients[has_others & outcome(cohort).isin(high)]
    measured = at_risk.isin(after.index[after["variable"] == "lactate"])
    before = at_risk.isin(frame.index[frame["variable"] == "lactate"])
    assert measured.sum() == before.sum() if strength == 0.0 else measured.sum() <= (1 - strength) * len(at_risk) + 5
    assert strength < 1.0 or not measured.any()
