"""The cohort of a report."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.cohort import outcomes_chart, patterns_chart
from multimodn.findings.numbers import counted
from multimodn.findings.sentences import SKIPPED
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, DataTable, Prose, Section
from multimodn.report.sections.words import drawn


def cohort_section(content: ReportContent) -> Section:
    """Describes patients, the parts of the split, presence of modalities, and labels."""
    presence = content.presence
    complete, nothing = int(presence.all(axis=1).sum()), int((~presence.any(axis=1)).sum())
    text = (
        f"{counted(len(presence), 'patient')} and {counted(presence.shape[1], 'modality')}; {complete:,} patients have "
        f"all of them. There are {counted(len(presence.drop_duplicates()), 'presence pattern')}. {SKIPPED}"
    )
    if nothing:
        text += f" {counted(nothing, 'patient')} without any modality: the prior is predicted."
    blocks: list[Block] = [
        Prose(text),
        DataTable("Patients and labels in each part of the split.", content.parts),
        DataTable("Modalities in the order in which they are read.", _modalities(content)),
        drawn(patterns_chart, presence),
    ]
    absent = Prose("These patients have no known outcomes.", "absent")
    blocks.append(drawn(outcomes_chart, content.outcomes) if len(content.outcomes) else absent)
    return Section("cohort", "Cohort", blocks)


def _modalities(content: ReportContent) -> pd.DataFrame:
    has = content.presence.sum()
    rows = [
        (one.name, one.kind, one.n_columns, int(has[one.name]), f"{has[one.name] / max(len(content.presence), 1):.0%}")
        for one in content.modalities
    ]
    table = pd.DataFrame(rows, columns=["modality", "kind", "columns", "patients", "share"])
    if any(one.hidden_from for one in content.modalities):
        table["hidden from"] = [", ".join(one.hidden_from) for one in content.modalities]
    return table
