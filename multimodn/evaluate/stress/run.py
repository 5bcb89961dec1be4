"""The stress test of a run folder: table, page and figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from multimodn.data.cohort import Cohort
from multimodn.errors import StudyError, did_you_mean
from multimodn.evaluate.stress.report import page, stress_chart
from multimodn.evaluate.stress.stress import ARMS, Plan, stress
from multimodn.files import write_text
from multimodn.findings.numbers import joined
from multimodn.study.study import Study

TRAINABLE = ("mnar", "mar", "mcar", "self")


def stress_run(
    study: Study,
    out: Path,
    task: str | None = None,
    modalities: Sequence[str] | None = None,
    strength: float = 0.8,
    arms: Sequence[str] | None = None,
    *,
    columns: Sequence[str] | None = None,
    mechanism: str = "mnar",
    n_folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    on_cell: Callable[[str, int, int], None] | None = None,
) -> str:
    """Runs the stress test on a study's own sources.

    Writes ``results.csv``, ``RESULTS.md``, ``stress.png`` and ``stress-dark.png``, and the finished cells, from which
    the same call goes on after an interruption.

    Args:
        study: What to train.
        out: Folder of the results.
        task: Whose outcome decides what goes missing; default: the first.
        modalities: What goes missing; default: the last two if no columns are named.
        strength: Chance that a patient with the event loses each of them, in [0, 1].
        arms: Names among `multimodn.evaluate.stress.stress.ARMS`; default: all.
        columns: Cells that go missing while their modality stays, each ``modality:column``, or ``modality:variable`` of
            a series.
        mechanism: Why they go missing in training: ``mnar``, ``mar``, ``mcar`` or ``self``.
        n_folds: Parts of the cross-validation.
        repeats: How often patients are dealt anew.
        seed: Of folds, blanking and training.
        on_cell: Called with arm, repeat and fold when one is done.

    Returns:
        The page, in Markdown.

    Raises:
        StudyError: If a name is unknown or the strength lies outside [0, 1].
    """
    if mechanism not in TRAINABLE:
        raise StudyError(f"Unknown mechanism '{mechanism}' of training.{did_you_mean(mechanism, TRAINABLE)}")
    if unknown := [name for name in arms or () if name not in ARMS]:
        raise StudyError(f"Unknown arm '{unknown[0]}'.{did_you_mean(unknown[0], ARMS)}")
    cells = tuple(map(_column, columns or ()))
    blanked = tuple(modalities or ([] if cells else list(study.steps)[-2:]))
    plan = Plan(
        task or study.tasks[0].name, blanked, strength,
        n_folds=n_folds, repeats=repeats, seed=seed, mechanism=cast(Any, mechanism), columns=cells,
    )  # fmt: skip
    chosen = {name: ARMS[name] for name in arms or ARMS}
    scores = stress(study, Cohort.load(study), plan, out, chosen, on_cell)
    write_text(out / "results.csv", scores.assign(cohort=study.name).to_csv(index=False))
    text = page(scores, plan.task)
    write_text(out / "RESULTS.md", text)
    who = f"patients with the event ({plan.task})" if mechanism == "mnar" else f"patients ({mechanism})"
    lost = [*blanked, *(f"{column} of {name}" for name, column in cells)]
    title = f"{study.name}: {strength:.0%} of {who} lose {joined(lost)}"
    stress_chart(scores, [plan.task], title).save_png(out, is_titled=True)
    return text


def _column(text: str) -> tuple[str, str]:
    """Splits ``modality:column``."""
    modality, colon, column = text.partition(":")
    if not (modality and colon and column):
        raise StudyError(f"'{text}' names no column. Write modality:column, such as labs:lactate.")
    return modality, column
