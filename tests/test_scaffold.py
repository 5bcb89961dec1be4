import numpy as np
import pandas as pd
import pytest

from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.scaffold.infer_task import infer_task
from multimodn.scaffold.write_study import write_study
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
        ("death", "binary"),
        ("values_", "multiclass"),
        ("days_to_death", "regression"),
    ]
    assert [(modality.name, modality.kind) for modality in study.modalities] == [
        ("clinical_data", "table"),
        ("images", "embedding"),
    ]
    cohort = Cohort.load(study)
    assert list(cohort.modalities["clinical_data"].columns) == ["age", "sex"]
    assert len(cohort) == N
    assert [file.name for file in out.parent.iterdir()] == ["first.yaml"]


def test_every_inference_is_stated(tables, tmp_path):
    text = write_study(tables, "id", TARGETS, tmp_path / "s.yaml")
    for comment in (
        "kind: ordinal   # inferred: values Stage I, Stage IIa, Stage III look ordered; alternatives: multi",
        "classes: [Stage I, Stage IIa, Stage III]   # inferred; check",
        "kind: binary   # inferred: two values, 0, 1",
        "{kind: survival, time: days_to_death, event: death}",
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
    ],
)
def test_kinds_are_inferred_from_values(values, kind, options):
    inferred = infer_task(pd.Series(values))
    assert (inferred.kind, inferred.options) == (kind, options)


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
