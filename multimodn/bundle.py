"""A trained model on disk: weights in safetensors, everything else in JSON, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from multimodn.base import Encoder, load_kind
from multimodn.data.splits import Split
from multimodn.errors import BundleError, MultiModNError
from multimodn.fusion import Ensemble, SequentialFusion
from multimodn.study import Study
from multimodn.training.build import join

SCHEMA = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "bundle.json"


def save(path: Path, study: Study, model: Ensemble, split: Split | None, provenance: Mapping[str, Any]) -> Path:
    """Writes a bundle to the folder ``path``, replacing a bundle that is there.

    The folder is written under another name and renamed, so that ``path`` never holds half a bundle.

    Raises:
        BundleError: If ``path`` exists and is not a bundle.
    """
    if path.exists() and not (path / DESCRIPTION).is_file():
        raise BundleError(f"{path} exists and is not a bundle; choose another path or remove it.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(temporary, path, study, model, split, provenance)
    except BaseException:  # an interruption too
        shutil.rmtree(temporary)
        raise
    if path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old)
    else:
        temporary.rename(path)
    return path


def load(path: Path) -> tuple[Study, Ensemble, Split | None, dict[str, Any]]:
    """Reads a bundle and checks that it is what was written.

    Raises:
        BundleError: If it is missing, truncated, edited, of another schema, or needs a kind that is not installed.
    """
    content = _read_description(path)
    weights_path = path / WEIGHTS
    if not weights_path.is_file():
        raise BundleError(f"{path} has no {WEIGHTS}: the bundle is incomplete; copy it again.")
    if _sha256(weights_path.read_bytes()) != content.get("weights_sha256"):
        raise BundleError(f"{weights_path} is truncated or was edited: its hash differs from {DESCRIPTION}'s.")
    try:
        study = Study.from_dict(content["study"], (path.parent / content["folder"]).resolve())
        model = Ensemble([_member(study, content) for _ in range(content["n_members"])])
        model.load_state_dict(load_file(weights_path))
        split, provenance = content["split"], content["provenance"]
    except (MultiModNError, SafetensorError, RuntimeError, KeyError) as error:
        raise BundleError(f"{path} does not fit this installation of multimodn: {error}") from error
    restored = None if split is None else Split(**{part: np.array(split[part], dtype=object) for part in _PARTS})
    return study, model.eval(), restored, provenance


_PARTS = ("train", "validation", "test")


def _write(
    folder: Path,
    path: Path,
    study: Study,
    model: Ensemble,
    split: Split | None,
    provenance: Mapping[str, Any],
) -> None:
    # repeated readings share an encoder: the format wants a tensor of its own for each name
    save_file({name: t.contiguous().clone() for name, t in model.state_dict().items()}, folder / WEIGHTS)
    first = model.first
    content = {
        "schema": SCHEMA,
        "study": study.to_dict(),
        "folder": os.path.relpath(study.folder, path.parent),  # where its sources are, while both stay in place
        "modalities": first.modalities,
        "encoders": {name: encoder.config() for name, encoder in first.encoders.items()},  # type: ignore[operator]
        "tasks": {name: task.config() for name, task in model.tasks.items()},
        "n_members": len(model.members),
        "split": None if split is None else {part: list(getattr(split, part)) for part in _PARTS},
        "provenance": dict(provenance),
        "weights_sha256": _sha256((folder / WEIGHTS).read_bytes()),
    }
    content["sha256"] = _digest(content)
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1, default=_plain))


def _member(study: Study, content: Mapping[str, Any]) -> SequentialFusion:
    encoders: dict[str, Encoder] = {}
    for spec in study.modalities:
        encoder = load_kind("encoders", spec.kind).from_config(content["encoders"][spec.step_names[0]])
        encoders |= dict.fromkeys(spec.step_names, encoder)
    tasks = [load_kind("tasks", s.kind).from_config(content["tasks"][s.name]) for s in study.tasks]
    with torch.random.fork_rng(devices=[]):
        return join(study, encoders, tasks)


def _read_description(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION
    if not file.is_file():
        raise BundleError(f"{path} is no bundle: it has no {DESCRIPTION}.")
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        schema = content["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file} is truncated or is not a bundle's: {error}.") from error
    if schema != SCHEMA:
        raise BundleError(
            f"{file} has schema {schema}, this version of multimodn reads {SCHEMA}. "
            f"Load it with multimodn {content.get('provenance', {}).get('versions', {}).get('multimodn', '?')}."
        )
    if content.pop("sha256", None) != _digest(content):
        raise BundleError(f"{file} was edited after it was written: its content does not match its hash.")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True, default=_plain).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(value: Any) -> Any:
    """Turns numpy's and pandas' scalars into what JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
