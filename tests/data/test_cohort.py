import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, StudyError
from tests.data._studies import CLINICAL, LABS, study_dict, write_study


def test_patients_are_joined_by_key_and_present_where_they_have_values(tmp_path):
    cohort = Cohort.load(write_study(tmp_path))
    assert list(cohort.patients) == ["001", "002", "010", "011"]
    assert cohort.modalities["labs"].loc["001"].tolist() == [2.5, 139]
    assert cohort.presence["labs"].tolist() == [True, True, False, False]  # 011 has a row without a value
    assert cohort.presence["history"].tolist() == [True, True, False, False]
    assert cohort.targets["death"]["status"].tolist() == ["dead", "alive", "alive", "dead"]
    assert repr(cohort) == "Cohort(4 patients; modalities: history 2x1, labs 2x2; labels: death 4)"


def test_group_and_split_come_from_their_columns(tmp_path):
    clinical = "id,site,age,status,part\n" + "".join(f"0{i},0{i % 2},{i},{'ab'[i % 2]},train\n" for i in range(4))
    data = study_dict()
    study = write_study(
        tmp_path, clinical, "id,crp\n00,1\n01,2\n", cohort=data["cohort"] | {"group": "site"}, split={"column": "part"}
    )
    cohort = Cohort.load(study)
    assert cohort.groups.tolist() == ["00", "01", "00", "01"]
    assert cohort.split.tolist() == ["train"] * 4


def test_to_predict_no_label_is_needed(tmp_path):
    study = write_study(tmp_path)
    (tmp_path / "clinical.csv").write_text("id,age\n7,50\n")
    new = pd.DataFrame({"id": [7, 8], "crp": [1.0, 2.0], "sodium": [3.0, np.nan], "extra": 1.0})
    cohort = Cohort.load(study, labelled=False, sources={"labs": new})
    assert list(cohort.patients) == ["7", "8"]
    assert cohort.targets == {}
    assert cohort.groups is None
    assert "extra" in cohort.modalities["labs"]
    assert list(new.columns) == ["id", "crp", "sodium", "extra"]


def test_to_predict_a_source_and_a_left_out_target_may_be_absent(tmp_path):
    data = study_dict()
    data["modalities"][0]["columns"] = {"all_but": ["status", "site"]}
    study = write_study(tmp_path, modalities=data["modalities"])
    (tmp_path / "new.csv").write_text("id,age\n7,50\n")
    cohort = Cohort.load(study, labelled=False, sources={"clinical": tmp_path / "new.csv", "labs": None})
    assert list(cohort.modalities) == ["history"]
    assert list(cohort.modalities["history"].columns) == ["age"]


@pytest.mark.parametrize(
    ("clinical", "labs", "message"),
    [
        (CLINICAL + "001,a,1,dead\n", LABS, r"source 'clinical': 1 patient\(s\) have several rows: 001"),
        (CLINICAL + ",a,1,dead\n", LABS, r"source 'clinical': the patient key is empty in 1 row\(s\), first in row 5"),
        (CLINICAL + " ,a,1,dead\n", LABS, r"the patient key is empty"),
        (CLINICAL.replace("id,", "pid,"), LABS, r"source 'clinical': .*no key column 'id'\. Did you mean 'pid'"),
        ("id,site,age,status\n", LABS, r"source 'clinical': there are no rows"),
        (CLINICAL.replace("age", "agee"), LABS, r"'history': source 'clinical' has no column 'age'\. Did you mean"),
        (CLINICAL.replace("status", "state"), LABS, r"source 'clinical' has no column 'status', a target of task"),
        (CLINICAL, LABS.replace("1.5", "inf"), r"modality 'labs', column 'crp': 1 infinite .* patient '002'"),
        (CLINICAL, LABS.replace("1.5", "1e309"), r"column 'crp': 1 infinite"),
        (CLINICAL, "id,crp\n001,\n", r"modality 'labs': no patient has it"),
        (CLINICAL, "id\n001\n", r"no column of source 'labs' is left"),
        (CLINICAL, LABS.replace("crp", "status"), r"'labs': its inputs include 'status' \(a target of task 'death'\)"),
    ],
)
def test_data_that_cannot_be_used_are_refused(tmp_path, clinical, labs, message):
    with pytest.raises(DataError, match=message):
        Cohort.load(write_study(tmp_path, clinical, labs))


def test_a_target_in_all_columns_is_refused_with_the_repair(tmp_path):
    modalities = [{"name": "history", "kind": "table", "source": "clinical"}]
    study = write_study(tmp_path, modalities=modalities)
    with pytest.raises(DataError, match=r"'status' \(a target of task 'death'\).*all_but: \[status\]"):
        Cohort.load(study)


def test_the_key_is_no_input(tmp_path):
    modalities = [{"name": "history", "kind": "table", "source": "clinical", "columns": ["id", "age"]}]
    with pytest.raises(DataError, match=r"the patient key 'id' cannot be an input"):
        Cohort.load(write_study(tmp_path, modalities=modalities))


def test_all_problems_are_told_at_once(tmp_path):
    study = write_study(tmp_path, CLINICAL + "001,a,1,dead\n", LABS.replace("1.5", "inf"))
    with pytest.raises(DataError, match="2 problems"):
        Cohort.load(study)


def test_a_replaced_source_must_exist(tmp_path):
    with pytest.raises(StudyError, match=r"Unknown source 'lab'\. Did you mean 'labs'\?"):
        Cohort.load(write_study(tmp_path), sources={"lab": None})
    with pytest.raises(DataError, match="source 'clinical': it is None, but targets or the split are read from it"):
        Cohort.load(write_study(tmp_path), sources={"clinical": None})


def test_orphans_are_kept_unlabelled_and_told(tmp_path):
    with pytest.warns(DataWarning, match=r"modality 'labs': 1 of 3 patients have no row in the targets.*: 099"):
        cohort = Cohort.load(write_study(tmp_path, labs=LABS + "099,1,2\n"))
    assert cohort.targets["death"]["status"].isna().tolist() == [False] * 4 + [True]
    assert len(cohort.notes) == 1


def frames(n_patients, seed=0):
    generator = np.random.default_rng(seed)
    ids = [f"p{i:03d}" for i in range(n_patients)]
    table = pd.DataFrame(generator.normal(size=(n_patients, 3)), index=ids, columns=["a", "b", "c"])
    return table, pd.DataFrame({"y": generator.integers(0, 2, n_patients)}, index=ids)


@given(st.permutations(range(12)), st.integers(0, 11))
def test_the_hash_depends_on_content_alone(order, changed):
    table, target = frames(12)
    table.iloc[0, 1] = np.nan
    cohort = Cohort.from_frames({"m": table}, {"t": target})
    shuffled = Cohort.from_frames(
        {"m": table.iloc[list(order)][["c", "a", "b"]].astype(object).infer_objects()},
        {"t": target.iloc[list(reversed(order))].astype(float)},
    )
    assert shuffled.hash() == cohort.hash()
    other = table.copy()
    other.iloc[changed, 2] += 1e-9
    assert Cohort.from_frames({"m": other}, {"t": target}).hash() != cohort.hash()


@given(st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_subset_holds_its_patients_rows_and_no_others(chosen):
    table, target = frames(8)
    cohort = Cohort.from_frames({"m": table.iloc[:5]}, {"t": target})
    part = cohort.subset(np.array(chosen))
    assert list(part.patients) == [p for p, c in zip(cohort.patients, chosen, strict=True) if c]
    assert set(part.modalities["m"].index) == set(part.patients) & set(table.index[:5])
    same = cohort.subset(list(part.patients))
    assert same.hash() == part.hash()
    assert part.targets["t"].index.equals(part.patients)


def test_a_subset_follows_the_order_asked_for_and_knows_its_patients():
    table, target = frames(4)
    cohort = Cohort.from_frames({"m": table}, {"t": target})
    assert list(cohort.subset(["p003", "p001"]).patients) == ["p003", "p001"]
    assert len(cohort.subset([])) == 0
    with pytest.raises(DataError, match=r"1 patient\(s\) are not in the cohort: p9"):
        cohort.subset(["p9"])
    with pytest.raises(DataError, match=r"named twice: p001"):
        cohort.subset(["p001", "p001"])
    with pytest.raises(DataError, match=r"one boolean for each of 4 patients, found 2"):
        cohort.subset(np.array([True, False]))


def test_frames_are_joined_by_index_and_not_changed():
    table, target = frames(4)
    table.index = target.index = pd.Index([3, 1, 2, 0])
    before = table.copy()
    groups = pd.Series(["x", "y"], index=[1, 2])
    cohort = Cohort.from_frames({"m": table}, {"t": target["y"]}, patients=[2, 3], groups=groups)
    assert list(cohort.patients) == ["2", "3"]
    assert cohort.modalities["m"].loc["2"].tolist() == table.loc[2].tolist()
    assert cohort.targets["t"]["y"].tolist() == target["y"].loc[[2, 3]].tolist()
    assert cohort.groups.iloc[0] == "y"
    pd.testing.assert_frame_equal(table, before)


def test_frames_with_faults_are_refused():
    table, target = frames(4)
    with pytest.raises(DataError, match=r"'m'.* have several rows: p000"):
        Cohort.from_frames({"m": pd.concat([table, table.iloc[:1]])}, {"t": target})
    with pytest.raises(DataError, match="The cohort is empty"):
        Cohort.from_frames({"m": table}, patients=[])
    with pytest.raises(DataError, match="the patient key holds float64"):
        Cohort.from_frames({"m": table.set_axis([0.5, 1, 2, 3])})
    with pytest.raises(DataError, match="infinite"):
        Cohort.from_frames({"m": table.replace(table.iloc[0, 0], np.inf)})


def test_loading_ten_thousand_rows_copies_no_numbers(tmp_path):
    n = 10_000
    rows = "\n".join(f"{i:06d},{i % 3 == 0:d}," + ",".join(["1.5", "2.5"]) for i in range(n))
    (tmp_path / "clinical.csv").write_text(f"id,status,a,b\n{rows}\n")
    modalities = [{"name": "m", "kind": "table", "source": "clinical", "columns": {"all_but": ["status"]}}]
    study = write_study(tmp_path, (tmp_path / "clinical.csv").read_text(), modalities=modalities)
    with pytest.warns(DataWarning, match="2 column\\(s\\) are constant: a, b"):
        frame = Cohort.load(study).modalities["m"]
    assert frame["a"].to_numpy().base is not None  # a view of the block that was read
    assert frame.dtypes.unique().tolist() == [np.float32]


def test_times_and_codes_of_a_series_keep_every_digit(tmp_path):
    rows = "".join(f"{p},{1700000000 + 20 * k}.0,{40762351 + k % 3}.0,{k}\n" for p in ("001", "002") for k in range(6))
    series = {"name": "labs", "kind": "series", "source": "labs"}
    history = {"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]}
    study = write_study(tmp_path, labs="id,time,variable,value\n" + rows, modalities=[history, series])
    frame = Cohort.load(study, labelled=False).modalities["labs"]
    assert frame.loc["001", "time"].tolist() == [1700000000 + 20 * k for k in range(6)]
    assert frame["variable"].nunique() == 3
