"""Sets that hold the truth with a promised probability, as a report tells them: how often they did, and of whom."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multimodn.findings.frames import CoverageFrame
from multimodn.findings.numbers import counted, interval, joined, percent
from multimodn.report.findings import Findings, TaskFacts
from multimodn.report.html.page import Block, Listing, Numbers, Part, Prose
from multimodn.report.sections.words import few_rows, has_words, more_rows

SETS = (
    "Beside a prediction the model gives a set that is to hold the truth: of classes, one or several; of a number, an "
    "interval; of survival, a time that the patient is to survive at least. The less is known of a patient, the larger "
    "the set. Where it tells nothing (all classes or none, an interval as wide as without any modality, a time of 0), "
    "the model abstains."
)
COHORT = "They aim at {level} of patients, and were calibrated on patients whom the model was not trained on."
HELD_OUT = (
    "They aim at {level} of patients, and were calibrated on patients who were held out while training. As these "
    "decided when training stopped, they are slightly too good, and sets may be slightly too small."
)
MEMBERS = (
    " Each member of the ensemble is compared with the patients that it was not trained on; {proven} are proven of "
    "that, {level} are usual."
)
PROMISE = (
    "Promised: that over patients like those of the calibration the share of sets that hold the truth is as given, "
    "also among patients with the same modalities.",
    "Under which conditions: where at least 50 patients with just these modalities were there to calibrate on (own), "
    "whatever made modalities absent, as long as that stays the same. Elsewhere (exact, nested) patients with more "
    "modalities were used, these hidden: where absence depends neither on the outcome nor on what modalities say.",
    "Not promised: anything about one patient; anything where absence depends on the outcome (missing not at random) "
    "and the reasons change, or where patients differ otherwise from those of the calibration. No method can promise "
    "that, and these numbers cannot show it.",
)
CENSORED = (
    "Of survival: promised with many patients only, and if how long patients were followed says nothing about them."
)
MOST_NAMED = 6
"""Classes of a set that are named."""


def sets_part(found: Findings) -> Part:
    """Tells how often sets held the truth, overall and by what patients have."""
    name, title = "calibration-sets", "Sets instead of one answer"
    coverage = found.get("coverage")
    if coverage is None:
        return Part(name, title, [Prose(found.why_not("coverage"), "absent")])
    level = float(coverage["level"].iloc[0])
    has_times = any(task.scale == "log-risk" for task in found.tasks)
    conditions = [*PROMISE, CENSORED] if has_times else [*PROMISE]
    blocks: list[Block] = [Prose(SETS), Prose(_aim(coverage, level)), Listing(conditions)]
    short = coverage[~coverage["reached"].astype(bool)]
    text = (
        f"In {len(short)} of {counted(len(coverage), 'row')} of the table the interval lies below {percent(level)}; up "
        "to one in forty would by chance."
    )
    blocks.append(Prose(text, "caution" if (short["pattern"] == "all").any() else "plain"))
    caption = (
        f"How often sets at {percent(level)} held the truth, with 95% intervals (Clopper and Pearson; of survival, "
        "patients count by the inverse chance of having been observed)."
    )
    shown = few_rows(coverage)
    return Part(name, title, [*blocks, Numbers(caption, _coverage(found, shown)), *more_rows(coverage, shown)])


def _aim(coverage: pd.DataFrame, level: float) -> str:
    """What sets aim at, and what is proven of them."""
    about = CoverageFrame.of(coverage)
    is_own = about.source == "cohort"
    several = not is_own and about.n_members > 1
    text = (COHORT if is_own else HELD_OUT) + (MEMBERS if several else "")
    return text.format(level=percent(level), proven=percent(2 * level - 1))


def _coverage(found: Findings, coverage: pd.DataFrame) -> pd.DataFrame:
    facts = {task.name: task for task in found.tasks}
    rows = coverage.to_dict("records")
    counts = [row["n_calibration"] for row in rows]
    return pd.DataFrame(
        {
            "task": [f"{row['task']}: {row['output']}" if row["output"] else row["task"] for row in rows],
            "patients": [_whom(row["pattern"], found.names) for row in rows],
            "n": [row["n"] for row in rows],
            "sets that held the truth": [interval(row["coverage"], row["low"], row["high"]) for row in rows],
            "against the promise": [_against(row["within"], row["reached"]) for row in rows],
            "mean size": [_size(facts.get(row["task"]), float(row["size"])) for row in rows],
            "abstained": [percent(float(row["abstained"])) for row in rows],
            "calibrated by": [row["method"].replace("+", ", ") for row in rows],
            "on patients": ["" if np.isnan(n) else f"{n:,.0f}" for n in counts],
        }
    )


def _whom(pattern: str, every: list[str]) -> str:
    if pattern == "all" or pattern.startswith("other patterns"):
        return "everybody" if pattern == "all" else pattern
    return f"with {has_words(pattern, every)}"


def _against(is_within: bool, is_reached: bool) -> str:
    return "within chance" if is_within else "more often" if is_reached else "less often"


def _size(task: TaskFacts | None, size: float) -> str:
    if task is None or not np.isfinite(size):
        return "without end" if np.isinf(size) else ""
    if task.scale == "log-odds":
        return f"{size:.1f} classes"
    return f"{size:.3g} wide" if task.scale == "units" else f"at least {size:,.4g}"


def sets_sentence(found: Findings) -> list[str]:
    """Sums up, for the box on top, how often sets held the truth."""
    coverage = found.get("coverage")
    if coverage is None:
        return []
    every = coverage[coverage["pattern"] == "all"]
    level = float(coverage["level"].iloc[0])
    return [
        f"Sets that are to hold the truth for {percent(level)} of patients did so for {_spread(every['coverage'])}; "
        f"the model abstains for {_spread(every['abstained'])}."
    ]


def _spread(shares: pd.Series[float]) -> str:
    low, high = percent(float(shares.min())), percent(float(shares.max()))
    return low if low == high else f"{low} to {high}, depending on the task"


def short_sets(found: Findings) -> list[str]:
    """Names the tasks whose sets held the truth less often than promised, a caution."""
    coverage = found.get("coverage")
    if coverage is None:
        return []
    short = coverage[(coverage["pattern"] == "all") & ~coverage["reached"].astype(bool)]
    names = list(dict.fromkeys(short["task"].astype(str)))
    return [f"Sets of {joined(names)} held the truth less often than promised (calibration)."] if names else []


def set_words(rows: pd.DataFrame, task: TaskFacts) -> str:
    """Words the set of one patient and task.

    Args:
        rows: Of `MultiModN.conformal`, of that patient and task.
        task: The task.
    """
    if rows.empty:
        return ""
    if rows["in_set"].notna().all():
        labels = rows["output"].astype(str)
        several = task.kind == "multilabel"
        units = labels.map(lambda name: name.rpartition("=")[0] if several else "")
        return joined([_classes(str(label), part) for label, part in rows.groupby(units, sort=False)], MOST_NAMED)
    low, high, abstains = float(rows["low"].iloc[0]), float(rows["high"].iloc[0]), bool(rows["abstain"].iloc[0])
    if np.isnan(high):
        return "abstains: no time can be promised" if abstains else f"no event before {low:,.4g}"
    words = f"{low:.4g} to {high:.4g}".replace("-", "\u2212").replace("inf", "\u221e")
    return f"abstains: {words}, no narrower than without any modality" if abstains else words


def _either(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    listed = [*names[:MOST_NAMED], f"{more} more"] if more > 0 else names
    return " or ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)


def _classes(label: str, rows: pd.DataFrame) -> str:
    chosen = rows["in_set"].astype(bool)
    names = rows.loc[chosen, "output"].astype(str)
    if not rows["abstain"].iloc[0]:
        return _either(names.tolist())
    of = f"{label}: " if label else ""
    return f"{of}abstains, {'every class is in the set' if len(names) else 'no class fits'}"
