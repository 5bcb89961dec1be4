"""A run folder: the study, checkpoints while training, and at the end the bundle and its scores."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from multimodn.card.card import write_card
from multimodn.data.cohort import Cohort
from multimodn.data.splits import make_split
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.performance.subgroups import read_subgroups
from multimodn.files import BUNDLE, CHECKPOINTS, LOG, make_folder, write_text
from multimodn.model.multimodn import MultiModN
from multimodn.monitor.reference import write_reference
from multimodn.study.folder import check_unchanged, check_unused
from multimodn.study.study import Study
from multimodn.training.fit import TrainerFlags, has_finished_epoch
from multimodn.training.loggers import check_loggers

STUDY = "study.yaml"


def fit_run(study: Study, folder: Path, *, resume: bool = False, flags: TrainerFlags | None = None) -> MultiModN:
    """Trains a study into a run folder.

    Writes ``study.yaml``, ``run.json`` (seed, versions, hashes, date, wall time), ``checkpoints/``, ``metrics.csv``
    (scores of the test patients, if there are any), ``bundle/`` (with the network for what to measure next and the
    nonconformity scores of held-out patients, if there are any), ``reference.json`` (for drift), ``MODEL_CARD.md`` and
    ``CHECKLIST.md``.

    Args:
        study: What to train.
        folder: The run folder.
        resume: Whether to continue an interrupted run, after its last finished epoch. A folder in which no epoch has
            finished holds no run: training starts anew in it, with ``resume`` or without.
        flags: Lightning's flags.

    Raises:
        StudyError: If the folder holds a run already, or `resume` finds one of another study or other data.
    """
    started = time.monotonic()
    check_loggers(study.training.loggers)
    cohort = Cohort.load(study)
    read_subgroups(cohort, study.subgroups)  # reports a misspelt column before training
    split = make_split(study, cohort)
    study_hash = hashlib.sha256(study.to_yaml().encode()).hexdigest()
    fingerprint = {"study": study_hash, "data": cohort.hash(), "split": split.hash()}
    if is_helper_process():
        return MultiModN(study).fit(cohort, split=split, folder=folder / CHECKPOINTS, flags=flags)
    _check_folder(folder, fingerprint, resume)
    make_folder(folder)
    write_text(folder / STUDY, study.to_yaml())
    write_text(folder / LOG, json.dumps({"fingerprint": fingerprint, "finished": False}, indent=1))
    model = MultiModN(study).fit(cohort, split=split, folder=folder / CHECKPOINTS, flags=flags)
    for name, ask in (("acquisition", model.explain.fit_acquisition), ("conformal", model.conformal.fit)):
        try:
            ask(cohort)
        except DataError as error:  # no patients were held out
            model.provenance[name] = str(error)
    if len(split.test):
        scores = model.evaluate(cohort.subset(split.test))
        write_text(folder / "metrics.csv", scores.to_csv(index=False))
        model.provenance["metrics"] = scores.astype(object).where(scores.notna(), None).to_dict("records")
    model.save(folder / BUNDLE)
    date, wall_time_s = datetime.now(UTC).isoformat(timespec="seconds"), round(time.monotonic() - started, 1)
    log = {"fingerprint": fingerprint, "finished": True, "date": date, "wall_time_s": wall_time_s, **model.provenance}
    write_text(folder / LOG, json.dumps(log, indent=1))
    write_reference(model, cohort, folder)
    write_card(model, cohort, folder)
    return model


def is_helper_process() -> bool:
    """Whether Lightning started this process for a further device: it trains, and writes nothing."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def _check_folder(folder: Path, fingerprint: dict[str, str], resume: bool) -> None:
    log = _started_run(folder)
    if log is None:
        check_unused(folder, "run")
        return
    if not resume:
        how = "is finished" if log.get("finished") else "was interrupted: add --resume to continue it"
        raise StudyError(f"{folder} holds a run that {how}. Choose another folder, or remove it.")
    check_unchanged(folder, "run", log["fingerprint"], fingerprint)


def _started_run(folder: Path) -> dict[str, Any] | None:
    """Returns the log of a run that has finished an epoch; what is left of one that failed before is removed."""
    file = folder / LOG
    if not file.exists():
        return None
    log: dict[str, Any] = json.loads(file.read_text())
    if log.get("finished") or has_finished_epoch(folder / CHECKPOINTS):
        return log
    if {path.name for path in folder.iterdir()} <= {LOG, STUDY, CHECKPOINTS}:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        for name in (LOG, STUDY):
            (folder / name).unlink(missing_ok=True)
    return None
