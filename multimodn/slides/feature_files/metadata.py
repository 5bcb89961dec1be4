"""Metadata of feature files: of this package, CLAM and TRIDENT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multimodn.errors import DataError

SCHEMA = 1


@dataclass(frozen=True)
class FeatureMeta:
    """Metadata of a feature file; None = not stated."""

    slide: str | None = None  # file name of the slide
    width: int | None = None  # of the slide, level-0 pixels
    height: int | None = None  # of the slide, level-0 pixels
    mpp: float | None = None  # microns per level-0 pixel
    slide_bytes: int | None = None  # size of the slide file
    tile_size: int | None = None  # side of a tile as the network saw it, pixels
    tile_mpp: float | None = None  # microns per pixel of a tile
    extent: int | None = None  # side of a tile, level-0 pixels
    overlap: float | None = None  # share of its side that a tile has in common with its neighbour
    tissue: str | None = None  # options of the search for tissue, as JSON
    tissue_share: float | None = None  # least share of a tile that is tissue
    encoder: str | None = None  # name of the tile encoder
    encoder_hash: str | None = None  # SHA-256 of the tile encoder
    stain: str | None = None  # name of the stain normaliser; ``none`` = none
    batch_size: int | None = None  # tiles that were read and saved at a time
    device: str | None = None  # ``cpu`` or the accelerator that the network ran on
    parameters: str | None = None  # hash over the type of the features and what decides them: all but the two above
    version: str | None = None  # of the multimodn that wrote the file


def read_tensor(path: Path) -> Any:
    """Returns the one array that a file of `torch.save` holds, float16 or float32.

    Raises:
        DataError: If it is damaged, or holds something else than a tensor of real numbers.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file lets the reader of pickles fail with any error
        first = str(error).strip().splitlines()[:1]
        raise DataError(
            f"{path} is damaged, or does not hold a tensor; only tensors are read, as a pickle may run code. Write it "
            f"with torch.save(tensor, ...). ({''.join(first)})"
        ) from None
    if not isinstance(content, torch.Tensor):
        raise DataError(f"{path} holds a {type(content).__name__}, expected one tensor (n, F).")
    try:
        if content.is_complex() or content.is_quantized:
            raise TypeError(f"{content.dtype} are no plain numbers")
        dense = content.detach().to_dense()
        array = (dense if dense.dtype in (torch.float16, torch.float32) else dense.to(torch.float32)).numpy()
    except (RuntimeError, TypeError, ValueError) as error:
        repair = "Save plain numbers, torch.save(tensor.float(), ...)."
        raise DataError(f"{path} holds a tensor that cannot be read: {error}. {repair}") from None
    return array


def write_meta(file: Any, coords: NDArray[np.int64], meta: FeatureMeta) -> None:
    """Writes corners and metadata to an open HDF5 file."""
    file.attrs["multimodn_schema"] = SCHEMA
    for field in fields(meta):
        value = getattr(meta, field.name)
        if value is not None:
            file.attrs[field.name] = value
    stored = file.create_dataset("coords", data=np.asarray(coords, dtype=np.int64), track_times=False)
    for name, value in (("patch_size", meta.tile_size), ("patch_size_level0", meta.extent)):
        if value is not None:
            stored.attrs[name] = value  # as TRIDENT names them


def read_meta(attributes: Any) -> FeatureMeta:
    """Returns what `write_meta` wrote."""
    names = [field.name for field in fields(FeatureMeta) if field.name in attributes]
    return FeatureMeta(**{name: _plain(attributes[name]) for name in names})


def foreign_meta(stored: Any, coords: Any) -> FeatureMeta:
    """Returns the metadata that another program wrote to the datasets of features and corners; see `open_features`."""
    at_coords = {} if coords is None else {name: _plain(value) for name, value in coords.attrs.items()}
    at_features = {name: _plain(value) for name, value in stored.attrs.items()}
    size, extent, overlap = (at_coords.get(name) for name in ("patch_size", "patch_size_level0", "overlap"))
    downsample = at_coords.get("downsample")
    if extent is None and downsample is not None and size:
        extent = round(size * float(np.ravel(downsample)[0]))
    return FeatureMeta(
        slide=at_coords.get("name") or at_features.get("name"),
        width=at_coords.get("level0_width"),
        height=at_coords.get("level0_height"),
        tile_size=size,
        extent=extent,
        overlap=None if overlap is None or not size else overlap / size,  # TRIDENT's is in pixels
        encoder=at_features.get("encoder"),
    )


def _plain(value: Any) -> Any:
    """Returns an attribute as a Python value; TRIDENT writes None as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return None if isinstance(value, str) and value == "None" else value


def canonical(options: Mapping[str, Any]) -> str:
    """Returns options as JSON, the same for the same options."""
    return json.dumps(options, sort_keys=True)
