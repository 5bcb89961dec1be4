"""Brings what stands beside a model up to what its report found."""

from __future__ import annotations

import warnings
from pathlib import Path

from multimodn.card.card import CARD, write_card
from multimodn.card.sections.scores import NOT_COMPARED
from multimodn.data.cohort import Cohort
from multimodn.errors import DataWarning
from multimodn.evaluate.baselines.stored_comparison import cached_comparison, keep_comparison
from multimodn.findings.frames import ComparisonFrame
from multimodn.model.multimodn import MultiModN


def complete_card(model: MultiModN, run: Path, comparison: ComparisonFrame | None) -> list[Path]:
    """Writes the model card and the checklist of a run anew with the comparison with simple models, and keeps it.

    Returns the files; none where the folder has no card, or was given this very comparison before.

    Args:
        model: The model of the run.
        run: The run folder.
        comparison: With simple models, on the run's own test patients; None: there is none.

    Raises:
        DataError: If the study's sources are not what the model was trained on any more.
    """
    if comparison is None or comparison.empty or not (run / CARD).is_file():
        return []
    kept = cached_comparison(run, model)
    if kept is not None and NOT_COMPARED not in (run / CARD).read_text(encoding="utf-8"):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # told when the report read them
        files = write_card(model, Cohort.load(model.study), run, baselines=comparison)
    return files if kept is not None else [*files, keep_comparison(run, model, comparison)]
