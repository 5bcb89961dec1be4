"""A biobank folder: slides, reports, measurements over time, pictures and a table, none of which everybody has."""

import warnings

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, MultiModN, Study
from multimodn.data.splits import make_split
from multimodn.errors import DataError, StudyError
from tests.encoders._image_cases import images
from tests.encoders._slide_cases import write
from tests.encoders._text_cases import network, report

N = 24


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "cache"))


def write_biobank(folder):
    """Writes everything and returns the study: patients p00 to p23, two slides of every fourth."""
    rng = np.random.default_rng(0)
    ids = [f"p{i:02d}" for i in range(N)]
    died = rng.integers(0, 2, N)
    (folder / "slides").mkdir(parents=True)
    (folder / "reports").mkdir()
    for i, patient in enumerate(ids[:-3]):
        for block in "ab"[: 1 + (i % 4 == 0)]:
            features = rng.normal(size=(int(rng.integers(3, 9)), 6)) + died[i]
            write(folder / "slides" / f"{patient}_{block}.h5", features.astype(np.float32))
    for patient in ids[2:]:
        (folder / "reports" / f"{patient}.txt").write_text(report(rng, 12))
    rows = [(patient, day, rng.choice(["crp", "hb"]), rng.normal()) for patient in ids[1:] for day in range(3)]
    pd.DataFrame(rows, columns=["id", "time", "variable", "value"]).to_csv(folder / "lab.csv", index=False)
    scans = pd.DataFrame({"id": ids[:-1], "file": images(N, 0)[:-1]})
    scans.to_csv(folder / "scans.csv", index=False)
    pd.DataFrame({"id": ids, "age": rng.integers(30, 80, N), "died": died}).to_csv(folder / "case.csv", index=False)
    return study(folder)


def study(folder, **options):
    small = {"embedding_size": 6, "hidden_size": 8}
    modalities = [
        {"name": "case", "kind": "table", "source": "case", "columns": ["age"], **small},
        {"name": "slides", "kind": "slide", "source": "slides", **small},
        {"name": "reports", "kind": "text", "source": "reports", "file_column": "file", "model": str(network()),
         "overlap": 4, **small},
        {"name": "lab", "kind": "series", "source": "lab", **small, "n_heads": 1, "n_layers": 1},
        {"name": "scan", "kind": "image", "source": "scans", "size": 24, "embedding_size": 6},
    ]  # fmt: skip
    sources = {
        "case": "case.csv",
        "slides": {"files": "slides/*.h5", "patient_from": "(p[0-9]+)_"},
        "reports": {"files": "reports/*.txt"},
        "lab": "lab.csv",
        "scans": "scans.csv",
    }
    modalities = [m | options.get(m["name"], {}) for m in modalities]
    data = {
        "name": "biobank",
        "cohort": {"patient": "id", "sources": sources},
        "modalities": modalities,
        "tasks": [{"name": "death", "kind": "binary", "source": "case", "target": "died"}],
        "training": {"epochs": 2, "batch_size": 8, "state_size": 8, "members": 2, "update": "attention"},
    }
    return Study.from_dict(data, folder)


@pytest.fixture(scope="module")
def biobank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("biobank")
    return write_biobank(folder)


@pytest.fixture(scope="module")
def model(biobank):
    return MultiModN(biobank).fit()


def test_one_model_of_everything_predicts_each_patient_from_what_they_have(model, biobank):
    cohort = Cohort.load(biobank, labelled=False)
    found = model.predict(cohort)
    used = found["n_modalities"].groupby(level=0).first()
    assert used.to_dict() == cohort.presence.sum(axis=1).to_dict()
    assert set(used) == {3, 4, 5}
    steps = model.trajectory(cohort.subset(["p05"]))
    assert steps.query("output == 'probability'")["modality"].tolist() == [
        "",
        "case",
        "slides",
        "reports",
        "lab",
        "scan",
    ]


def test_any_source_may_be_absent_when_predicting(model, biobank):
    everything = model.predict(Cohort.load(biobank, labelled=False))
    for left_out in ("slides", "reports", "lab", "scans"):
        found = model.predict(Cohort.load(biobank, labelled=False, sources={left_out: None}))
        assert (found["n_modalities"] <= everything["n_modalities"]).all()
        assert (found["value"] != everything["value"]).any()


def test_a_bundle_predicts_the_same(model, biobank, tmp_path):
    loaded = MultiModN.load(model.save(tmp_path / "bundle"))
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())


def test_attention_says_which_tile_of_which_slide(model, biobank):
    found = model.explain.attention("slides")
    assert list(found.columns) == ["patient", "file", "x", "y", "attention"]
    np.testing.assert_allclose(found.groupby("patient")["attention"].sum(), 1, atol=1e-6)
    assert found.groupby("patient")["file"].nunique()["p04"] == 2
    assert set(found["patient"]) == set(biobank_patients(biobank, "slides"))
    with pytest.raises(StudyError, match=r"'case' does not look at parts, such as tiles. Those that do: slides"):
        model.explain.attention("case")
    with pytest.raises(StudyError, match=r"Unknown modality 'slide'. Did you mean 'slides'"):
        model.explain.attention("slide")


def biobank_patients(biobank, modality):
    return Cohort.load(biobank, labelled=False).modalities[modality].index.unique()


def test_contributions_add_up(model):
    shares = model.contributions()
    total = shares["contribution"].groupby(level=0).sum()
    ends = shares.groupby(level=0)[["prior", "prediction"]].first()
    np.testing.assert_allclose(total, ends["prediction"] - ends["prior"], atol=1e-6)


@pytest.fixture
def damaged(tmp_path):
    """Two files of a training patient, p07, and one of a test patient, p03."""
    found = write_biobank(tmp_path / "damaged")
    split = make_split(found, Cohort.load(found))
    assert "p07" in split.train
    assert "p03" in split.test
    for patient in ("p03", "p07"):
        (found.folder / "slides" / f"{patient}_a.h5").write_bytes(b"no HDF5")
    (found.folder / "reports" / "p07.txt").write_bytes(b"caf\xe9")
    return found


@pytest.fixture
def untrained(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("it was trained")

    monkeypatch.setattr("multimodn.training.fit.fit_members", fail)


@pytest.mark.usefixtures("untrained")
def test_damaged_files_are_an_error_before_any_training_that_names_the_patients(damaged):
    with pytest.raises(DataError, match="2 problems") as caught:
        MultiModN(damaged).fit()
    assert "modality 'slides': " in str(caught.value)
    for part in ("patient 'p07'", "p07_a.h5", "p07.txt", "on_error: absent"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("untrained")
def test_a_damaged_file_of_a_test_patient_is_found_before_training_too(damaged):
    write(damaged.folder / "slides" / "p07_a.h5", np.ones((3, 6), np.float32))
    (damaged.folder / "reports" / "p07.txt").write_text("no carcinoma")
    with pytest.raises(DataError, match=r"patient 'p03': .*p03_a.h5"):
        MultiModN(damaged).fit()


def test_a_study_may_call_such_patients_absent(damaged):
    absent = {"on_error": "absent"}
    tolerant = study(damaged.folder, slides=absent, reports=absent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = MultiModN(tolerant).fit()
        found = model.predict().query("output == 'probability'")["n_modalities"]
        steps = model.trajectory(Cohort.load(tolerant, labelled=False).subset(["p03"]))
    texts = [str(warning.message) for warning in caught]
    assert any("'slides': 1 patient(s) are treated as without it: 'p07'" in text for text in texts)
    assert any("'slides': 2 patient(s) are treated as without it: 'p03'" in text for text in texts)
    assert found[["p03", "p07"]].tolist() == [4, 3]
    assert "slides" not in set(steps["modality"])
