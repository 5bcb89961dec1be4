"""Who is in the cohort of a report."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.cohort import outcomes_chart, patterns_chart
from multimodn.findings.numbers import counted
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Numbers, Prose, Section
from multimodn.report.sections.words import drawn


def cohort_section(found: Findings) -> Section:
    """Describes patients, the parts of the split, who has what, and labels."""
    presence = found.presence
    complete = int(presence.all(axis=1).sum())
    nothing = int((~presence.any(axis=1)).sum())
    text = (
        f"{counted(len(presence), 'patient')} and {counted(presence.shape[1], 'modality')}; {complete:,} patients have "
        f"all of them, in {counted(len(presence.drop_duplicates()), 'pattern')}. A modality that a patient lacks is "
        f"skipped for that patient; nothing is imputed."
    )
    if nothing:
        text += f" {counted(nothing, 'patient')} without any modality get the prior."
    blocks: list[Block] = [
        Prose(text),
        Numbers("Patients and labels in each part of the split.", found.parts),
        Numbers("Modalities in the order in which they are read.", _modalities(found)),
        drawn(patterns_chart, presence),
    ]
    if len(found.outcomes):
        blocks.append(drawn(outcomes_chart, found.outcomes))
    else:
        blocks.append(Prose("No outcomes were given for these patients.", "absent"))
    return Section("cohort", "Cohort", blocks)


def _modalities(found: Findings) -> pd.DataFrame:
    has = found.presence.sum()
    rows = [
        (one.name, one.kind, one.n_columns, int(has[one.name]), f"{has[one.name] / max(len(found.presence), 1):.0%}")
        for one in found.modalities
    ]
    table = pd.DataFrame(rows, columns=["modality", "kind", "columns", "patients", "share"])
    if any(one.hidden_from for one in found.modalities):
        table["hidden from"] = [", ".join(one.hidden_from) for one in found.modalities]
    return table
