"""Whether fusion helped: this model of a report and simple ones, on the same patients."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.baselines import baselines_chart, differences_chart
from multimodn.findings import sentences
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import arm_name
from multimodn.findings.numbers import interval, joined
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, DataTable, Listing, Prose, Section
from multimodn.report.sections.words import drawn, few_rows, more_rows

LIMIT = (
    "If a simple model does as well as this one, nothing on this page shows that more than the simple model is needed. "
    "The intervals say how much a difference would vary with other test patients, not with another training. No clear "
    "difference does not prove equality: with few patients only large differences show."
)


def baselines_section(content: ReportContent) -> Section:
    """Says for each task whether fusion helped and for whom, with figures and numbers."""
    title, comparison = "Comparison with simple models", content.comparison
    if comparison is None:
        return Section("baselines", title, [Prose(content.why_not("baselines"), "absent")])
    found = content.findings
    blocks: list[Block] = [
        Prose(sentences.SIMPLE_MODELS),
        *(Prose(text) for text in sentences.fusion(found)),
        Listing([sentences.comparison(one) for one in found.comparisons]),
        Prose(LIMIT),
        *(Prose(text, "caution") for text in _unread(comparison)),
        drawn(baselines_chart, comparison),
        drawn(differences_chart, comparison),
    ]
    groups = pd.DataFrame(
        {
            "task": one.task,
            "patients": content.pattern_words(one.group) if one.by == "pattern" else one.group,
            "compared with": arm_name(one.arm),
            "difference": interval(one.difference, one.low, one.high),
            "p, adjusted": one.p_adjusted,
            "n": one.n,
        }
        for each in found.comparisons
        for one in each.groups
    )
    if len(groups):
        caption = "This model's score less that of simple ones in groups of patients, with 95% intervals."
        shown = few_rows(groups)
        blocks += [DataTable(caption, shown, is_folded=True), *more_rows(groups, shown)]
    else:
        blocks.append(Prose("No group of the test patients is large enough to be compared on its own.", "absent"))
    return Section("baselines", title, blocks)


def _unread(comparison: ComparisonFrame) -> list[str]:
    """Names the modalities that simple models cannot read, and the models that could not be trained."""
    texts = []
    if comparison.left_out:
        texts.append(
            f"Simple models read tables and embeddings only: they lacked {joined(comparison.left_out)}, which this "
            "model had. Where it is better, that may be why."
        )
    if comparison.failed:
        texts.append(f"There were too few data to train {joined(map(arm_name, comparison.failed))}.")
    return texts
