"""A part whose libraries are not installed says which extra brings them, and nothing else needs them."""

import subprocess
import sys

import pytest

from multimodn.errors import MissingExtraError
from tests.encoders._frames import ALL
from tests.slides._slides import write_slide

NEEDED = [
    ("slide", ["h5py"], "slides"),
    ("text", ["transformers"], "text"),
    ("image", ["PIL"], "images"),
    ("volume", ["nibabel"], "images"),
]


@pytest.mark.parametrize(("name", "libraries", "extra"), NEEDED)
def test_an_encoder_names_the_extra(name, libraries, extra, monkeypatch, tmp_path):
    from multimodn.encoders._texts import transformer

    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path))
    kind, options, make = ALL[name]
    frame = make()
    transformer._load.cache_clear()
    for library in libraries:
        for loaded in [module for module in sys.modules if module == library or module.startswith(f"{library}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"needs the extra '{extra}': pip install \"multimodn\[{extra}\]\""):
        kind.fit(frame, options).prepare(frame)


@pytest.mark.parametrize("library", ["tifffile", "openslide"])
def test_reading_a_slide_names_the_extra(library, monkeypatch, tmp_path):
    from multimodn.slides import open_slide

    path = write_slide(tmp_path / "a.tif")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"multimodn\[slides\]"):
        open_slide(path)


def test_the_package_and_its_commands_load_without_any_extra():
    blocked = "h5py tifffile imagecodecs openslide PIL skimage nibabel pydicom transformers ray einops"
    code = (
        "import sys\n"
        f"for name in {blocked.split()!r}: sys.modules[name] = None\n"
        "import multimodn, multimodn.cli.app, multimodn.model.multimodn, multimodn.encoders, multimodn.slides\n"
        "assert 'rtdl_num_embeddings' not in sys.modules\n"  # an import is light
        "from multimodn.base.encoder import kinds, load_kind\n"
        "for kind in kinds('encoders'): load_kind('encoders', kind)\n"
        "heavy = {'monai', 'captum', 'pytorch_lightning', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
