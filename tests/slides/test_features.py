import contextlib
import time
from dataclasses import asdict, fields

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from multimodn.errors import DataError
from multimodn.slides.feature_files.features import FeatureMeta, open_features, read_features, write_features

META = FeatureMeta(
    slide="a.svs", width=2000, height=1000, mpp=0.25, slide_bytes=9, tile_size=224, tile_mpp=0.5, extent=448,
    overlap=0.25, tissue='{"mpp": 8.0}', tissue_share=0.5, encoder="tiny", encoder_hash="ab" * 32, stain="none",
    batch_size=16, device="cpu", parameters="cd" * 32, version="0.1.0",
)  # fmt: skip


def arrays(n=5, size=3, dtype="float16"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, size)).astype(dtype), rng.integers(0, 9999, (n, 2))


def write_h5(path, features=None, coords=None, at_coords=None, at_features=None):
    with h5py.File(path, "w") as file:
        for name, found, attributes in (("features", features, at_features), ("coords", coords, at_coords)):
            if found is not None:
                file[name] = found
                file[name].attrs.update(attributes or {})
    return path


finite = {"allow_nan": False, "allow_infinity": False}
tables = st.tuples(st.integers(1, 9), st.integers(1, 5))


@given(st.sampled_from(["float16", "float32"]).flatmap(lambda kind: hnp.arrays(kind, tables, elements=finite)))
def test_what_is_written_is_read(tmp_path_factory, features):
    path, coords = tmp_path_factory.getbasetemp() / "a.h5", np.arange(2 * len(features)).reshape(-1, 2)
    write_features(path, features, coords, META)
    found = read_features(path)
    assert found.features.dtype == features.dtype
    assert np.array_equal(found.features, features)
    assert found.coords.dtype == np.int64
    assert np.array_equal(found.coords, coords)
    assert found.meta == META


def test_what_is_unknown_stays_unknown(tmp_path):
    write_features(tmp_path / "a.h5", *arrays(), FeatureMeta())
    assert read_features(tmp_path / "a.h5").meta == FeatureMeta()


def test_every_field_of_the_meta_is_an_attribute(tmp_path):
    write_features(tmp_path / "a.h5", *arrays(), META)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file.attrs) == {field.name for field in fields(META)} | {"multimodn_schema"}
        assert file["coords"].attrs["patch_size_level0"] == META.extent


def test_the_same_content_has_the_same_bytes_at_any_time_and_in_any_blocks(tmp_path):
    features, coords = arrays(7)
    write_features(tmp_path / "a.h5", features, coords, META)
    time.sleep(1.1)  # HDF5 keeps times in seconds
    write_features(tmp_path / "b.h5", iter([features[:3], features[3:6], features[6:]]), coords, META)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_rows_are_read_alone(tmp_path):
    features, coords = arrays(9)
    write_features(tmp_path / "a.h5", features, coords, META)
    with open_features(tmp_path / "a.h5") as file:
        assert (file.n, file.feature_size, file.meta) == (9, 3, META)
        assert np.array_equal(file.rows(2, 5), features[2:5])
        assert np.array_equal(file.rows(7, 99), features[7:])
        assert np.array_equal(file.coords(), coords)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_features(tmp_path / "a.h5", *arrays(), META)
    before = (tmp_path / "a.h5").read_bytes()

    def blocks():
        yield arrays()[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_features(tmp_path / "a.h5", blocks(), arrays(10)[1], META)
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == before


@pytest.mark.parametrize("n_coords", [4, 6])
def test_features_without_corners_are_not_written(tmp_path, n_coords):
    with pytest.raises(DataError, match=f"features of 5 tiles, but corners of {n_coords}"):
        write_features(tmp_path / "a.h5", arrays(5)[0], arrays(n_coords)[1], META)
    assert not list(tmp_path.iterdir())


def test_no_tiles_are_not_written(tmp_path):
    with pytest.raises(DataError, match="no tiles to write"):
        write_features(tmp_path / "a.h5", *arrays(0), META)


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_file_of_clam_is_read(tmp_path, is_nested):
    features, coords = arrays(dtype="float32")
    path = write_h5(tmp_path / "a.h5", features[None] if is_nested else features, coords.astype(np.int32))
    found = read_features(path)
    assert found.meta == FeatureMeta()
    assert np.array_equal(found.features, features)
    assert np.array_equal(found.coords, coords)


def test_attributes_of_patches_of_clam_give_the_extent(tmp_path):
    attributes = {
        "patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]), "downsampled_level_dim": [500, 250],
        "level_dim": [500, 250], "name": "a", "save_path": "x",
    }  # fmt: skip
    found = read_features(write_h5(tmp_path / "a.h5", *arrays(dtype="float32"), at_coords=attributes))
    assert found.meta == FeatureMeta(slide="a", tile_size=256, extent=1024)


def test_a_file_of_trident_is_read(tmp_path):
    attributes = {
        "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
        "overlap": 64, "name": "a", "savetodir": "x", "level0_width": 2000, "level0_height": 1000,
    }  # fmt: skip
    at_features = {"name": "a", "savetodir": "x", "encoder": "uni_v1"}
    path = write_h5(tmp_path / "a.h5", *arrays(dtype="float32"), attributes, at_features)
    assert read_features(path).meta == FeatureMeta(
        slide="a", width=2000, height=1000, tile_size=256, extent=512, overlap=0.25, encoder="uni_v1"
    )


def test_what_trident_writes_as_none_is_unknown(tmp_path):
    path = write_h5(tmp_path / "a.h5", *arrays(dtype="float32"), at_features={"encoder": "None"})
    assert read_features(path).meta.encoder is None


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_a_bare_tensor_is_read_without_corners(tmp_path, kind):
    features = torch.randn(1, 5, 3).to(kind)
    torch.save(features, tmp_path / "a.pt")
    found = read_features(tmp_path / "a.pt")
    assert found.features.dtype == (np.float16 if kind == torch.float16 else np.float32)
    assert np.array_equal(found.features, features[0].float().numpy())
    assert found.coords is None
    assert not any(value is not None for value in asdict(found.meta).values())


def test_a_pickle_is_not_run(tmp_path):
    torch.save(np.zeros((5, 3)), tmp_path / "a.pt")  # as TRIDENT does it
    with pytest.raises(DataError, match="only tensors are read, as a pickle may run code"):
        read_features(tmp_path / "a.pt")


def test_a_dictionary_of_tensors_is_no_feature_file(tmp_path):
    torch.save({"features": torch.zeros(5, 3)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"holds a dict, expected one tensor"):
        read_features(tmp_path / "a.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "a.h5"
    write_features(path, *arrays(500), META)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"a\.h5 is truncated, or not an HDF5 file"):
        read_features(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"coords": arrays()[1]}, r"no dataset 'features'. Valid: coords"),
        ({}, "no dataset 'features'. It is empty"),
        ({"features": np.zeros(5)}, r"`features` is float64 \(5,\), expected floats \(n, F\)"),
        ({"features": np.zeros((2, 5, 3))}, r"\(2, 5, 3\), expected floats"),
        ({"features": np.zeros((5, 3), dtype=int)}, "int64"),
        ({"features": np.zeros((0, 3)), "coords": np.zeros((0, 2))}, "has no tiles"),
        ({"features": np.zeros((5, 3)), "coords": np.zeros((4, 2))}, r"`coords` is \(4, 2\), but there are 5 tiles"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_features(write_h5(tmp_path / "a.h5", **content))


def plain_tensors():
    """Tensors in other forms than plain ones, of the same numbers."""
    plain = torch.arange(20, dtype=torch.float32).reshape(5, 4)
    forms = {
        "grad": plain.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(plain),
        "sparse": plain.to_sparse(),
    }
    forms |= {"view": plain.T.contiguous().T, "whole": plain.long(), "bfloat": plain.bfloat16()}
    return plain, forms | {"half": plain.half(), "double": plain.double(), "batch": plain[None]}


@pytest.mark.parametrize("form", plain_tensors()[1])
def test_a_tensor_is_read_whatever_its_form(tmp_path, form):
    plain, forms = plain_tensors()
    torch.save(forms[form], tmp_path / "a.PT")
    found = read_features(tmp_path / "a.PT").features
    assert found.dtype == (np.float16 if form == "half" else np.float32)
    assert np.array_equal(found, plain.numpy())


def cut(content, n):
    torch.save(torch.randn(50, 16), content)
    return content.read_bytes()[:n]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: torch.save(torch.zeros(5, 4, dtype=torch.complex64), file), "holds a tensor that cannot be read"),
        (lambda file: torch.save({"features": torch.zeros(5, 4)}, file), "holds a dict, expected one tensor"),
        (lambda file: torch.save(torch.zeros(5), file), "expected floats"),
        (lambda file: torch.save(torch.zeros(5, 4).to("meta"), file), "holds a tensor that cannot be read"),
        (lambda file: file.write_bytes(b""), "is damaged"),
        (lambda file: file.write_bytes(b"abc"), "is damaged"),
        (lambda file: file.write_bytes(bytes(range(256)) * 8), "is damaged"),
        (lambda file: file.write_bytes(cut(file, 1000)), "is damaged"),
        (lambda file: file.write_bytes(cut(file, -30)), "is damaged"),
        (lambda file: file.write_text("<html>Not found</html>"), "is damaged"),
    ],
)
def test_a_tensor_file_that_is_damaged_or_of_something_else_is_named(tmp_path, write, message):
    write(tmp_path / "a.pt")
    with pytest.raises(DataError, match=message) as found:
        open_features(tmp_path / "a.pt")
    assert "a.pt" in str(found.value)


@given(st.binary(max_size=64), st.integers(0, 2000), st.sampled_from([".pt", ".h5"]))
def test_damage_anywhere_is_a_data_error_or_harmless(tmp_path_factory, damage, place, suffix):
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    if suffix == ".pt":
        torch.save(torch.ones(20, 4), path)
    else:
        write_features(path, np.ones((20, 4), np.float32), np.zeros((20, 2), int), META)
    content = bytearray(path.read_bytes())
    if suffix == ".pt":
        content[place : place + len(damage)] = damage
    else:  # cut off only: the HDF5 library itself may loop for ever where the heap of its attributes is overwritten
        content = content[:place]
    path.write_bytes(content)
    with contextlib.suppress(DataError):  # any other exception fails
        assert read_features(path).features.shape[-1] > 0


def test_groups_in_place_of_datasets_are_refused(tmp_path):
    for name in ("features", "coords"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_group(name)
            if name == "coords":
                file["features"] = np.zeros((5, 3))
        with pytest.raises(DataError, match=rf"{name}\.h5: `{name}` is "):
            read_features(tmp_path / f"{name}.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_named_by_its_tile(tmp_path, value):
    features, coords = arrays()
    features[3, 1] = value
    write_features(tmp_path / "a.h5", features, coords, META)
    with pytest.raises(DataError, match=rf"in 1 tiles, first in tile 3 at \({coords[3, 0]}, {coords[3, 1]}\)"):
        read_features(tmp_path / "a.h5")
    with open_features(tmp_path / "a.h5") as file:
        assert len(file.rows(0, 3)) == 3
        with pytest.raises(DataError, match="first in tile 3 "):
            file.rows(2, 5)


def test_a_file_of_another_encoder_is_refused_by_its_hash(tmp_path):
    write_features(tmp_path / "a.h5", *arrays(), META)
    assert read_features(tmp_path / "a.h5", expect_encoder=META.encoder_hash).meta == META
    with pytest.raises(DataError, match=r"made by 'tiny' \(hash abababababab\), expected 'uni' \(hash 00000000"):
        read_features(tmp_path / "a.h5", expect_encoder="0" * 64, expect_name="uni")


def test_a_file_that_does_not_name_its_encoder_is_refused_where_one_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"made by an unnamed encoder, expected"):
        read_features(write_h5(tmp_path / "a.h5", *arrays()), expect_encoder="0" * 64)


def test_another_width_is_refused(tmp_path):
    write_features(tmp_path / "a.h5", *arrays(), META)
    with pytest.raises(DataError, match="3 features a tile, expected 1280"):
        read_features(tmp_path / "a.h5", expect_size=1280)


def test_a_later_schema_is_refused(tmp_path):
    write_features(tmp_path / "a.h5", *arrays(), META)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["multimodn_schema"] = 99
    with pytest.raises(DataError, match="schema 99, and this version reads up to 1"):
        read_features(tmp_path / "a.h5")


def test_a_mistyped_name_is_answered_with_the_nearest(tmp_path):
    write_features(tmp_path / "slide.h5", *arrays(), META)
    with pytest.raises(DataError, match=r"Did you mean 'slide.h5'\?"):
        read_features(tmp_path / "slid.h5")
