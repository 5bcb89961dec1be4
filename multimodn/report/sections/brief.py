"""The box on top of a report: what a reader should know before all else, good or bad."""

from __future__ import annotations

from dataclasses import replace

from multimodn.figures.performance import overall_chart
from multimodn.findings import sentences
from multimodn.findings.numbers import counted, joined
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, Listing, Prose, Section
from multimodn.report.sections.words import drawn

FEW_PATIENTS = 50  # patients below whom scores are hardly more than anecdotes


def brief_section(content: ReportContent) -> Section:
    """Sums the report up in a few sentences; cautions first."""
    found, mode = content.findings, content.run.missingness
    texts = [
        _who(content),
        *sentences.best_and_worst(found),
        *sentences.fusion(found),
        *sentences.calibration(found),
        *sentences.coverage(found),
        *sentences.contributions(found),
        f"Missing data, mode {mode}. {sentences.MISSINGNESS[mode]}",
    ]
    blocks: list[Block] = [Prose(text, "caution") for text in cautions(content)]
    performance = content.get("performance")
    blocks.append(Listing(texts))
    if performance is not None:  # the figure is in the section on performance, too, under its own name
        blocks.append(drawn(lambda: replace(overall_chart(performance), name="scores", title="All tasks at a glance")))
    return Section("brief", "In brief", blocks)


def _who(content: ReportContent) -> str:
    seen = "" if content.is_trained_on else ", none of whom the model was trained on"
    if content.who == "patients of the given files":
        seen = ", who come from other files than the study's"
    return (
        f"One model predicts {counted(len(content.tasks), 'outcome')} ({joined(task.name for task in content.tasks)}) "
        f"from up to {counted(len(content.modalities), 'modality')}. This report is about {content.n_shown:,} "
        f"{content.who}{seen}."
    )


def cautions(content: ReportContent) -> list[str]:
    """Lists what weakens the report, in order of weight."""
    texts = []
    if content.is_trained_on:
        texts.append(
            "The model was trained on some or all of these patients. Scores and calibration look better than on new "
            "patients, and prove nothing."
        )
    if content.n_shown < FEW_PATIENTS:
        texts.append(
            f"These are only {counted(content.n_shown, 'patient')}. Intervals are wide, and differences between tasks, "
            "steps and groups may well be chance."
        )
    if content.get("performance") is None:
        texts.append(f"There are no scores. {content.why_not('performance')}")
    found = content.findings
    return [*texts, *sentences.score_cautions(found), *sentences.miscalibrated(found), *sentences.low_coverage(found)]
