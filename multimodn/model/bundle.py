"""A trained model on disk: weights in safetensors, everything else in JSON, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from multimodn.base.encoder import Encoder
from multimodn.base.kinds import load_kind
from multimodn.conformal.calibration_scores import Conformal
from multimodn.data.splits import PARTS, Split
from multimodn.errors import BundleError, MultiModNError
from multimodn.explain.acquisition.next_modality import Acquisition, Sizes
from multimodn.files import replacing_folder
from multimodn.fusion import Ensemble, SequentialFusion
from multimodn.fusion.experts import Experts
from multimodn.model.trained import TrainedModel
from multimodn.study.study import Study
from multimodn.training.build import join

SCHEMA = 1
DESCRIPTION, WEIGHTS = "bundle.json", "model.safetensors"
ACQUISITION, CONFORMAL = "acquisition.safetensors", "conformal.safetensors"


def save(path: Path, trained: TrainedModel) -> Path:
    """Writes a bundle to the folder ``path``, replacing a bundle that is there.

    The folder is written under another name and renamed, so that ``path`` never holds half a bundle.

    Raises:
        BundleError: If ``path`` exists and is not a bundle.
    """
    if path.exists() and not (path / DESCRIPTION).is_file():
        raise BundleError(f"{path} exists and is not a bundle; choose another path or remove it.")
    with replacing_folder(path) as temporary:
        _write(temporary, path, trained)
    return path


def load(path: Path) -> TrainedModel:
    """Reads a bundle and checks that it is what was written.

    Raises:
        BundleError: If it is missing, truncated, edited, of another schema, or needs a kind that is not installed.
    """
    content = _read_description(path)
    weights_path = _checked(path, WEIGHTS, content.get("weights_sha256"))
    try:
        study = Study.from_dict(content["study"], (path.parent / content["folder"]).resolve())
        model = Ensemble([_member(study, content) for _ in range(content["n_members"])])
        for member, experts in zip(model.networks, content.get("experts", []), strict=False):
            member.experts = Experts.from_config(experts)
        model.load_state_dict(load_file(weights_path))
        split, provenance = content["split"], content["provenance"]
        head = _acquisition(path, content.get("acquisition"))
        scores = content.get("conformal")  # None: never calibrated, or of an older version
        sets = scores and Conformal.from_parts(scores, load_file(_checked(path, CONFORMAL, scores["sha256"])))
    except (MultiModNError, SafetensorError, RuntimeError, KeyError) as error:
        raise BundleError(f"{path} does not fit this installation of multimodn: {error}") from error
    restored = None if split is None else Split(*(np.array(split[part], dtype=object) for part in PARTS))
    return TrainedModel(study, model.eval(), restored, dict(provenance), head, sets)


def _checked(folder: Path, name: str, digest: str | None) -> Path:
    """Returns the path of a file of the bundle, if it is what was written."""
    file = folder / name
    if not file.is_file():
        raise BundleError(f"{folder} has no {name}: the bundle is incomplete; copy it again.")
    if _sha256(file.read_bytes()) != digest:
        raise BundleError(f"{file} is truncated or was edited: its hash differs from {DESCRIPTION}'s.")
    return file


def _acquisition(folder: Path, content: Mapping[str, Any] | None) -> Acquisition | None:
    if content is None or "heads" not in content:  # never fitted, or of an older version
        return None
    head = Acquisition([Sizes(**each | {"tasks": tuple(each["tasks"])}) for each in content["heads"]]).eval()
    head.load_state_dict(load_file(_checked(folder, ACQUISITION, content["sha256"])))
    return head


def _write(folder: Path, path: Path, trained: TrainedModel) -> None:
    # repeated readings share an encoder: the format wants a tensor of its own for each name
    save_file({name: t.contiguous().clone() for name, t in trained.ensemble.state_dict().items()}, folder / WEIGHTS)
    study, model, split, first = trained.study, trained.ensemble, trained.split, trained.ensemble.first
    content = {
        "schema": SCHEMA,
        "study": study.to_dict(),
        "folder": os.path.relpath(study.folder, path.parent),  # where its sources are, while both stay in place
        "modalities": first.modalities,
        "encoders": {name: encoder.config() for name, encoder in first.encoders.items()},  # type: ignore[operator]
        "tasks": {name: task.config() for name, task in model.tasks.items()},
        "n_members": len(model.members),
        "experts": [member.experts.config() for member in model.networks if member.experts is not None],
        "split": None if split is None else {part: list(getattr(split, part)) for part in PARTS},
        "provenance": dict(trained.provenance),
        "weights_sha256": _sha256((folder / WEIGHTS).read_bytes()),
    }
    if trained.acquisition is not None:
        save_file(trained.acquisition.state_dict(), folder / ACQUISITION)
        digest = _sha256((folder / ACQUISITION).read_bytes())
        content["acquisition"] = {"heads": [asdict(each) for each in trained.acquisition.sizes], "sha256": digest}
    if trained.conformal_scores is not None:
        save_file(trained.conformal_scores.tensors(), folder / CONFORMAL)
        digest = _sha256((folder / CONFORMAL).read_bytes())
        content["conformal"] = trained.conformal_scores.description() | {"sha256": digest}
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
