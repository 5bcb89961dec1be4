"""The box on top of a report: what a reader should know before all else, good or bad."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from multimodn.figures.performance import main_rows, overall_chart
from multimodn.figures.picture import Picture
from multimodn.findings.names import CHANCE, metric_name
from multimodn.findings.numbers import counted, interval, joined
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Listing, Prose, Section
from multimodn.report.sections.baselines import verdict
from multimodn.report.sections.calibration import calibration_words
from multimodn.report.sections.sets import sets_sentence, short_sets
from multimodn.report.sections.words import drawn

FEW_PATIENTS = 50
"""Patients below whom scores are hardly more than anecdotes."""
MISSINGNESS = {
    "neutral": "Missing data, mode neutral: the model was trained to learn nothing from which modalities a patient "
    "has, as far as that depends on the outcome.",
    "informative": "Missing data, mode informative: the model is told which modalities a patient has. Its predictions "
    "hold only where modalities go missing for the same reasons as in its training data.",
    "off": "Missing data, mode off: absent modalities are skipped and nothing else is done. The model may have learned "
    "from which modalities are there, and its scores can fall below chance where the reasons for missing data change; "
    "multimodn audit and multimodn stress tell how exposed it is.",
}


def brief_section(found: Findings) -> Section:
    """Writes what the report says, in a few sentences; cautions first among them."""
    sentences = [
        _who(found),
        *_scores(found),
        *verdict(found),
        *calibration_words(found),
        *sets_sentence(found),
        *_moved(found),
        MISSINGNESS[found.run.missingness],
    ]
    blocks: list[Block] = [Prose(text, "caution") for text in cautions(found)]
    performance = found.get("performance")
    drawing = [] if performance is None else [drawn(_scores_of_all, performance)]
    return Section("brief", "In brief", [*blocks, Listing(sentences), *drawing])


def _scores_of_all(performance: pd.DataFrame) -> Picture:
    """The figure of all scores, which stands in the section on performance too, under its own name."""
    return replace(overall_chart(performance), name="scores", title="All tasks at a glance")


def _who(found: Findings) -> str:
    tasks, modalities = len(found.tasks), len(found.modalities)
    seen = "" if found.is_trained_on else ", none of whom was trained on"
    if found.who == "patients of the given files":
        seen = ", who come from other files than the study's"
    return (
        f"One model predicts {counted(tasks, 'task')} ({joined(task.name for task in found.tasks)}) from up to "
        f"{counted(modalities, 'modality')}. What follows is about {found.n_shown:,} {found.who}{seen}."
    )


def cautions(found: Findings) -> list[str]:
    """Lists what weakens the report, in order of weight."""
    texts = []
    if found.is_trained_on:
        texts.append(
            "The model was trained on some or all of these patients. Scores and calibration look better than they "
            "would on new patients, and prove nothing."
        )
    if found.n_shown < FEW_PATIENTS:
        texts.append(
            f"These are only {counted(found.n_shown, 'patient')}. Intervals are wide, and differences between tasks, "
            f"steps and groups may well be chance."
        )
    return [*texts, *_weak_scores(found), *_extreme(found), *short_sets(found)]


def _weak_scores(found: Findings) -> list[str]:
    performance = found.get("performance")
    if performance is None:
        return [f"There are no scores. {found.why_not('performance')}"]
    rows = main_rows(performance, "overall")
    texts = []
    unsure = rows.loc[rows["low"].isna(), "task"].tolist()
    if unsure:
        this = "this score" if len(unsure) == 1 else "these scores"
        texts.append(f"Too few patients or outcomes for an interval of {joined(unsure)}: take {this} as unknown.")
    chance = rows["metric"].map(CHANCE)
    useless = rows.loc[(rows["low"] <= chance) | (rows["value"] <= chance), "task"].tolist()
    if useless:
        texts.append(f"For {joined(useless)} these data do not show that predictions are better than chance.")
    return texts


def _extreme(found: Findings) -> list[str]:
    slopes = found.get("slopes")
    if slopes is None:
        return []
    tasks = list(dict.fromkeys(slopes.loc[slopes["slope_high"] < 1, "task"].astype(str)))
    if not tasks:
        return []
    return [f"Predictions of {joined(tasks)} are too extreme: high ones are too high, low ones too low (calibration)."]


def _scores(found: Findings) -> list[str]:
    """Names the best and the worst task, among those that can be compared and have intervals."""
    performance = found.get("performance")
    if performance is None:
        return []
    rows = main_rows(performance, "overall").dropna(subset=["value"])
    ranked = rows[rows["metric"].map(CHANCE) == 0.5]
    known = ranked.dropna(subset=["low"])
    ranked = (known if len(known) else ranked).sort_values("value", ascending=False, kind="stable")
    texts = []
    if len(ranked) == 1:
        texts.append(f"{_score(ranked.iloc[0])}.")
    elif len(ranked) > 1:
        texts.append(f"Predicted best: {_score(ranked.iloc[0])}. Least well: {_score(ranked.iloc[-1])}.")
    texts += [f"{_score(row)}." for _, row in rows[rows["metric"] == "r2"].head(3).iterrows()]
    return [" ".join([*texts, "Brackets hold 95% intervals."])] if texts else []


def _score(row: pd.Series[Any]) -> str:
    text = interval(row["value"], row["low"], row["high"])
    return f"{row['task']}, {metric_name(str(row['metric']))} {text}, n = {row['n']:,}"


def _moved(found: Findings) -> list[str]:
    """Names the modalities that move the predictions of most tasks."""
    summary = found.get("summary")
    if summary is None or len(found.modalities) < 2:
        return []
    sizes = summary.groupby(["task", "modality"], sort=False)["mean_abs"].mean().unstack()
    first = sizes.idxmax(axis=1).value_counts()
    most = [f"{modality} ({counted(int(n), 'task')})" for modality, n in first.items()]
    text = f"The modality that moves predictions most: {joined(most, 4)}."
    return [f"{text} That is what the model uses, not what causes an outcome."]
