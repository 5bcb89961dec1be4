import json
from pathlib import Path

import numpy as np
import pytest

from multimodn import MultiModN
from multimodn.errors import BundleError
from multimodn.model import bundle
from tests._cohorts import make_cohort, make_study


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def model(cohort):
    return MultiModN(make_study(training={"members": 2})).fit(cohort)


@pytest.fixture
def path(model, tmp_path):
    return model.save(tmp_path / "model")


def edit(path: Path, change, *, seal: bool = True):
    """Changes the description; sealed, its own hash fits again, as a careful editor would leave it."""
    file = path / "bundle.json"
    content = json.loads(file.read_text())
    change(content)
    if seal:
        content.pop("sha256")
        content["sha256"] = bundle._digest(content)
    file.write_text(json.dumps(content))


def test_a_loaded_model_is_bit_identical(model, cohort, path):
    loaded = MultiModN.load(path)
    for method in ("predict", "trajectory", "contributions", "evaluate"):
        found, expected = getattr(loaded, method)(cohort), getattr(model, method)(cohort)
        assert found.equals(expected), method
    state = loaded.trained.ensemble.state_dict()
    for name, tensor in model.trained.ensemble.state_dict().items():
        assert np.array_equal(tensor.numpy(), state[name].numpy()), name
    assert loaded.study.to_dict() == model.study.to_dict()
    assert loaded.provenance["data_hash"] == cohort.hash()
    assert loaded.split.hash() == model.split.hash()
    again = loaded.save(path.with_name("again"))
    assert (again / "model.safetensors").read_bytes() == (path / "model.safetensors").read_bytes()
    assert json.loads((again / "bundle.json").read_text()) == json.loads((path / "bundle.json").read_text())


def test_there_is_no_pickle(path):
    assert sorted(file.name for file in path.iterdir()) == ["bundle.json", "model.safetensors"]
    json.loads((path / "bundle.json").read_text())
    assert (path / "model.safetensors").read_bytes()[8:9] == b"{"


def test_a_truncated_or_edited_weight_file_is_refused(path):
    file = path / "model.safetensors"
    content = file.read_bytes()
    for wrong in (content[:-8], content[:-1] + bytes([content[-1] ^ 1]), b""):
        file.write_bytes(wrong)
        with pytest.raises(BundleError, match=r"model\.safetensors is truncated or was edited"):
            MultiModN.load(path)


def test_weights_of_another_model_are_refused_even_with_a_fitting_hash(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    edit(path, lambda content: content.update(weights_sha256=bundle._sha256(file.read_bytes())))
    with pytest.raises(BundleError, match="does not fit this installation"):
        MultiModN.load(path)


def test_an_edited_description_is_refused(path):
    edit(path, lambda content: content["study"].update(name="other"), seal=False)
    with pytest.raises(BundleError, match="was edited after it was written"):
        MultiModN.load(path)


def test_a_truncated_description_is_refused(path):
    file = path / "bundle.json"
    for text in (file.read_text()[:-10], "[]", "{}", ""):
        file.write_text(text)
        with pytest.raises(BundleError, match=r"bundle\.json is truncated or is not a bundle's"):
            MultiModN.load(path)


def test_another_schema_is_refused_and_says_what_reads_it(path):
    edit(path, lambda content: content.update(schema=99))
    with pytest.raises(BundleError, match=r"has schema 99, .* reads 1\. Load it with multimodn \d"):
        MultiModN.load(path)


def test_a_kind_that_is_not_installed_is_refused(path):
    edit(path, lambda content: content["study"]["modalities"][0].update(kind="tabel"))
    with pytest.raises(BundleError, match=r"(?s)does not fit this installation.*Did you mean 'table'"):
        MultiModN.load(path)


@pytest.mark.parametrize("key", ["n_members", "encoders", "split", "weights_sha256"])
def test_a_description_that_lacks_a_part_is_refused(path, key):
    edit(path, lambda content: content.pop(key))
    with pytest.raises(BundleError, match=f"{key}|its hash differs"):
        MultiModN.load(path)


def test_missing_files_are_named(path):
    (path / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"has no model\.safetensors: the bundle is incomplete"):
        MultiModN.load(path)
    (path / "bundle.json").unlink()
    with pytest.raises(BundleError, match=r"is no bundle: it has no bundle\.json"):
        MultiModN.load(path)
    with pytest.raises(BundleError, match="is no bundle"):
        MultiModN.load(path.with_name("nowhere"))


@pytest.mark.parametrize("step", ["save_file", "json.dumps"])
def test_an_interrupted_save_leaves_no_half_bundle(model, tmp_path, monkeypatch, step):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"multimodn.model.bundle.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    model.save(tmp_path / "model")
    before = (tmp_path / "model" / "bundle.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(f"multimodn.model.bundle.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.save(tmp_path / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "bundle.json").read_bytes() == before
    MultiModN.load(tmp_path / "model")


def test_a_bundle_is_replaced_and_nothing_else_is(model, path):
    model.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["model"]
    other = path.with_name("thesis")
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        model.save(other)
    assert (other / "chapter.txt").read_text() == "years of work"


def test_the_calibration_of_sets_is_kept(model, cohort, tmp_path):
    model.conformal.fit(cohort)
    path = model.save(tmp_path / "calibrated")
    model.trained.conformal_scores, loaded = None, MultiModN.load(path)
    assert loaded.conformal.predict(cohort).equals(model.conformal.fit(cohort).predict(cohort))
    again = loaded.save(tmp_path / "again")
    model.trained.conformal_scores = None
    for name in ("conformal.safetensors", "bundle.json"):
        assert (again / name).read_bytes() == (path / name).read_bytes()


def test_scores_name_no_patient(model, cohort, tmp_path):
    model.conformal.fit(cohort)
    path = model.save(tmp_path / "calibrated")
    model.trained.conformal_scores = None
    content = (path / "conformal.safetensors").read_bytes()
    assert not any(patient.encode() in content for patient in cohort.patients)
    told = json.loads((path / "bundle.json").read_text())["conformal"]
    assert set(told) == {"units", "source", "sha256"}


def test_an_edited_calibration_is_refused(model, cohort, tmp_path):
    model.conformal.fit(cohort)
    path = model.save(tmp_path / "calibrated")
    model.trained.conformal_scores = None
    file = path / "conformal.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"conformal\.safetensors is truncated or was edited"):
        MultiModN.load(path)


def test_a_bundle_without_sets_is_loaded_without(path):
    assert MultiModN.load(path).trained.conformal_scores is None
