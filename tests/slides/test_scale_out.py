import sys
from dataclasses import asdict

import pytest

from multimodn.errors import DataError, MissingExtraError
from multimodn.slides.embedding.cohort import EmbedError, embed_slides
from multimodn.slides.embedding.embed import EmbedOptions
from tests.slides._encoders import write_script
from tests.slides._slides import picture, write_slide

OPTIONS = EmbedOptions(overlap=0.5, on_no_tissue="absent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", picture(1024, 768))
    write_slide(folder / "b.tif", picture(768, 640, seed=1))
    write_slide(folder / "glass.tif", picture(512, 512, blobs=()))
    (folder / "broken.tif").write_bytes(b"II*\0 no slide")
    write_script(folder / "tiny.pt")
    return folder


@pytest.fixture(scope="module")
def cluster(folder):
    """A cluster with two workers on this machine."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # Ray's own
def test_a_ray_cluster_writes_the_same_bytes_as_one_process(tmp_path, folder, cluster):
    spec, shown, results = f"torchscript:{folder / 'tiny.pt'}", [], {}
    for name, address in (("here", None), ("ray", "auto")):
        with pytest.raises(EmbedError, match=r"1 of 4 slides failed:(?s:.*)broken\.tif") as raised:
            embed_slides([folder], tmp_path / name, spec, OPTIONS, ray=address, on_progress=shown.append)
        results[name] = [asdict(result) | {"file": result.file.name} for result in raised.value.results]
    assert results["here"] == results["ray"]
    assert [result["status"] for result in results["ray"]] == ["embedded", "embedded", "failed", "absent"]
    assert sorted(file.name for file in (tmp_path / "ray").iterdir()) == ["a.h5", "absent.csv", "b.h5", "slides.csv"]
    for file in (tmp_path / "here").iterdir():
        assert (tmp_path / "ray" / file.name).read_bytes() == file.read_bytes()
    assert shown[-1].n_slides == 4
    assert cluster.is_initialized()  # it was not ours to stop


def test_an_address_without_a_cluster_is_named(tmp_path, folder, monkeypatch):
    import ray

    def refuse(address, **_):
        raise ConnectionError(f"Could not find any running Ray instance at {address}.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(DataError, match=r"No Ray cluster at 'auto'.*ray start --head"):
        embed_slides([folder / "a.tif"], tmp_path, f"torchscript:{folder / 'tiny.pt'}", OPTIONS, ray="auto")


def test_ray_that_is_not_installed_is_named(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"multimodn\[ray\]"):
        embed_slides([folder / "a.tif"], tmp_path, f"torchscript:{folder / 'tiny.pt'}", OPTIONS, ray="local")
