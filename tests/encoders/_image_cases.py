"""Small pictures on the disk, and one encoder of each flavour that reads them."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from multimodn.encoders.image import ImageEncoder, ImageOptions
from multimodn.encoders.volume import VolumeEncoder, VolumeOptions


@functools.cache
def folder():
    made = tempfile.mkdtemp(prefix="multimodn-pictures-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def listed(paths, patients=None):
    """The frame of one file a row."""
    patients = [f"P{i}" for i in range(len(paths))] if patients is None else patients
    return pd.DataFrame({"file": [str(path) for path in paths]}, index=pd.Index(patients, name="patient"))


def blob(shape, rng, *, planted):
    """Noise from 0 to 1, and, where planted, a bright ball at a random place."""
    pixels = rng.uniform(0.0, 0.5, shape)
    centre = [rng.uniform(0.25, 0.75) * length for length in shape]
    places = np.meshgrid(*[np.arange(length) for length in shape], indexing="ij")
    distance = sum((place - c) ** 2 for place, c in zip(places, centre, strict=True))
    return pixels + 0.5 * planted * np.exp(-distance / 8)


def write_png(path, pixels):
    from PIL import Image

    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def write_nifti(path, values, affine=None, **header):
    import nibabel

    image = nibabel.Nifti1Image(values.astype(np.float32), np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@functools.cache
def images(n_rows, seed):
    """PNG files, every other one with a blob."""
    rng = np.random.default_rng(seed)
    made = folder() / f"images-{n_rows}-{seed}"
    made.mkdir()
    return tuple(write_png(made / f"{i}.png", 255 * blob((20, 24), rng, planted=i % 2)) for i in range(n_rows))


@functools.cache
def volumes(n_rows, seed):
    """NIfTI files of 2 mm voxels, every other one with a blob."""
    rng = np.random.default_rng(seed)
    made = folder() / f"volumes-{n_rows}-{seed}"
    made.mkdir()
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return tuple(
        write_nifti(made / f"{i}.nii.gz", blob((14, 16, 12), rng, planted=i % 2), affine) for i in range(n_rows)
    )


def image_frame(n_rows=12, seed=0):
    return listed(images(n_rows, seed))


def volume_frame(n_rows=12, seed=0):
    return listed(volumes(n_rows, seed))


def write_weights(path, name, spatial_dims, channels, seed=0):
    """Random weights of a network, with its batch norms' statistics."""
    from safetensors.torch import save_file

    from multimodn.encoders._images.networks import Architecture, ImageNetwork

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ImageNetwork(Architecture(name, spatial_dims, channels, is_pretrained=True))
        for key, tensor in network.state_dict().items():
            if key.endswith("running_mean"):
                tensor.normal_()
    save_file({name: tensor.contiguous() for name, tensor in network.body.state_dict().items()}, path)
    return str(path)


def frozen_frame(n_rows=12, seed=0):
    if not frozen_weights().exists():
        write_weights(frozen_weights(), "small", 2, 3)
    return image_frame(n_rows, seed)


def frozen_weights():
    return folder() / "small.safetensors"


CASES = {
    "image": (ImageEncoder, ImageOptions(size=24, embedding_size=6), image_frame),
    "frozen image": (
        ImageEncoder,
        ImageOptions(size=24, embedding_size=6, weights=str(frozen_weights()), frozen=True),
        frozen_frame,
    ),
    "volume": (VolumeEncoder, VolumeOptions(size=(16, 16, 16), embedding_size=6), volume_frame),
}
"""Kind, options, and what makes a frame of `n_rows` patients, one file each."""
