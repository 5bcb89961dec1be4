import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close

from multimodn.encoders._images.networks import FEATURE_SIZES, Architecture, ImageNetwork
from multimodn.encoders._images.volumes import read_volume
from multimodn.encoders.volume import VolumeEncoder, VolumeOptions
from multimodn.errors import MissingExtraError, UnreadableError
from tests.encoders._image_cases import listed, volume_frame, write_nifti, write_weights

OPTIONS = VolumeOptions(size=(16, 18, 20), spacing=(2.0, 2.0, 2.0), embedding_size=6)
TWO_MM = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def anatomy(spacing=(2.0, 2.0, 2.0), lengths=(32.0, 36.0, 40.0)):
    """A smooth, lopsided body in a box of some mm, sampled at voxel centres."""
    axes = [np.arange(step / 2, length, step) for step, length in zip(spacing, lengths, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    ball = np.exp(-((x - 10) ** 2 + (y - 20) ** 2 / 2 + (z - 24) ** 2) / 60)
    return 1000 * ball + 10 * x + 4 * y + z


def placed(spacing=(2.0, 2.0, 2.0)):
    """The affine of `anatomy`, whose first voxel is centred half a voxel from the box's corner."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(spacing) / 2
    return affine


def prepared(path, options=OPTIONS):
    return VolumeEncoder.finish(VolumeEncoder.read(str(path)), options)[0].float()


def problem(path, options=OPTIONS):
    with pytest.raises(UnreadableError) as caught:
        VolumeEncoder.fit(listed([path]), options)
    return caught.value.patients["P0"].removeprefix(f"{path} ")


def write_slice(path, pixels, place, *, directions=(1, 0, 0, 0, 1, 0), spacing=(2.0, 2.0), **tags):
    """A slice of CT_small's header with other pixels, in Hounsfield units from -1024 up."""
    import pydicom

    dataset = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm")
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = (np.round(pixels) + 1024).astype(np.int16).tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [float(p) for p in place], list(directions)
    dataset.PixelSpacing = list(spacing)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def write_series(folder, values, skipped=(), **tags):
    """Axial slices of `anatomy` in DICOM's axes, which point left and posterior, under names in no order."""
    folder.mkdir()
    for k in range(values.shape[2]):
        if k not in skipped:
            name = f"{(7 * k) % values.shape[2]:03}"
            write_slice(folder / name, values[::-1, ::-1, k].T, (-31, -35, 1 + 2 * k), **tags)
    return folder


@pytest.fixture(scope="module")
def whole_series(tmp_path_factory):
    return write_series(tmp_path_factory.mktemp("whole") / "series", np.round(anatomy()))


# Space


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_same_anatomy_is_the_same_volume_however_its_axes_are_stored(tmp_path, axes, flips):
    values = anatomy()
    write_nifti(tmp_path / "plain.nii.gz", values, placed())
    turned, affine = values, placed()
    for axis in flips:
        turned = np.flip(turned, axis)
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
    write_nifti(tmp_path / "turned.nii", turned.transpose(axes), affine[:, [*axes, 3]])
    assert_close(prepared(tmp_path / "turned.nii"), prepared(tmp_path / "plain.nii.gz"), atol=1e-3, rtol=0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 4.0), (0.5, 3.0, 2.5)])
def test_the_same_anatomy_is_nearly_the_same_volume_at_any_spacing(tmp_path, spacing):
    options = OPTIONS.model_copy(update={"size": (12, 14, 14), "window": (0.0, 1500.0)})
    write_nifti(tmp_path / "plain.nii", anatomy(), placed())
    write_nifti(tmp_path / "other.nii", anatomy(spacing), placed(spacing))
    one, other = prepared(tmp_path / "plain.nii", options), prepared(tmp_path / "other.nii", options)
    difference = (one - other).abs()
    assert difference.mean() < 0.01
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.995


def test_axes_run_right_anterior_superior_and_the_centre_stays(tmp_path):
    values = anatomy()
    write_nifti(tmp_path / "a.nii", values, placed())
    options = OPTIONS.model_copy(update={"size": (10, 24, 20), "window": (0.0, 1500.0)})
    expected = torch.from_numpy(np.clip(values / 1500, 0, 1)).float()
    found = prepared(tmp_path / "a.nii", options)
    assert_close(found[:, 3:21], expected[3:13], atol=1e-3, rtol=0)
    assert found[:, :3].max() < 1e-3
    assert found[:, 21:].max() < 1e-3


def test_units_of_nifti_are_heeded(tmp_path):
    write_nifti(tmp_path / "mm.nii", anatomy(), placed())
    affine = placed()
    affine[:3] /= 1000
    write_nifti(tmp_path / "metres.nii", anatomy(), affine, xyzt_units=1)
    assert_close(prepared(tmp_path / "metres.nii"), prepared(tmp_path / "mm.nii"), atol=1e-3, rtol=0)


def test_a_fourth_dimension_of_one_is_none(tmp_path):
    write_nifti(tmp_path / "a.nii", anatomy(), placed())
    write_nifti(tmp_path / "b.nii", anatomy()[..., None], placed())
    assert torch.equal(prepared(tmp_path / "b.nii"), prepared(tmp_path / "a.nii"))


# DICOM


def test_a_dicom_series_is_the_nifti_volume(tmp_path):
    values = np.round(anatomy())
    write_nifti(tmp_path / "a.nii", values, placed())
    series = write_series(tmp_path / "series", values)
    (series / ".DS_Store").write_text("hidden")
    (series / "DICOMDIR").write_text("index")
    read = read_volume(str(series))
    assert read.pixels.min() == values.min()  # Hounsfield units
    assert_close(prepared(series), prepared(tmp_path / "a.nii"), atol=1e-3, rtol=0)


def test_a_sagittal_series_is_the_same_volume(tmp_path):
    values = np.round(anatomy())
    write_series(tmp_path / "axial", values)
    folder = tmp_path / "sagittal"
    folder.mkdir()
    for i in range(values.shape[0]):  # rows run down, columns to the back
        write_slice(folder / f"{i}", values[i, ::-1, ::-1].T, (-(1 + 2 * i), -35, 39), directions=(0, 1, 0, 0, 0, -1))
    assert_close(prepared(folder), prepared(tmp_path / "axial"), atol=1e-3, rtol=0)


def enhanced(path, values, *, with_place=True):
    """A multi-frame file: orientation and spacing shared, positions and rescaling by frame."""
    from pydicom.dataset import Dataset

    def item(**tags):
        made = Dataset()
        for name, value in tags.items():
            setattr(made, name, value)
        return made

    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[2.0, 2.0])],
    )
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-31, -35, 1 + 2 * k])] if with_place else [],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024)],
        )
        for k in range(values.shape[2])
    ]
    stacked = np.concatenate([values[::-1, ::-1, k].T for k in range(values.shape[2])])
    tags = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    write_slice(path, stacked, (0, 0, 0), NumberOfFrames=values.shape[2], Rows=values.shape[1], **tags)
    return path


def test_a_multi_frame_file_is_the_series(tmp_path):
    import pydicom

    values = np.round(anatomy())
    path = enhanced(tmp_path / "enhanced.dcm", values)
    dataset = pydicom.dcmread(path)
    del dataset.RescaleSlope, dataset.RescaleIntercept  # they stand in the frames
    dataset.save_as(path)
    assert_close(prepared(path), prepared(write_series(tmp_path / "series", values)), atol=1e-3, rtol=0)
    assert read_volume(str(path)).pixels.min() == values.min()
    (tmp_path / "alone").mkdir()
    path.rename(tmp_path / "alone" / "enhanced")
    assert read_volume(str(tmp_path / "alone")).pixels.min() == values.min()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, v: (f / "001").unlink(), r"slices at uneven distances: mostly 2 mm, but 4 mm between \d+ and \d+"),
        (lambda f, v: write_slice(f / "x", v[..., 0].T, (-31, -35, 5)), "has several slices at one place"),
        (lambda f, v: (f / "report.txt").write_text("text"), "holds files that are not DICOM slices: report.txt"),
        (
            lambda f, v: write_slice(f / "x", v[..., 0].T, (-31, -35, 41), SeriesInstanceUID="1.2.3"),
            "holds 2 series. Give each its own folder",
        ),
        (
            lambda f, v: write_slice(f / "x", v[0], (-31, -35, 41)),
            "size, spacing or orientation differs from that of 000: x. Move localisers",
        ),
        (
            lambda f, v: write_slice(f / "x", v[..., 0].T, (-31, -35, 41), spacing=(2, 2.5)),
            "size, spacing or orientation differs",
        ),
        (
            lambda f, v: write_slice(f / "x", v[..., 0].T, (-31, -35, 41), ImagePositionPatient=None),
            "x does not give its position in mm",
        ),
        (
            lambda f, v: write_slice(f / "x", v[..., 0].T, (-31, -35, 41), PixelSpacing=[0, 2]),
            r"x has position .* pixel spacing \[0\. 2\.\]",
        ),
    ],
)
def test_series_that_are_no_volume(tmp_path, whole_series, change, message):
    folder = shutil.copytree(whole_series, tmp_path / "series")
    change(folder, np.round(anatomy()))
    with pytest.raises(UnreadableError, match=message):
        VolumeEncoder.fit(listed([folder]), OPTIONS)


def test_a_tilted_gantry_is_straightened(tmp_path):
    y = np.arange(40)[:, None]
    (tmp_path / "tilted").mkdir()
    for k in range(20):  # every slice begins 1 mm further back; the body's values are 20 for each mm
        body = 20.0 * (2 * y + k) + 0 * np.arange(20)
        write_slice(tmp_path / "tilted" / f"{k}", body, (-20, -40 + k, 2 * k))
    options = OPTIONS.model_copy(update={"size": (16, 16, 16), "window": (0.0, 2000.0)})
    found = prepared(tmp_path / "tilted", options)
    assert found.std(2).max() < 1e-3
    assert_close(found[8, :, 8].diff(), torch.full((15,), -0.02), atol=1e-3, rtol=0)


def test_slices_off_their_line_and_an_empty_folder(tmp_path):
    (tmp_path / "wavy").mkdir()
    for k in range(4):
        write_slice(tmp_path / "wavy" / f"{k}", anatomy()[..., k].T, (-31, -35 + k % 2, 1 + 2 * k))
    assert "corners do not lie on a line" in problem(tmp_path / "wavy")
    (tmp_path / "empty").mkdir()
    assert problem(tmp_path / "empty") == "holds no DICOM slices. Correct the path."


def test_dicom_files_that_are_no_volume(tmp_path):
    import pydicom

    root = Path(pydicom.__file__).parent / "data" / "test_files"
    assert "is a single slice" in problem(root / "CT_small.dcm")
    assert "expected several grey frames" in problem(root / "examples_ybr_color.dcm")
    assert "does not give its position" in problem(enhanced(tmp_path / "a.dcm", anatomy(), with_place=False))


# NIfTI that is not read


def test_nifti_files_that_are_no_volume(tmp_path):
    values = anatomy()
    write_nifti(tmp_path / "4d.nii", np.stack([values, values], 3), TWO_MM)
    assert "has shape (16, 18, 20, 2), expected three dimensions. Save one of" in problem(tmp_path / "4d.nii")
    write_nifti(tmp_path / "2d.nii", values[..., 0], TWO_MM)
    assert "has shape (16, 18), expected three dimensions. Use kind `image`." in problem(tmp_path / "2d.nii")
    write_nifti(tmp_path / "slice.nii", values[..., :1], TWO_MM)
    assert "a single slice. Use kind `image`" in problem(tmp_path / "slice.nii")
    (tmp_path / "a.png").write_text("text")
    assert "is not a volume; expected NIfTI" in problem(tmp_path / "a.png")
    assert "cannot be opened (No such file or directory)" in problem(tmp_path / "gone.nii.gz")


def test_nifti_without_a_place(tmp_path):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(anatomy().astype(np.float32), None), tmp_path / "nowhere.nii")
    assert "does not state where its voxels lie" in problem(tmp_path / "nowhere.nii")
    data = write_nifti(tmp_path / "flat.nii", anatomy(), TWO_MM).read_bytes()
    rows = np.frombuffer(data[280:328], dtype=np.float32).reshape(3, 4).copy()  # the header's sform
    rows[2] = 0
    (tmp_path / "flat.nii").write_bytes(data[:280] + rows.tobytes() + data[328:])
    assert "has voxels of [2.0, 2.0, 0.0] mm" in problem(tmp_path / "flat.nii")
    rows[2] = rows[1]
    rows[:, 2] = 1
    (tmp_path / "skewed.nii").write_bytes(data[:280] + rows.tobytes() + data[328:])
    assert "axes that lie in one plane" in problem(tmp_path / "skewed.nii")
    write_nifti(tmp_path / "huge.nii", anatomy(), np.diag([200.0, 200.0, 200.0, 1.0]))
    assert "measures 3200 x 3600 x 4000 mm, which is no part of a person" in problem(tmp_path / "huge.nii")
    write_nifti(tmp_path / "tiny.nii", anatomy(), np.diag([0.02, 0.02, 0.02, 1.0]))
    assert "measures 0.32 x 0.36 x 0.4 mm, which is no part" in problem(tmp_path / "tiny.nii")


def test_nifti_with_odd_values(tmp_path):
    values = anatomy()
    values[0, 0, 0] = np.nan
    write_nifti(tmp_path / "holes.nii", values, TWO_MM)
    assert "has 1 of 5760 pixels that are NaN, infinite" in problem(tmp_path / "holes.nii")
    write_nifti(tmp_path / "flat.nii", np.zeros((8, 8, 8)), TWO_MM)
    assert "has the value 0 in every pixel" in problem(tmp_path / "flat.nii")
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 8), dtype=np.complex64), TWO_MM), tmp_path / "waves.nii")
    assert "has values of type complex64" in problem(tmp_path / "waves.nii")


def test_truncated_volumes_are_all_named(tmp_path):
    paths = [write_nifti(tmp_path / name, anatomy(), TWO_MM) for name in ("a.nii", "b.nii.gz", "c.nii.gz")]
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableError, match="Encoder 'volume', column 'file': 2 patients") as caught:
        VolumeEncoder.fit(listed(paths), OPTIONS)
    assert list(caught.value.patients) == ["P0", "P1"]
    for patient in "P0", "P1":
        assert "cannot be read as NIfTI (nibabel:" in caught.value.patients[patient]


# Encoder


def test_prepared_volumes_are_kept_on_the_disk(monkeypatch, cache):
    frame = volume_frame()
    encoder = VolumeEncoder.fit(frame, OPTIONS)
    values = encoder.prepare(frame)
    assert len(list(cache.rglob("*.npy"))) == len(frame)

    def refuse(*_):
        raise AssertionError("a file was read")

    monkeypatch.setattr(VolumeEncoder, "read", refuse)
    assert torch.equal(encoder.prepare(frame).store, values.store)
    assert isinstance(values.store, torch.Tensor)
    other = VolumeEncoder.from_config(encoder.config() | {"options": OPTIONS.model_dump() | {"spacing": (3, 3, 3)}})
    with pytest.raises(AssertionError, match="a file was read"):
        other.prepare(frame)


def test_frozen_volume_networks(tmp_path):
    weights = write_weights(tmp_path / "w.safetensors", "resnet10", 3, 1)
    options = VolumeOptions(size=(16, 16, 16), network="resnet10", weights=weights, frozen=True, embedding_size=4)
    encoder = VolumeEncoder.fit(volume_frame(), options)
    values = encoder.prepare(volume_frame())
    assert values.shape == (12, 512)
    assert encoder(values).shape == (12, 4)
    assert encoder.network is None


def test_it_learns_to_see_a_blob():
    from torch import nn

    train, test = volume_frame(80, seed=3), volume_frame(80, seed=4)
    options = VolumeOptions(size=(16, 16, 16), embedding_size=4, augment="light")
    encoder = VolumeEncoder.fit(train, options)
    decoder = nn.Linear(4, 1)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    values, target = encoder.prepare(train), (torch.arange(80) % 2).float()
    for _ in range(10):
        for rows in torch.randperm(80).split(10):
            loss = nn.functional.binary_cross_entropy_with_logits(decoder(encoder(values[rows]))[:, 0], target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    scores = decoder(encoder.eval()(encoder.prepare(test)))[:, 0].detach()
    assert roc_auc_score(target, scores) > 0.9


def test_swin_without_einops_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "einops", None)
    with pytest.raises(MissingExtraError, match="Network 'swin'"):
        VolumeEncoder.fit(volume_frame(), VolumeOptions(size=(32, 32, 32), network="swin"))


def test_swin_pools_its_last_grid(monkeypatch):
    from types import ModuleType

    from monai.networks.nets import swin_unetr

    def rearrange(x, pattern):  # all that MONAI's transformer asks of einops is to move axes
        before, after = (side.split() for side in pattern.split("->"))
        return x.permute([before.index(axis) for axis in after])

    monkeypatch.setitem(sys.modules, "einops", ModuleType("einops"))
    monkeypatch.setattr(swin_unetr, "rearrange", rearrange)
    network = ImageNetwork(Architecture("swin", 3, 1, is_pretrained=False)).train()
    features = network(torch.rand(1, 1, 32, 32, 32))
    assert features.shape == (1, FEATURE_SIZES["swin"])
    features[0, 0].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_swin_needs_multiples_of_32():
    with pytest.raises(ValidationError, match="needs multiples of 32"):
        VolumeOptions(size=(32, 48, 32), network="swin")
    with pytest.raises(ValidationError, match="spacing"):
        VolumeOptions(spacing=(2, 2, 0))
