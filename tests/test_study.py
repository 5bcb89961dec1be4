import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.errors import StudyError
from multimodn.study.study import CohortSpec, ModalitySpec, RandomSplit, Study, TaskSpec, TrainingSpec
from multimodn.study.yaml_file import read_yaml, write_yaml

TEXT = """
name: acc
cohort:
  patient: patientID
  group: site
  sources:
    clinical: data/clinical.csv
    labs: {path: data/labs.parquet}
    rna: {query: "select * from rna", database: biobank.duckdb}
    images: {path: x.npy, patients: ids.csv}
modalities:
  - {name: history, kind: table, source: clinical, columns: {all_but: [status]}}
  - {name: labs, kind: table, source: labs, columns: [crp, sodium]}
  - {name: images, kind: embedding, source: images}
tasks:
  - {name: death, kind: binary, source: clinical, target: status, positive: yes}
order: [labs, images, history]
split: {validation: 0.1, stratify: death}
training: {learning_rate: 1e-3, update: linear}
"""


def test_a_study_survives_json_and_yaml():
    study = Study.from_dict(read_yaml(TEXT), "somewhere")
    assert study.folder == Path("somewhere")
    assert Study.from_dict(json.loads(json.dumps(study.to_dict())), "somewhere") == study
    assert Study.from_dict(read_yaml(study.to_yaml()), "somewhere") == study
    assert copy.deepcopy(study) == study


def test_the_parts_are_read_as_written():
    study = Study.from_dict(read_yaml(TEXT))
    assert study.order == ["labs", "images", "history"]
    assert study.tasks[0].options.positive == "yes"  # not True
    assert study.tasks[0].target_columns == ["status"]
    assert study.training.learning_rate == 1e-3  # a number without a dot
    assert study.split == RandomSplit(validation=0.1, stratify="death")
    assert study.cohort.sources["clinical"].path == "data/clinical.csv"


def test_python_builds_the_same_study_as_a_file():
    built = Study(
        name="x",
        cohort=CohortSpec(patient="id", sources={"a": "a.csv"}),
        modalities=[ModalitySpec(name="labs", kind="table", source="a", columns=["u"])],
        tasks=[TaskSpec(name="death", kind="binary", source="a", target="y")],
        training=TrainingSpec(epochs=3),
    )
    assert Study.from_dict(built.to_dict()) == built
    assert built.order == ["labs"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("order:", "ordr:", r"ordr: unknown key 'ordr'\. Did you mean 'order'\?"),
        ("group: site", "grup: site", r"cohort\.grup: unknown key 'grup'\. Did you mean 'group'\?"),
        ("kind: embedding", "kind: embeding", r"modalities\[2\]\.kind: .*Did you mean 'embedding'\?"),
        ("kind: binary", "kind: binry", r"tasks\[0\]\.kind: .*Did you mean 'binary'\?"),
        ("source: labs", "source: lbs", r"modalities\[1\]\.source: .*Did you mean 'labs'\?"),
        ("target: status", "traget: status", r"tasks\[0\]\.traget: .*Did you mean 'target'\?"),
        ("columns: [crp", "colums: [crp", r"modalities\[1\]\.colums: .*Did you mean 'columns'\?"),
        ("columns: [crp, sodium]", "columns: crp", r"modalities\[1\]\.columns: expected all"),
        ("columns: [crp, sodium]", "columns: [crp, crp]", r"modalities\[1\]\.columns: crp is listed twice"),
        ("all_but: [", "all_bt: [", r"columns\.all_bt: unknown key 'all_bt'\. Did you mean 'all_but'"),
        ("stratify: death", "stratify: deth", r"split\.stratify: .*Did you mean 'death'\?"),
        ("stratify: death", "stratfy: death", r"split\.stratfy: .*Did you mean 'stratify'\?"),
        ("{validation: 0.1, stratify: death}", "{validation: 0.9}", r"split: .*no patients to train on"),
        ("{validation: 0.1, stratify: death}", "{column: p, source: x}", r"split\.source: unknown source 'x'"),
        ("[labs, images, history]", "[labs, images]", r"order: .*history is missing"),
        ("[labs, images, history]", "[labs, images, hist]", r"order: .*Did you mean 'history'\?"),
        ("name: labs", "name: history", r"modalities\[1\]\.name: 'history' is used twice"),
        ("name: labs", "name: l.abs", r"modalities\[1\]\.name: 'l\.abs' is not a valid name"),
        ("name: labs", "name: values", r"'values' is reserved"),
        ("learning_rate: 1e-3", "epochs: 0", r"training\.epochs: .*greater than or equal to 1"),
        ("learning_rate: 1e-3", "epochs: '9'", r"training\.epochs: .*valid integer, found '9'"),
        ("update: linear", "update: gate", r"training\.update: .*'gated'"),
        (", patients: ids.csv", "", r"images.*a \.npy `path`, and no other, needs `patients`"),
        ("path: data/labs.parquet", "database: a", r"labs: give one of `path`, `query` and `files`"),
        ("\nname: acc", "", r"name: the key 'name' is missing"),
        ("\nname: acc", "\nname: acc\nname: b", r"name is written twice"),
        ("\nname: acc", "\nname: acc\nfolder: b", r"unknown key 'folder'"),
        ("\nname: acc", "\nname: [acc", r"is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, old, new, message):
    assert old in TEXT
    file = tmp_path / "study.yaml"
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(StudyError, match=message) as caught:
        Study.load(file)
    assert "study.yaml" in str(caught.value)


def test_all_mistakes_are_told_at_once():
    text = TEXT.replace("kind: binary", "kind: binry").replace("source: labs", "source: lbs")
    text = text.replace("columns: {all_but", "colums: {all_but").replace("1e-3", "fast")
    with pytest.raises(StudyError, match="4 problems") as caught:
        Study.from_dict(read_yaml(text))
    for place in ("modalities[0].colums", "modalities[1].source", "tasks[0].kind", "training.learning_rate"):
        assert place in str(caught.value)


def test_a_part_built_alone_names_its_mistakes():
    with pytest.raises(StudyError, match=r"colums: unknown key 'colums'\. Did you mean 'columns'\?"):
        ModalitySpec(name="labs", kind="table", source="a", **{"colums": ["u"]})


def test_a_missing_file_and_a_list_are_no_studies(tmp_path):
    with pytest.raises(StudyError, match=r"Cannot read the study file .*none\.yaml"):
        Study.load(tmp_path / "none.yaml")
    with pytest.raises(StudyError, match="expected a mapping"):
        Study.from_dict([1])


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("no0xe1-+.: ~yf\n'", max_size=6)
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)))
def test_yaml_gives_back_what_was_written(data):
    assert read_yaml(write_yaml(data)) == data


@pytest.mark.parametrize("word", ["yes", "no", "on", "007", "2020-01-01", "12:30", "1_000"])
def test_words_stay_text(word):
    assert read_yaml(f"a: {word}") == {"a": word}


REGISTRIES = (
    TEXT
    + """
cohorts:
  north: {tasks: [death]}
  south: {patient: number, sources: {clinical: south.csv, labs: south_labs.csv, rna: null, images: null}}
"""
)


def test_a_study_of_registries_survives_json_and_yaml():
    study = Study.from_dict(read_yaml(REGISTRIES), "somewhere")
    assert study.cohorts["south"].sources["images"] is None
    assert Study.from_dict(json.loads(json.dumps(study.to_dict())), "somewhere") == study
    assert Study.from_dict(read_yaml(study.to_yaml()), "somewhere") == study


def test_a_study_of_one_cohort_is_written_as_before():
    assert "cohorts" not in Study.from_dict(read_yaml(TEXT)).to_dict()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clinical: south.csv, ", "", r"cohorts\.south\.sources: 'north' and 'south' read the same for .* 'clinical'"),
        ("{tasks: [death]}", "{tasks: [deth]}", r"cohorts\.north\.tasks: unknown task 'deth'.*mean 'death'"),
        ("clinical: south.csv", "clincal: south.csv", r"cohorts\.south\.sources\.clincal: unknown source .*'clinical'"),
        ("{tasks: [death]}", "{tsks: [death]}", r"cohorts\.north\.tsks: unknown key 'tsks'.*'tasks'"),
        ("clinical: south.csv", "clinical: null", r"cohorts\.south: it has labels for no task"),
        ("{tasks: [death]}", "{tasks: [death], sources: {clinical: null}}", r"source 'clinical', which is null here"),
        ("{tasks: [death]}", "{sources: {images: null}}", r"no registry has source 'images' of modality 'images'"),
        ("  north: {tasks: [death]}\n", "", r"cohorts: a single registry is the study's `cohort`"),
        ("  north:", "  no/rth:", r"cohorts\.no/rth: 'no/rth' is not a valid name"),
    ],
)
def test_registries_that_do_not_fit_the_study(old, new, message):
    assert REGISTRIES.count(old) == 1
    with pytest.raises(StudyError, match=message):
        Study.from_dict(read_yaml(REGISTRIES.replace(old, new)))
