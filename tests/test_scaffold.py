import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodn.base.kinds import load_kind
from multimodn.data.cohort import Cohort
from multimodn.data.follow_up import is_time, is_time_name
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.scaffold.infer_task import infer_task
from multimodn.scaffold.times import unit_of
from multimodn.scaffold.write_study import write_study
from multimodn.study.sources import EMPTY
from multimodn.study.study import Study
from multimodn.study.training import advised_members

N = 40


@pytest.fixture
def tables(tmp_path):
    generator = np.random.default_rng(0)
    ids = [f"{i:03d}" for i in range(N)]
    clinical = pd.DataFrame({"id": ids, "age": generator.normal(60, 9, N), "sex": generator.choice(["f", "m"], N)})
    clinical["code"] = [f"code-{i}" for i in range(N)]
    clinical["stage"] = generator.choice(["Stage I", "Stage IIa", "Stage III"], N)
    clinical["death"] = generator.integers(0, 2, N)
    clinical["days_to_death"] = generator.integers(1, 999, N)
    clinical["values"] = generator.choice(["red", "green", "blue"], N)
    clinical.to_csv(tmp_path / "clinical data.csv", index=False)
    np.savez(tmp_path / "images.npz", patient=ids, features=generator.normal(size=(N, 4)))
    return [tmp_path / "clinical data.csv", tmp_path / "images.npz"]


TARGETS = ["stage", "death", "values", "days_to_death"]


def test_the_file_loads_and_so_do_its_data(tables, tmp_path):
    out = tmp_path / "studies" / "first.yaml"
    text = write_study(tables, "id", TARGETS, out)
    assert out.read_text() == text
    study = Study.load(out)
    assert [(task.name, task.kind) for task in study.tasks] == [
        ("stage", "ordinal"),
        ("death", "survival"),
        ("values_", "multiclass"),
    ]
    assert [(modality.name, modality.kind) for modality in study.modalities] == [("images", "embedding")]
    assert len(Cohort.load(study)) == N
    assert [file.name for file in out.parent.iterdir()] == ["first.yaml"]


def test_every_inference_is_stated(tables, tmp_path):
    text = write_study(tables[:1], "id", ["stage", "death", "values"], tmp_path / "s.yaml")
    text += write_study(tables, "id", TARGETS, tmp_path / "t.yaml")
    for comment in (
        "kind: ordinal   # inferred: values Stage I, Stage IIa, Stage III look ordered; alternatives: multi",
        "classes: [Stage I, Stage IIa, Stage III]   # inferred; check",
        "kind: binary   # inferred: two values, 0, 1",
        "{kind: survival, time: days_to_death, event: death, event_positive: 1, unit: days}",
        "kind: survival   # inferred: a time and an event, two values, 0, 1",
        "as times until an outcome or the end of observation: days_to_death",
        "# - {name: clinical_data, kind: table, source: clinical_data, columns: [age, sex]}",
        "# numeric (1): age",
        "# categorical (1): sex",
        "as nearly every patient has another text: code",
        "kind: embedding   # inferred from .npz",
    ):
        assert comment in text


@pytest.mark.parametrize(
    ("n", "members", "said"),
    [
        (12, 1, "as there are only 12 patients: too few"),
        (40, 5, "An ensemble over folds, as there are 40 patients"),
        (5_000, 1, "One network, as there are 5,000 patients"),
    ],
)
def test_the_size_of_the_cohort_decides_how_many_networks_are_trained(tmp_path, n, members, said):
    ids = [f"{i:05d}" for i in range(n)]
    table = pd.DataFrame({"id": ids, "age": np.arange(n) % 90 + 0.5, "died": np.arange(n) % 2})
    table.iloc[: n // 2].drop(columns="died").to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "b.csv", index=False)
    text = write_study([tmp_path / "a.csv", tmp_path / "b.csv"], "id", ["died"], tmp_path / "s.yaml")
    assert said in text
    assert Study.load(tmp_path / "s.yaml").training.members == members == advised_members(n)


@pytest.mark.parametrize(
    ("values", "kind", "options"),
    [
        (["yes", "no", None], "binary", {"positive": "yes"}),
        ([0.0, 1.0, np.nan], "binary", {"positive": 1}),
        (["t3", "t1", "T2", None], "ordinal", {"classes": ["t1", "T2", "t3"]}),
        (["iv", "i", "iii"], "ordinal", {"classes": ["i", "iii", "iv"]}),
        (["IIIB", "II", "IIIA"], "ordinal", {"classes": ["II", "IIIA", "IIIB"]}),
        ([2.0, 0.0, 1.0, np.nan], "ordinal", {"classes": [0, 1, 2]}),
        (["r0", "r1", "rx"], "multiclass", {}),
        ([0.5, 1.5, 2.5], "regression", {}),
        (list(range(100)), "regression", {}),
        (["Dead", "Dead", "Alive"], "binary", {"positive": "Dead"}),
        (["Yes", "yes ", "No", "no", "yes", "Yes"], "binary", {"positive": "Yes"}),
        (["1", "yes", "0", "no", "1", "0"], "binary", {"positive": "1"}),
        (["n.a.", *(f"{i}.5" for i in range(30))], "regression", {}),
        (["yes", "no", "unknown"], "binary", {"positive": "yes"}),
        (["<0.5", *map(str, range(30))], "regression", {}),
        (["b", "a", "b"], "binary", {"positive": "a"}),
    ],
)
def test_kinds_are_inferred_from_values(values, kind, options):
    inferred = infer_task(pd.Series(values))
    assert (inferred.kind, inferred.options) == (kind, options)


def test_what_was_decided_about_labels_is_said():
    assert infer_task(pd.Series(["b", "a", "b"])).notes == ["positive: the rarer one, as no word tells; check"]
    inferred = infer_task(pd.Series(["yes", "Yes", "no", "n.a.", "yes"]))
    assert inferred.empty == ["n.a."]
    assert inferred.notes == ["other spellings: 'Yes' as 'yes' (1)", "cells that seem to be empty: 'n.a.' (1)"][::-1]


@pytest.mark.parametrize(
    "values", [[f"2020-{1 + i % 12:02d}-01" for i in range(40)], [20200101 + i for i in range(20)]]
)
def test_dates_are_no_targets(values):
    with pytest.raises(DataError, match=r"target 'y' holds dates such as '2020.*days since the diagnosis"):
        infer_task(pd.Series(values, name="y"))


def test_many_texts_are_doubted():
    assert "check the column" in infer_task(pd.Series([f"t{i}x" for i in range(50)])).reason


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (["deth"], StudyError, r"no table has a column 'deth'\. Did you mean 'death'\?"),
        ([], StudyError, "name at least one target"),
        (["same"], DataError, r"target 'same' has 1 distinct value"),
    ],
)
def test_targets_that_cannot_be_used_are_named(tables, tmp_path, targets, error, message):
    frame = pd.read_csv(tables[0], dtype={"id": str}).assign(same=1)
    frame.to_csv(tables[0], index=False)
    with pytest.raises(error, match=message):
        write_study(tables, "id", targets, tmp_path / "s.yaml")
    assert not (tmp_path / "s.yaml").exists()


def test_tables_that_cannot_be_used_are_named(tables, tmp_path):
    out = tmp_path / "s.yaml"
    with pytest.raises(DataError, match=r"no key column 'ids'"):
        write_study(tables, "ids", ["death"], out)
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        write_study([tmp_path / "none.csv"], "id", ["death"], out)
    with pytest.raises(DataError, match=r"a \.npy has no patient identifiers"):
        write_study([tmp_path / "x.npy"], "id", ["death"], out)
    with pytest.raises(StudyError, match=r"Several tables are called clinical_data"):
        write_study([tables[0], tables[0]], "id", ["death"], out)
    with pytest.raises(StudyError, match=r"Name at least one table"):
        write_study([], "id", ["death"], out)
    copy = tmp_path / "copy.csv"
    copy.write_text(tables[0].read_text())
    with pytest.raises(StudyError, match=r"target 'death' is in several tables: clinical_data, copy"):
        write_study([tables[0], copy], "id", ["death"], out)


def test_a_file_is_not_overwritten_unless_asked(tables, tmp_path):
    out = tmp_path / "s.yaml"
    out.write_text("mine")
    with pytest.raises(StudyError, match=r"s\.yaml exists"):
        write_study(tables, "id", ["death"], out)
    assert out.read_text() == "mine"
    write_study(tables, "id", ["death"], out, overwrite=True)
    assert Study.load(out).name == "s"


def test_an_interruption_leaves_the_old_file(tables, tmp_path, monkeypatch):
    out = tmp_path / "studies" / "s.yaml"
    out.parent.mkdir()
    out.write_text("mine")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_study(tables, "id", ["death"], out, overwrite=True)
    assert out.read_text() == "mine"
    assert [file.name for file in out.parent.iterdir()] == ["s.yaml"]


def test_folders_become_modalities_too(tables, tmp_path):
    for folder, names in {"features": "{}_a.h5", "notes": "{}.txt", "scans": "{}/scan.nii.gz"}.items():
        for i in range(5):
            file = tmp_path / folder / names.format(f"{i:03d}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")
    folders = [tmp_path / name for name in ("features", "notes", "scans")]
    text = write_study([*tables, *folders], "id", ["death"], tmp_path / "studies" / "s.yaml")
    study = Study.load(tmp_path / "studies" / "s.yaml")
    assert {m.name: m.kind for m in study.modalities} | {"features": "slide", "notes": "text", "scans": "volume"} == {
        m.name: m.kind for m in study.modalities
    }
    cohort = Cohort.load(study)
    for name in ("features", "notes", "scans"):
        assert cohort.modalities[name].index.tolist() == [f"{i:03d}" for i in range(5)]
    assert "# 5 files of 5 patients, 5 of them in a table" in text


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["{}.jpg", "{}.png", "{}.jpeg"], "mixed/*.{jpeg,jpg,png}"),
        (["{}.PNG"], "mixed/*.png"),
        (["{}.PNG", "{}.png"], "mixed/*.png"),
        (["{}.NII.GZ", "{}.nii"], "mixed/*.{nii,nii.gz}"),
        (["{}.TXT", "more/{}.txt"], "mixed/**/*.txt"),
        (["{}_a.H5"], "mixed/*.h5"),
    ],
)
def test_all_files_of_a_folder_are_read_whatever_their_suffixes(tables, tmp_path, names, pattern):
    for i in range(5):
        file = tmp_path / "mixed" / names[i % len(names)].format(f"{i:03d}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    text = write_study([*tables, tmp_path / "mixed"], "id", ["death"], tmp_path / "s.yaml")
    assert f"files: '{pattern}'" in text
    assert "# 5 files of 5 patients, 5 of them in a table" in text
    assert Cohort.load(Study.load(tmp_path / "s.yaml"), labelled=False).presence["mixed"].sum() == 5


def test_files_of_a_folder_that_are_left_out_are_counted(tables, tmp_path):
    for i in range(5):
        for suffix in (".dcm", ".png", ".csv"):
            (tmp_path / "scans").mkdir(exist_ok=True)
            (tmp_path / "scans" / f"{i:03d}{suffix if i or suffix != '.dcm' else '.DCM'}").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"scans is read as image: 5 files \(\.dcm\)\. Left out: 5 \.csv, 5 \.png"):
        text = write_study([*tables, tmp_path / "scans"], "id", ["death"], tmp_path / "s.yaml")
    assert "files: 'scans/*.dcm'" in text
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "001.DOCX").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds 1 \.docx files\. Save their text as \.txt"):
        write_study([*tables, tmp_path / "letters"], "id", ["death"], tmp_path / "t.yaml")


def test_a_folder_of_slides_says_what_to_do_first(tables, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "001.svs").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="2 problems") as caught:
        write_study([*tables, tmp_path / "scans", tmp_path / "empty"], "id", ["death"], tmp_path / "s.yaml")
    assert "multimodn embed-slides" in str(caught.value)
    assert "no files of a known kind" in str(caught.value)


def outcomes(tmp_path, n=60):
    """Writes a table of labs, and one of outcomes in which only the dead have a time of death."""
    generator, is_dead = np.random.default_rng(1), np.arange(n) % 3 == 0
    ids = [f"P{i:03d}" for i in range(n)]
    pd.DataFrame({"id": ids, "crp": generator.normal(size=n)}).to_csv(tmp_path / "labs.csv", index=False)
    table = pd.DataFrame(
        {"id": ids, "vital_status": np.where(is_dead, "Dead", "Alive"), "ward": generator.choice(2, n)}
    )
    table["days_to_death"] = np.where(is_dead, generator.integers(1, 999, n), np.nan)
    table["days_to_last_followup"] = np.where(is_dead, np.nan, generator.integers(1, 999, n))
    table["OS"], table["Death"] = generator.integers(1, 99, n), is_dead.astype(int)
    table["os 1"], table["os_1"] = generator.choice(["x", "y"], n), generator.choice(["x", "y"], n)
    table.to_csv(tmp_path / "outcome.csv", index=False)
    return [tmp_path / "labs.csv", tmp_path / "outcome.csv"]


def test_the_table_of_the_targets_is_no_modality_unless_it_is_the_only_one(tmp_path):
    tables = outcomes(tmp_path)
    text = write_study(tables, "id", ["Death"], tmp_path / "s.yaml")
    assert [modality.name for modality in Study.load(tmp_path / "s.yaml").modalities] == ["labs"]
    assert "# - {name: outcome, kind: table, source: outcome, columns: [ward]}" in text
    write_study(tables[1:], "id", ["Death"], tmp_path / "t.yaml")
    (modality,) = Study.load(tmp_path / "t.yaml").modalities
    left_out = ["Death", "vital_status", "days_to_death", "days_to_last_followup", "OS"]
    assert modality.columns.all_but == left_out
    text = (tmp_path / "t.yaml").read_text()
    assert "vital_status (the same), days_to_death (filled for one class only)" in text
    pd.read_csv(tables[1])[["id", "Death"]].to_csv(tables[1], index=False)
    with pytest.raises(StudyError, match="holds targets only; name a table or folder of inputs too"):
        write_study(tables[1:], "id", ["Death"], tmp_path / "u.yaml")


@pytest.mark.parametrize(
    ("targets", "time", "event", "positive"),
    [
        (["OS", "Death"], "OS", "Death", 1),
        (["Death", "OS"], "OS", "Death", 1),
        (["vital_status", "OS"], "OS", "vital_status", "Dead"),
    ],
)
def test_a_time_and_an_event_become_survival(tmp_path, targets, time, event, positive):
    write_study(outcomes(tmp_path), "id", targets, tmp_path / "s.yaml")
    (task,) = Study.load(tmp_path / "s.yaml").tasks
    assert (task.kind, task.options.time, task.options.event) == ("survival", time, event)
    assert task.options.event_positive == positive


def test_endpoints_with_their_own_times_are_paired_by_name(tmp_path):
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"id": range(50), "x": generator.normal(size=50)})
    for name in ("PFS", "OS"):
        table[f"{name}_STATUS"], table[f"{name}_MONTHS"] = generator.choice(["0:LIVING", "1:DECEASED"], 50), range(50)
    table.to_csv(tmp_path / "t.csv", index=False)
    targets = ["OS_STATUS", "PFS_MONTHS", "PFS_STATUS", "OS_MONTHS"]
    write_study([tmp_path / "t.csv"], "id", targets, tmp_path / "s.yaml")
    study = Study.load(tmp_path / "s.yaml")
    assert [(t.name, t.options.time, t.options.event_positive) for t in study.tasks] == [
        ("OS_STATUS", "OS_MONTHS", "1:DECEASED"),
        ("PFS_STATUS", "PFS_MONTHS", "1:DECEASED"),
    ]
    assert [task.options.unit for task in study.tasks] == ["months", "months"]


def test_a_time_without_an_event_is_doubted(tmp_path):
    text = write_study(outcomes(tmp_path), "id", ["OS"], tmp_path / "s.yaml")
    assert "this looks like a time until an event or the end of observation" in text


def test_the_time_of_the_living_is_proposed_too(tmp_path):
    text = write_study(outcomes(tmp_path), "id", ["vital_status"], tmp_path / "s.yaml")
    assert "{kind: survival, time: OS, event: vital_status, event_positive: Dead}" in text
    table = pd.read_csv(tmp_path / "outcome.csv").drop(columns="OS")
    table.to_csv(tmp_path / "outcome.csv", index=False)
    text = write_study([tmp_path / "labs.csv", tmp_path / "outcome.csv"], "id", ["vital_status"], tmp_path / "t.yaml")
    assert "time: [days_to_death, days_to_last_followup], event: vital_status" in text
    targets = ["vital_status", "days_to_death", "days_to_last_followup"]
    write_study([tmp_path / "labs.csv", tmp_path / "outcome.csv"], "id", targets, tmp_path / "u.yaml")
    (task,) = Study.load(tmp_path / "u.yaml").tasks
    assert task.options.time == ("days_to_death", "days_to_last_followup")
    assert task.options.unit == "days"
    labels = Cohort.load(Study.load(tmp_path / "u.yaml")).targets["vital_status"]
    assert labels[list(task.options.time)].notna().any(axis=1).all()


def test_names_that_are_valid_only_in_quotes_load(tmp_path):
    labs, outcome = outcomes(tmp_path)
    table = pd.read_csv(labs).rename(columns={"crp": "crp, [mg]"})
    table["follow, up: {time}\nin days"] = range(len(table))
    files = [tmp_path / f"{name}.csv" for name in ("2024", "null", "true", "1e3", "~")]
    for file in files:
        table.to_csv(file, index=False)
    write_study([*files, outcome], "id", ["os 1", "os_1"], tmp_path / "s.yaml")
    study = Study.load(tmp_path / "s.yaml")
    assert [modality.name for modality in study.modalities] == ["2024", "null", "true", "1e3", "_"]
    assert [task.name for task in study.tasks] == ["os_1", "os_1_2"]
    assert study.modalities[0].columns.all_but == ["follow, up: {time}\nin days"]
    assert list(Cohort.load(study).modalities["null"].columns) == ["crp, [mg]"]


@given(
    st.lists(
        st.text(min_size=1, max_size=12).filter(lambda name: name.strip() == name), min_size=3, max_size=4, unique=True
    ),
    st.sampled_from([["yes", "no"], ["null", "true"], ["1:a, b", "0: {c}"], [0.5, 2.0, 3.5, 4.0]]),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_written_study_loads_whatever_the_columns_are_called(tmp_path, names, labels):
    patient, target, column = names[:3]
    frame = pd.DataFrame({patient: [f"P{i}" for i in range(20)], target: (labels * 20)[:20], column: np.arange(20) / 2})
    pd.DataFrame({patient: frame[patient], "x": range(20)}).to_parquet(tmp_path / "x.parquet")
    frame.to_parquet(tmp_path / "y.parquet")
    tables = [tmp_path / "x.parquet", tmp_path / "y.parquet"]
    for some in ([tables[1]], tables) if patient != "x" else ([tables[1]],):
        write_study(some, patient, [target], tmp_path / "s.yaml", overwrite=True)
        study = Study.load(tmp_path / "s.yaml")
        assert study.cohort.patient == patient
        assert study.tasks[0].options.target == target


TIMES = """days months years OS OS_MONTHS OS.time futime survival_months days_to_death last_contact_days_to PFS_time TTP
Survival.months OSmonths timeToDeath follow_up_time follow-up rfstime dtime DaysToDeath osmonths survtime
time_to_event"""
OTHERS = """age age_years days_to_birth pack_years smoking_years year month year_of_diagnosis timepoint los
hospital_days
vital_status last_name tumor_size position os_status days_to_diagnosis sodium date status"""


def test_times_are_known_by_their_names_and_values():
    assert [name for name in TIMES.split() if not is_time_name(name)] == []
    assert [name for name in OTHERS.split() if is_time_name(name)] == []
    assert not is_time("days", pd.Series([0, 1, 1]))  # an event
    assert not is_time("days", pd.Series([-5.0, -3.0, 2.0, 4.0]))  # changes
    assert unit_of(["OS_MONTHS", "PFS_MONTHS"]) == "months"
    assert unit_of(["days_to_death", "OS_MONTHS"]) is None


@pytest.mark.parametrize(
    ("spell", "rule"),
    [
        (lambda key: f"{int(key[1:]):05d}", "zero_pad"),
        (lambda key: key.lower(), "case"),
        (lambda key: f"{key} ", "strip"),
        (lambda key: f'="{key}"', "unquote"),
    ],
)
def test_identifiers_that_tables_spell_differently_get_a_rule(tmp_path, spell, rule):
    labs, outcome = outcomes(tmp_path)
    table, other = pd.read_csv(labs), pd.read_csv(outcome)
    if rule == "zero_pad":
        other["id"] = [str(int(key[1:])) for key in other["id"]]
        other.to_csv(outcome, index=False)
    table.assign(id=table["id"].map(spell)).to_csv(labs, index=False)
    text = write_study([labs, outcome], "id", ["Death"], tmp_path / "s.yaml")
    study = Study.load(tmp_path / "s.yaml")
    assert rule in study.cohort.sources["labs"].key.model_dump()
    assert study.cohort.sources["outcome"].key is None
    assert len(Cohort.load(study)) == len(table)
    assert "identifiers are spelled differently: '" in text


def plain(generator, n=40):
    return [f"{value:.1f}" for value in generator.uniform(1, 9, n)]


@pytest.mark.parametrize(
    ("rewrite", "form", "options"),
    [
        (lambda cells: ["<0.5", *cells[1:]], {}, {"detection_limit": "half"}),
        (lambda cells: [cell.replace(".", ",") for cell in cells], {"sep": ";"}, {"delimiter": ";", "decimal": ","}),
        (lambda cells: [f"{cell} mmol/L" for cell in cells], {}, {"units": "strip"}),
        (
            lambda cells: [f"<{cell} %" if k == 2 else f"{cell} %" for k, cell in enumerate(cells)],
            {},
            {"units": "strip"},
        ),
        (lambda cells: ["k.A.", *cells[1:]], {}, {"empty": [*EMPTY, "k.A."]}),
        (lambda cells: cells, {"encoding": "cp1252"}, {"encoding": "cp1252"}),
        (lambda cells: cells, {}, {}),
    ],
)
@pytest.mark.filterwarnings("ignore:Notes on the data")
def test_init_and_fit_read_the_same(tmp_path, rewrite, form, options):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"id": [f"P{i}" for i in range(40)], "größe": rewrite(plain(generator))})
    frame.to_csv(tmp_path / "labs.csv", index=False, **form)
    labels = ["yes", "no", "yes", "unknown"] * 10
    frame[["id"]].assign(died=labels).to_csv(tmp_path / "out.csv", index=False)
    text = write_study([tmp_path / "labs.csv", tmp_path / "out.csv"], "id", ["died"], tmp_path / "s.yaml")
    study = Study.load(tmp_path / "s.yaml")
    given = study.cohort.sources["labs"].model_dump()
    assert options.items() <= (given if isinstance(given, dict) else {}).items()
    assert "numeric (1): größe" in text
    cohort = Cohort.load(study)
    assert pd.api.types.is_numeric_dtype(cohort.modalities["labs"]["größe"].dtype)
    assert cohort.targets["died"]["died"].isna().sum() == 10


def test_categories_stay_texts(tmp_path):
    bands = ["<40", "40-49", ">=50", "40-49"] * 10
    frame = pd.DataFrame({"id": range(40), "age": bands, "grade": ["1a", "2b", "2b", "n.a."] * 10})
    frame.to_csv(tmp_path / "labs.csv", index=False)
    frame[["id"]].assign(died=[0, 1, 1, 0, 1] * 8).to_csv(tmp_path / "out.csv", index=False)
    text = write_study([tmp_path / "labs.csv", tmp_path / "out.csv"], "id", ["died"], tmp_path / "s.yaml")
    assert "labs: labs.csv   # 40 rows\n" in text
    assert "categorical (2): age, grade" in text


@pytest.mark.parametrize("last", ["days_to_last_followup", "days_to_last_known_alive"])
def test_the_time_of_those_alive_is_found_beside_the_time_to_death(tmp_path, last):
    died, days = np.arange(N) % 3 == 0, np.arange(1, N + 1) * 30
    table = pd.DataFrame({"id": [f"{i:03d}" for i in range(N)], "vital_status": np.where(died, "Dead", "Alive")})
    table["days_to_death"] = pd.Series(days).where(died).astype("Int64")
    table["days_to_recurrence"] = pd.Series(days // 2).where(~died).astype("Int64")  # of another event
    table[last] = pd.Series(days).where(~died).astype("Int64")
    table.assign(age=days % 17 + 40).to_csv(tmp_path / "a.csv", index=False)
    write_study([tmp_path / "a.csv"], "id", ["vital_status", "days_to_death"], tmp_path / "s.yaml")
    study = Study.load(tmp_path / "s.yaml")
    (task,) = study.tasks
    assert (task.kind, task.options.times) == ("survival", ["days_to_death", last])
    cohort = Cohort.load(study)
    labelled = load_kind("tasks", "survival").fit("t", cohort.targets[task.name], task.options)
    assert labelled.prepare(cohort.targets[task.name])[1].all()
