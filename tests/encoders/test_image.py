import copy
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close

from multimodn.encoders._images import encoder as _pictures
from multimodn.encoders._images import networks as _picture_networks
from multimodn.encoders._images.files import quiet_libraries
from multimodn.encoders._images.networks import FEATURE_SIZES, MIN_SIZES, Architecture, ImageNetwork
from multimodn.encoders.image import ImageEncoder, ImageOptions
from multimodn.errors import DataError, DataWarning, MissingExtraError, StudyError, UnreadableError
from tests.encoders._image_cases import CASES, image_frame, listed, write_nifti, write_png, write_weights

SMALL = ImageOptions(size=24, embedding_size=6)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fitted(name):
    kind, options, make = CASES[name]
    frame = make()
    return kind.fit(frame, options).eval(), frame


def dicom(name):
    import pydicom
    from pydicom.data import get_testdata_file

    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    assert path.is_file()  # it comes with the wheel; get_testdata_file would download others
    assert get_testdata_file(name) == str(path)
    return path


def prepared(path, **options):
    """The one prepared picture of a file, float16."""
    options = ImageOptions(**{"size": 24} | options)
    with quiet_libraries():
        return ImageEncoder.finish(ImageEncoder.read(str(path)), options)


def problem(path, options=SMALL):
    with pytest.raises(UnreadableError) as caught:
        ImageEncoder.fit(listed([path]), options)
    assert list(caught.value.patients) == ["P0"]
    assert str(path) in caught.value.patients["P0"]
    return caught.value.patients["P0"]


# What holds for every flavour

every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_configuration_and_state_restore_it_exactly(name):
    encoder, frame = fitted(name)
    restored = type(encoder).from_config(json.loads(json.dumps(encoder.config(), allow_nan=False))).eval()
    restored.load_state_dict(encoder.state_dict(), strict=True)
    assert restored.config() == encoder.config()
    assert torch.equal(restored(restored.prepare(frame)), encoder(encoder.prepare(frame)))


@every_case
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_of_encoder_and_values_encode_alike(name, copied):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    assert torch.equal(copied(encoder)(copied(values)), encoder(values))


@every_case
def test_float64_and_no_rows(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    single = encoder(values)
    assert single.shape == (len(frame), 6)
    assert single.std(0).min() > 0
    double = encoder.double()(values)
    assert double.dtype == torch.float64
    assert_close(double.float(), single, rtol=1e-3, atol=1e-4)
    nobody = encoder.prepare(frame.iloc[:0])
    assert len(nobody) == 0
    assert encoder(nobody).shape == (0, 6)
    assert encoder(values[torch.tensor([], dtype=torch.long)]).shape == (0, 6)


@every_case
@pytest.mark.parametrize("mode", [True, False])
def test_a_row_does_not_depend_on_its_batch(name, mode):
    encoder, frame = fitted(name)
    encoder.layers.dropout.p = 0.0
    values = encoder.train(mode and name != "frozen image").prepare(frame)
    together = encoder(values)
    rows = torch.randperm(len(frame))
    assert_close(encoder(values[rows]), together[rows], rtol=1e-4, atol=1e-5)
    assert_close(encoder(values[torch.tensor([3])]), together[3:4], rtol=1e-4, atol=1e-5)
    assert_close(encoder(encoder.prepare(frame.iloc[[3]])), together[3:4], rtol=1e-4, atol=1e-5)


@every_case
def test_gradients_are_finite_and_reach_every_parameter(name):
    encoder, frame = fitted(name)
    encoder.train()
    values = encoder.prepare(frame)
    encoder(values).square().mean().backward()
    torch.optim.SGD(encoder.parameters(), lr=0.01).step()
    encoder.zero_grad()
    encoder(values).square().mean().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@every_case
def test_frame_is_not_mutated_and_further_columns_do_not_matter(name):
    kind, options, make = CASES[name]
    frame = make()
    wide = frame.assign(age=1.0)[["age", "file"]]
    before = wide.copy()
    torch.manual_seed(1)
    encoder = kind.fit(wide, options).eval()
    torch.manual_seed(1)
    other = kind.fit(frame, options).eval()
    pd.testing.assert_frame_equal(wide, before)
    assert torch.equal(encoder(encoder.prepare(wide)), other(other.prepare(frame)))


@every_case
def test_missing_column(name):
    encoder, frame = fitted(name)
    with pytest.raises(DataError, match=r"column 'file' is missing. Did you mean 'files'\?"):
        encoder.prepare(frame.rename(columns={"file": "files"}))
    with pytest.raises(DataError, match="no training rows"):
        type(encoder).fit(frame.iloc[:0], encoder.options)


# Several images of a patient, memory and disk


def test_features_of_several_images_are_averaged():
    encoder, frame = fitted("image")
    both = frame.iloc[[2, 0, 3]].set_axis(pd.Index(["b", "a", "b"], name="patient"))
    values = encoder.prepare(both)
    assert values.files.lengths.tolist() == [2, 1]  # patients in the order in which they come
    features = encoder.network(encoder._normalised(encoder.prepare(frame).stacked().items.float()))
    assert_close(encoder(values)[0], encoder.layers((features[2] + features[3]) / 2))
    assert_close(encoder(values)[1], encoder.layers(features[0]))
    assert_close(encoder(values[torch.tensor([1, 0])]), encoder(values).flip(0))


def test_features_of_several_images_are_averaged_frozen():
    encoder, frame = fitted("frozen image")
    both = frame.iloc[[2, 0, 3]].set_axis(pd.Index(["b", "a", "b"], name="patient"))
    values = encoder.prepare(frame)
    assert_close(encoder.prepare(both), torch.stack([(values[2] + values[3]) / 2, values[0]]))


def test_pictures_beyond_the_memory_are_read_from_the_disk(cache):
    encoder, frame = fitted("image")
    kept = encoder.prepare(frame)
    assert not cache.exists()
    encoder.options = encoder.options.model_copy(update={"memory_gb": 0.0})
    values = encoder.prepare(frame)
    rows = torch.tensor([4, 1, 1])
    assert torch.equal(values[rows].stacked().items, kept[rows].stacked().items)
    assert torch.equal(encoder(values), encoder(kept))
    assert len(list(cache.rglob("*.npy"))) == len(frame)
    for file in cache.rglob("*.npy"):
        file.unlink()
    with pytest.raises(DataError, match="have been deleted"):
        encoder(values)


def test_prediction_in_parts_is_the_whole(monkeypatch):
    encoder, frame = fitted("image")
    values = encoder.prepare(frame)
    whole = encoder(values)
    monkeypatch.setattr(_pictures, "N_AT_ONCE", 5)
    with torch.no_grad():
        assert_close(encoder(values), whole)


def test_pixel_statistics_are_those_of_the_training_images():
    encoder, frame = fitted("image")
    items = encoder._normalised(encoder.prepare(frame).stacked().items.float())
    assert_close(items.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    assert_close(items.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0)


# Frozen networks


def test_frozen_features_are_cached_by_content(monkeypatch, tmp_path):
    encoder, frame = fitted("frozen image")
    values = encoder.prepare(frame)
    assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-4, rtol=0)
    moved = [(tmp_path / f"moved{i}.png") for i in range(len(frame))]
    for old, new in zip(frame["file"], moved, strict=True):
        new.write_bytes(Path(old).read_bytes())

    def refuse(*_):
        raise AssertionError("the network was built")

    monkeypatch.setattr(_picture_networks.ImageNetwork, "__init__", refuse)
    again = ImageEncoder.fit(listed(moved), encoder.options)
    assert torch.equal(again.prepare(listed(moved)), values)
    with pytest.raises(AssertionError, match="the network was built"):
        again.prepare(image_frame(3, seed=1))


def test_frozen_features_depend_on_weights_and_preparation(tmp_path):
    encoder, frame = fitted("frozen image")
    features = encoder._frozen(frame)
    other = write_weights(tmp_path / "other.safetensors", "small", 2, 3, seed=1)
    for update in ({"weights": other}, {"size": (16, 24)}, {"normalise": "picture"}, {"window": (0.0, 200.0)}):
        options = encoder.options.model_copy(update=update)
        assert (ImageEncoder.fit(frame, options)._frozen(frame) - features).abs().max() > 1e-3, update


def test_every_frozen_patient_with_a_broken_file_is_named(tmp_path):
    encoder, frame = fitted("frozen image")
    for name in "xyz":
        (tmp_path / f"{name}.png").write_bytes(b"none" if name < "z" else b"other")
    broken = listed([*frame["file"][:2], *(tmp_path / f"{name}.png" for name in "xyz"), tmp_path / "gone.png"])
    with pytest.raises(UnreadableError) as caught:
        encoder.prepare(broken)
    assert list(caught.value.patients) == ["P2", "P3", "P4", "P5"]
    assert str(tmp_path / "y.png") in caught.value.patients["P3"]


def test_changed_or_missing_weights_are_refused(tmp_path):
    weights = Path(write_weights(tmp_path / "w.safetensors", "small", 2, 3))
    options = ImageOptions(size=24, weights=str(weights), frozen=True)
    encoder = ImageEncoder.fit(image_frame(4), options)
    write_weights(weights, "small", 2, 3, seed=5)
    with pytest.raises(StudyError, match="are not those that the encoder was fitted with"):
        encoder.prepare(image_frame(4, seed=9))
    weights.unlink()
    with pytest.raises(StudyError, match=r"w\.safetensors, which cannot be opened"):
        ImageEncoder.fit(image_frame(4), options)


# Networks and weights


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", ["small", "resnet10", "resnet18", "densenet121"])
def test_networks_train_on_one_smallest_picture(name, spatial_dims):
    network = ImageNetwork(Architecture(name, spatial_dims, 1, is_pretrained=False)).train()
    picture = torch.rand(1, 1, *[MIN_SIZES[name]] * spatial_dims)
    features = network(picture)
    assert features.shape == (1, FEATURE_SIZES[name])
    assert features.isfinite().all()
    assert not any(isinstance(module, _picture_networks.BATCH_NORMS) for module in network.modules())


def test_batch_norms_of_given_weights_keep_their_statistics(tmp_path):
    weights = write_weights(tmp_path / "w.safetensors", "resnet10", 2, 3)
    encoder = ImageEncoder.fit(image_frame(4), ImageOptions(size=24, network="resnet10", weights=weights, dropout=0.0))
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    values = encoder.train().prepare(image_frame(4))
    assert not any(norm.training for norm in norms)
    together = encoder(values)
    together.sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert_close(encoder(values[torch.tensor([2])]), together[2:3], rtol=1e-4, atol=1e-5)
    restored = ImageEncoder.from_config(encoder.config()).eval()
    restored.load_state_dict(encoder.state_dict())
    assert torch.equal(restored(values), encoder.eval()(values))


def test_weights_are_loaded_whatever_their_container_and_prefix(tmp_path):
    network = ImageNetwork(Architecture("densenet121", 2, 3, is_pretrained=True))
    names = {name: torch.rand(tensor.shape).to(tensor) for name, tensor in network.body.state_dict().items()}
    torchvision = {f"module.{name.replace('.layers.', '.')}": tensor for name, tensor in names.items()}
    torch.save({"state_dict": torchvision | {"module.fc.weight": torch.ones(2)}}, tmp_path / "w.pt")
    network.load(str(tmp_path / "w.pt"), "header")
    assert all(torch.equal(tensor, names[name]) for name, tensor in network.body.state_dict().items())


def test_weights_that_do_not_fit(tmp_path):
    weights = write_weights(tmp_path / "w.safetensors", "small", 2, 3)
    with pytest.raises(StudyError, match=r"has shape \(8, 3, 3, 3\), expected \(8, 1, 3, 3\)"):
        ImageEncoder.fit(image_frame(4), ImageOptions(size=24, channels=1, weights=weights))
    with pytest.raises(StudyError, match=r"\d+ of \d+ tensors are missing: conv1.weight"):
        ImageEncoder.fit(image_frame(4), ImageOptions(size=24, network="resnet10", weights=weights))
    network = ImageNetwork(Architecture("small", 2, 3, is_pretrained=True))
    torch.save(network.body.state_dict() | {"extra.weight": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.warns(DataWarning, match="not used: extra"):
        ImageEncoder.fit(image_frame(4), ImageOptions(size=24, weights=str(tmp_path / "w.pt")))
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(StudyError, match="holds no named tensors"):
        ImageEncoder.fit(image_frame(4), ImageOptions(size=24, weights=str(tmp_path / "list.pt")))
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(StudyError, match=r"the weights .*text.pt cannot be read"):
        ImageEncoder.fit(image_frame(4), ImageOptions(size=24, weights=str(tmp_path / "text.pt")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": True}, "needs `weights`"),
        ({"frozen": True, "weights": "w.pt", "augment": "light"}, "`augment` does nothing to a frozen network"),
        ({"frozen": True, "weights": "w.pt", "normalise": "training"}, "does not go with `frozen: true`"),
        ({"normalise": "imagenet", "channels": 1}, "needs pictures of 3 channels"),
        ({"window": [3, 3]}, r"`window` is \[3, 3\]"),
        ({"size": 24, "network": "densenet121"}, r"`size` is \[24, 24\]; the network 'densenet121' needs 32 or more"),
        ({"size": [8, 24]}, "needs 16 or more"),
        ({"network": "swin"}, "network"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValidationError, match=message):
        ImageOptions(**options)


# Training


def test_augmentation_is_seeded_and_for_training_only():
    frame = image_frame(4)
    encoder = ImageEncoder.fit(frame, ImageOptions(size=24, augment="light", dropout=0.0))
    values = encoder.prepare(frame)
    torch.manual_seed(1)
    first = encoder.train()(values)
    torch.manual_seed(1)
    assert torch.equal(encoder(values), first)
    assert (encoder(values) - first).abs().max() > 1e-3
    assert torch.equal(encoder.eval()(values), encoder(values))


@pytest.mark.parametrize(("shape", "axis"), [((20, 30), 1), ((12, 14, 16), 0)])
def test_augmentation_mirrors_left_and_right(monkeypatch, shape, axis):
    from multimodn.encoders._images.scaling import augmented

    items = torch.rand(5, 1, *shape)
    monkeypatch.setattr(torch, "rand", lambda *size, **like: torch.full(size, 0.5))
    assert_close(augmented(items, axis), items)  # the middle of every draw changes nothing
    draws = iter([0.5, 0.5, 0.0, 0.5])
    monkeypatch.setattr(torch, "rand", lambda *size, **like: torch.full(size, next(draws)))
    assert_close(augmented(items, axis), items.flip(2 + axis))


def test_it_learns_to_see_a_blob():
    from torch import nn

    train, test = image_frame(160, seed=3), image_frame(160, seed=4)
    encoder = ImageEncoder.fit(train, ImageOptions(size=24, channels=1, embedding_size=4))
    decoder = nn.Linear(4, 1)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    values, target = encoder.prepare(train), (torch.arange(160) % 2).float()
    for _ in range(10):
        for rows in torch.randperm(160).split(16):
            loss = nn.functional.binary_cross_entropy_with_logits(decoder(encoder(values[rows]))[:, 0], target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    scores = decoder(encoder.eval()(encoder.prepare(test)))[:, 0].detach()
    assert roc_auc_score(target, scores) > 0.9


# Formats


def test_dicom_is_rescaled_to_its_units():
    from pydicom import dcmread

    path = dicom("CT_small.dcm")
    dataset = dcmread(path)
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    expected = np.clip((hounsfield + 160) / 400, 0, 1)
    found = prepared(path, size=128, channels=1, window=[-160, 240])
    assert_close(found[0].float(), torch.from_numpy(expected).float(), atol=1e-3, rtol=0)


def test_monochrome1_is_inverted(tmp_path):
    from pydicom import dcmread

    dataset = dcmread(dicom("CT_small.dcm"))
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.PixelData = (-1 - dataset.pixel_array).tobytes()  # signed bits: the mirror image of all values
    dataset.save_as(tmp_path / "inverted.dcm")
    assert torch.equal(prepared(tmp_path / "inverted.dcm", size=64), prepared(dicom("CT_small.dcm"), size=64))


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_padded.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"]
)
def test_an_mr_slice_reads_alike_however_it_is_packed(name):
    found = prepared(dicom(name), size=64, channels=1)
    assert torch.equal(found, prepared(dicom("MR_small_bigendian.dcm"), size=64, channels=1))
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize("name", ["ExplVR_BigEnd.dcm", "examples_rgb_color.dcm", "examples_palette.dcm"])
def test_ultrasound_has_colours(name):
    found = prepared(dicom(name), size=48)
    assert (found[0] - found[2]).abs().max() > 0.1


def test_colours_of_photographs():
    import skimage.data

    pixels = skimage.data.immunohistochemistry()
    found = prepared(Path(skimage.data.__file__).parent / "ihc.png", size=512)
    assert_close(found.float(), torch.from_numpy(pixels).permute(2, 0, 1) / 255, atol=1e-3, rtol=0)
    grey = prepared(Path(skimage.data.__file__).parent / "ihc.png", size=512, channels=1)
    assert_close(grey[0], (found.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).half())


def test_bytes_read_alike_from_png_tiff_and_palette(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 24)).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "grey.png")
    image.save(tmp_path / "grey.tif")
    image.convert("P").save(tmp_path / "palette.png")
    image.convert("LA").save(tmp_path / "opaque.png")
    (tmp_path / "without").write_bytes((tmp_path / "grey.png").read_bytes())
    grey = prepared(tmp_path / "grey.png")
    assert_close(grey.float(), torch.from_numpy(pixels).expand(3, -1, -1) / 255, atol=1e-3, rtol=0)
    for name in ("grey.tif", "palette.png", "opaque.png", "without"):
        assert torch.equal(prepared(tmp_path / name), grey), name


def test_sixteen_bits_and_nifti_are_scaled_by_their_own_percentiles(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(200, 4000, (24, 24)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    low, high = np.percentile(pixels, [0.5, 99.5])
    expected = torch.from_numpy(np.clip((pixels - low) / (high - low), 0, 1)).float()
    assert_close(prepared(tmp_path / "deep.png", channels=1)[0].float(), expected, atol=1e-3, rtol=0)
    # a slice whose first axis points right and whose second points up
    write_nifti(tmp_path / "slice.nii.gz", pixels[::-1].T[:, :, None])
    assert_close(prepared(tmp_path / "slice.nii.gz", channels=1)[0].float(), expected, atol=1e-3, rtol=0)
    write_nifti(tmp_path / "flat.nii", pixels[::-1].T)
    assert_close(prepared(tmp_path / "flat.nii", channels=1)[0].float(), expected, atol=1e-3, rtol=0)
    write_nifti(tmp_path / "turned.nii", pixels[::-1].T[::-1, None], np.diag([-1.0, 1, 1, 1])[:, [0, 2, 1, 3]])
    assert_close(prepared(tmp_path / "turned.nii", channels=1)[0].float(), expected, atol=1e-3, rtol=0)


def test_proportions_are_kept(tmp_path):
    write_png(tmp_path / "wide.png", np.random.default_rng(0).integers(100, 200, (20, 80)))
    found = prepared(tmp_path / "wide.png", size=40)
    assert found.shape == (3, 40, 40)
    assert (found[:, 15:25] > 0.3).all()
    assert (found[:, :15] == 0).all()
    assert (found[:, 25:] == 0).all()


def test_exif_orientation_is_followed(tmp_path):
    from PIL import Image

    pixels = np.add.outer(np.arange(24), 8 * np.arange(24)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    Image.fromarray(pixels).save(tmp_path / "plain.jpg", quality=100)
    assert torch.equal(prepared(tmp_path / "turned.jpg"), prepared(tmp_path / "plain.jpg").flip(1, 2))


# Files that are not read


def test_files_that_are_no_image(tmp_path):
    (tmp_path / "a.png").write_text("text")
    assert "cannot be read as a PNG, JPEG, TIFF, DICOM or NIfTI image (Pillow:" in problem(tmp_path / "a.png")
    (tmp_path / "a.dcm").write_text("text")
    assert "cannot be read as DICOM (pydicom:" in problem(tmp_path / "a.dcm")
    (tmp_path / "a.nii.gz").write_text("text")
    assert "cannot be read as NIfTI (nibabel:" in problem(tmp_path / "a.nii.gz")
    (tmp_path / "empty.jpg").touch()
    assert "cannot be read" in problem(tmp_path / "empty.jpg")
    assert "cannot be opened (No such file or directory). Correct the path." in problem(tmp_path / "gone.png")
    assert "is a folder, expected an image file" in problem(tmp_path)
    assert "modality RTPLAN without pixels" in problem(dicom("rtplan.dcm"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "nii", "nii.gz", "dcm"])
def test_truncated_files(tmp_path, suffix):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    path = tmp_path / f"a.{suffix}"
    if suffix == "dcm":
        path.write_bytes(dicom("MR_small.dcm").read_bytes())
    elif "nii" in suffix:
        write_nifti(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    prepared(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    assert "cannot be read" in problem(path)


def test_pictures_of_another_shape_or_content(tmp_path):
    write_nifti(tmp_path / "3d.nii", np.random.default_rng(0).random((8, 8, 8)))
    assert "has shape (8, 8, 8), expected a 2-D image. Use kind `volume`" in problem(tmp_path / "3d.nii")
    assert "has 2 frames, expected one" in problem(dicom("SC_rgb_rle_2frame.dcm"))
    write_png(tmp_path / "flat.png", np.full((8, 8), 7))
    assert "has the value 7 in every pixel: it is empty" in problem(tmp_path / "flat.png")
    holes = np.random.default_rng(0).random((8, 8))
    holes[2, :3] = np.nan
    write_nifti(tmp_path / "holes.nii", holes)
    assert "has 3 of 64 pixels that are NaN, infinite or beyond 1e+30" in problem(tmp_path / "holes.nii")
    outside = ImageOptions(size=24, window=(5000, 6000))
    assert "all on one side of the window [5000, 6000]" in problem(dicom("CT_small.dcm"), outside)


def test_pictures_of_another_colour_or_with_pages(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    assert "has transparent pixels" in problem(tmp_path / "clear.png")
    Image.fromarray(pixels, "RGBA").convert("CMYK").save(tmp_path / "print.jpg")
    assert "has colour mode CMYK, expected grey or RGB" in problem(tmp_path / "print.jpg")
    page = Image.fromarray(pixels[..., 0])
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    assert "has 3 pages, expected one" in problem(tmp_path / "pages.tif")


@pytest.mark.parametrize("limit", [300, 500])  # Pillow raises beyond twice its limit, and warns before
def test_huge_images_are_refused_with_their_size(tmp_path, monkeypatch, limit):
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    write_png(tmp_path / "huge.png", np.random.default_rng(0).integers(0, 256, (30, 30)))
    assert "Image size (900 pixels) exceeds limit of" in problem(tmp_path / "huge.png")


def test_all_patients_with_unreadable_files_are_named(tmp_path):
    frame = image_frame(6)
    (tmp_path / "bad.png").write_text("text")
    frame.iloc[1, 0] = str(tmp_path / "bad.png")
    frame.iloc[4, 0] = str(tmp_path / "gone.png")
    frame.iloc[5, 0] = None
    frame = frame.set_axis(pd.Index(["a", "b", "c", "a", "b", "d"], name="patient"))
    encoder, _ = fitted("image")
    for read in (encoder.prepare, lambda frame: ImageEncoder.fit(frame, SMALL)):
        with pytest.raises(UnreadableError, match="Encoder 'image', column 'file': 2 patients") as caught:
            read(frame)
        assert list(caught.value.patients) == ["b", "d"]
        assert "bad.png" in caught.value.patients["b"]
        assert "; " in caught.value.patients["b"]
        assert "gone.png" in caught.value.patients["b"]
        assert "empty cell" in caught.value.patients["d"]
    left = frame.drop(index=["b", "d"])
    assert len(encoder.prepare(left)) == 2


def test_fit_names_all_unreadable_files_once_it_meets_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_pictures, "N_SAMPLED", 3)
    frame = image_frame(9)
    frame.iloc[[1, 4, 6], 0] = str(tmp_path / "gone.png")
    with pytest.raises(UnreadableError) as caught:  # the sample holds P0, P4 and P8
        ImageEncoder.fit(frame, SMALL)
    assert list(caught.value.patients) == ["P1", "P4", "P6"]
    frame = image_frame(9)
    frame.iloc[1, 0] = str(tmp_path / "gone.png")
    ImageEncoder.fit(frame, SMALL)  # `prepare` names the others


def test_on_error_and_columns_come_from_the_options():
    options = ImageOptions(column="path", size=24, on_error="absent")
    frame = image_frame(4).rename(columns={"file": "path"})
    encoder = ImageEncoder.fit(frame, options)
    assert encoder.on_error == "absent"
    assert encoder.columns == ImageEncoder.file_columns(options) == ["path"]


@settings(max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("name", ["MR_small.dcm", "SC_rgb_jpeg_dcmtk.dcm", "a.png", "a.nii.gz"])
def test_damaged_files_are_read_or_named_and_nothing_else(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / name
    if name == "a.png":
        write_png(path, np.arange(900).reshape(30, 30) % 251)
    elif name == "a.nii.gz":
        write_nifti(path, np.arange(900).reshape(30, 30, 1))
    else:
        path.write_bytes(dicom(name).read_bytes())
    damaged = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, min(len(damaged), 2000) - 1), min_size=1, max_size=5)):
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    encoder = ImageEncoder.from_config({"options": SMALL.model_dump(), "weights_hash": None}).eval()
    try:
        assert encoder(encoder.prepare(listed([path]))).isfinite().all()
    except UnreadableError as error:
        named = list(error.patients)
    else:
        named = ["P0"]
    assert named == ["P0"]


@pytest.mark.parametrize(("library", "suffix"), [("PIL", "png"), ("pydicom", "dcm"), ("nibabel", "nii")])
def test_a_missing_library_names_its_extra(tmp_path, monkeypatch, library, suffix):
    (tmp_path / f"a.{suffix}").write_text("text")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"multimodn\[images\]"):
        ImageEncoder.fit(listed([tmp_path / f"a.{suffix}"]), SMALL)
