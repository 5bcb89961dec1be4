"""Whether fusion helped: this model of a report beside simple ones, on the same patients."""

from __future__ import annotations

from typing import Any

import pandas as pd

from multimodn.evaluate.baselines.sentences import sentences
from multimodn.figures.baselines import baselines_chart, differences_chart, groups_table
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import arm_name
from multimodn.findings.numbers import interval, joined
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Listing, Numbers, Prose, Section
from multimodn.report.sections.words import drawn, few_rows, has_words, more_rows

SIMPLE = (
    "Is a model of all modalities worth it? Simple models were trained on the same patients as this one, chose their "
    "settings among these alone, and predict the same test patients. Late ridge fusion is the mean of one ridge "
    "regression for each modality that a patient has. The best single modality is the one of these regressions that "
    "did best in inner folds of the training patients. If a simple model does as well as this one, nothing on this "
    "page says that the score needs more than the simple model."
)
LIMIT = (
    "The intervals say how much a difference would change with other test patients, not with another training. No "
    "clear difference is no proof of equality: with few patients only large differences show."
)
BEST, LATE = "best_single", "late_ridge"
CHANCE = 0.05
SIDES = {
    2: "better for {}",
    1: "better for {} (no longer so after adjustment for all comparisons)",
    0: "not clearly different for {}",
    -1: "worse for {} (no longer so after adjustment for all comparisons)",
    -2: "worse for {}",
}


def baselines_section(found: Findings) -> Section:
    """Says for each task whether fusion helped and for whom, with figures and numbers."""
    title, comparison = "Beside simple models", found.get("baselines")
    if comparison is None:
        return Section("baselines", title, [Prose(found.why_not("baselines"), "absent")])
    blocks: list[Block] = [
        Prose(SIMPLE),
        *(Prose(text) for text in verdict(found)),
        Listing(sentences(comparison)),
        Prose(LIMIT),
        *(Prose(text, "caution") for text in _unread(comparison)),
        drawn(baselines_chart, comparison),
        drawn(differences_chart, comparison),
    ]
    groups = _groups(comparison, found)
    if len(groups):
        caption = "This model less simple ones in groups of patients, with 95% intervals of the paired difference."
        shown = few_rows(groups)
        blocks += [Numbers(caption, shown, is_folded=True), *more_rows(groups, shown)]
    else:
        blocks.append(Prose("No group of the test patients is large enough to be compared by itself.", "absent"))
    return Section("baselines", title, blocks)


def _unread(comparison: pd.DataFrame) -> list[str]:
    """Says what the simple models had not, or which could not be trained."""
    names, failed = ComparisonFrame.of(comparison).left_out, ComparisonFrame.of(comparison).failed
    texts = []
    if names:
        texts.append(
            f"Simple models read tables and embeddings only; they had not {joined(map(str, names))}, which this model "
            "had. Where it is better, that may be why."
        )
    if failed:
        texts.append(f"These data could not carry {joined(arm_name(arm) for arm in failed)}.")
    return texts


def _groups(comparison: pd.DataFrame, found: Findings) -> pd.DataFrame:
    rows = groups_table(comparison)
    ends = [rows[name].astype(float) for name in ("difference", "difference_low", "difference_high")]
    return pd.DataFrame(
        {
            "task": rows["task"],
            "patients": [
                has_words(str(group), found.names) if by == "pattern" else str(group).partition(".")[2] or str(group)
                for by, group in zip(rows["by"], rows["group"], strict=True)
            ],
            "compared with": rows["compared with"],
            "difference": [interval(*one) for one in zip(*ends, strict=True)],
            "p, adjusted": rows["p_adjusted"].astype(float),
            "n": rows["n"],
        }
    )


def verdict(found: Findings) -> list[str]:
    """Says in one sentence of all tasks whether fusion helped, and whether a ridge regression does as well.

    "Better" and "worse" mean that the 95 % interval of the paired difference leaves out 0.
    """
    comparison = found.get("baselines")
    if comparison is None:
        return []
    rows = comparison[comparison["by"] == "overall"]
    parts = [
        f"compared with {arm_name(arm)} it is {_sides(rows[rows['arm'] == arm])}"
        for arm in (BEST, LATE)
        if (rows["arm"] == arm).any()
    ]
    if not parts:
        return ["Beside simple models: none could be compared with this one."]
    sides = [_side(row) for _, row in rows[rows["arm"] == BEST].iterrows()]
    text = f"This model beside simple ones: {'; '.join(parts)}."
    if sides and 2 not in sides:
        adjusted = "After adjustment for all comparisons these" if 1 in sides else "These"
        text += f" {adjusted} patients do not show that fusing modalities helped."
    return [text]


def _sides(rows: pd.DataFrame) -> str:
    sides = pd.Series([_side(row) for _, row in rows.iterrows()], rows.index)
    said = [
        words.format(joined(rows.loc[sides == side, "task"].astype(str)))
        for side, words in SIDES.items()
        if (sides == side).any()
    ]
    unknown = rows.loc[sides.isna(), "task"].astype(str)
    if len(unknown):
        said.append(f"not comparable for {joined(unknown)}, where patients or outcomes are too few")
    return ", ".join(said)


def _side(row: pd.Series[Any]) -> float:
    """2: better, -2: worse, 0: neither, 1 and -1: no longer so after adjustment, NaN: unknown."""
    if pd.isna(row["difference_low"]):
        return float("nan")
    side = int(row["difference_low"] > 0) - int(row["difference_high"] < 0)
    return float(side * (1 if row["p_adjusted"] >= CHANCE else 2))
