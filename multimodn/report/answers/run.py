"""Facts about a run and its cohort, and how training went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from multimodn.base.task import main_metric
from multimodn.data.cohort import Cohort
from multimodn.data.splits import PARTS
from multimodn.files import BUNDLE, CHECKPOINTS
from multimodn.findings.experts import experts_of
from multimodn.model.multimodn import MultiModN
from multimodn.report.content import ModalityInfo, RunInfo, TaskInfo

DOCUMENTS = ("MODEL_CARD.md", "CHECKLIST.md")  # what `multimodn.card` writes beside a bundle


def run_facts(model: MultiModN, run: Path) -> RunInfo:
    """Reads where the model of a run folder, or of a bundle's, comes from."""
    known: Mapping[str, Any] = model.provenance
    sources = model.study.cohort.sources
    folder = run / BUNDLE if (run / BUNDLE).is_dir() else run
    written = max((file.stat().st_mtime for file in folder.iterdir()), default=0.0) if folder.is_dir() else 0.0
    return RunInfo(
        model.study.name,
        model.study.to_yaml(),
        f"{datetime.fromtimestamp(written, UTC):%d %B %Y}" if written else "unknown",
        dict(known.get("versions", {})),
        str(known.get("data_hash", "unknown")),
        str(known.get("split_hash", "unknown")),
        int(known.get("seed", model.study.training.seed)),
        model.trained.n_members,
        model.study.missingness,
        {name: _reads(source.model_dump(mode="json", exclude_none=True)) for name, source in sources.items()},
        [name for name in DOCUMENTS if (run / name).is_file()],
        experts_of(known, model.study.seen),
    )


def _reads(source: Any) -> str:
    """Says what a source reads: its path, pattern or query."""
    if isinstance(source, Mapping):  # else a path alone
        source = next((source[key] for key in ("path", "files", "query") if key in source), dict(source))
    return " ".join(str(source).split())


def task_facts(model: MultiModN) -> list[TaskInfo]:
    """Lists the tasks in the study's order."""
    kinds = {task.name: task.kind for task in model.study.tasks}
    return [
        TaskInfo(name, kinds.get(name, ""), task.link_scale, tuple(task.link_names), main_metric(task))
        for name, task in model.trained.tasks.items()
    ]


def modality_facts(model: MultiModN, cohort: Cohort) -> list[ModalityInfo]:
    """Lists the modalities in the order of the steps."""
    widths = {name: frame.shape[1] for name, frame in cohort.modalities.items()}
    steps = [(name, model.study.steps[name]) for name in model.order]
    return [ModalityInfo(name, step.kind, widths.get(name, 0), tuple(step.exclude_for)) for name, step in steps]


def part_counts(model: MultiModN, cohort: Cohort, classes: pd.DataFrame) -> pd.DataFrame:
    """Counts patients, and the labels of each task (``classes``: outcomes by patient), in each part and in all."""
    part = pd.Series("not in the split", index=cohort.patients)
    for name in PARTS if model.split is not None else ():
        part[cohort.patients.isin(pd.Index(getattr(model.split, name), dtype=object))] = name
    known = classes.notna().set_axis([f"labelled: {name}" for name in classes.columns], axis=1)
    counted = pd.concat([pd.Series(1, cohort.patients, name="patients"), known.astype(int)], axis=1)
    found = counted.groupby(part, sort=False).sum()
    found = found.reindex([name for name in (*PARTS, "not in the split") if name in found.index])
    return pd.concat([found, counted.sum().to_frame("all").T]).rename_axis("part").reset_index()


def outcome_counts(classes: pd.DataFrame) -> pd.DataFrame:
    """Counts the outcomes of each task: ``task``, ``outcome`` (empty = unknown), ``patients``."""
    rows = [
        (task, str(outcome), int(n))
        for task in classes.columns
        for outcome, n in classes[task].value_counts(sort=False).items()
    ]
    unknown = [(task, "", int(classes[task].isna().sum())) for task in classes.columns]
    return pd.DataFrame([*rows, *unknown], columns=["task", "outcome", "patients"]).query("patients > 0")


def training(run: Path) -> pd.DataFrame:
    """Reads how training went from the logs of a run: ``member``, ``epoch``, ``validation_loss``, ``training_loss``.

    A log of an interrupted run goes on in another file; the later one counts.
    """
    parts = []
    columns = ["epoch", "validation_loss", "training_loss"]
    for folder in sorted((run / CHECKPOINTS).glob("member*")):
        files = folder.glob("log/version_*/metrics.csv")
        logs = [pd.read_csv(file) for file in sorted(files, key=lambda file: int(file.parent.name.partition("_")[2]))]
        lines = pd.concat(logs) if logs else pd.DataFrame(columns=["epoch"])
        lines = lines.rename(columns={"train_loss": "training_loss"}).reindex(columns=columns)
        member = int(folder.name.removeprefix("member"))
        parts.append(lines.groupby("epoch", as_index=False).last().assign(member=member))
    columns = ["member", *columns]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
