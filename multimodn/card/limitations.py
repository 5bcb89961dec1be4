"""Limitations that follow from the numbers by rules."""

from __future__ import annotations

import pandas as pd

from multimodn.card.facts import Facts
from multimodn.card.scores import Scores
from multimodn.card.wording import missing, rows_of
from multimodn.findings.markdown import code, escaped, heading, items, listed
from multimodn.findings.names import CHANCE
from multimodn.findings.numbers import FEW, FEWEST, count, interval, number
from multimodn.study.study import RandomSplit

ENOUGH_EACH = 100
"""Test patients with and without an outcome that an evaluation should have at least: Collins, Ogundimu and Altman
(2016), https://doi.org/10.1002/sim.6787."""
WIDE = 0.2
"""Width of an interval, between chance and 1, from which it says little."""
FEW_EVENTS = 10
"""Events per candidate parameter below which a regression without a penalty would overfit: Peduzzi et al. (1996),
https://doi.org/10.1016/S0895-4356(96)00236-3. A rule of thumb."""
SLOPE = (0.8, 1.2)
"""Calibration slopes outside of which predictions are called too extreme or too timid."""


def limitations(facts: Facts, scores: Scores, has_baselines: bool) -> list[str]:
    """Lists limitations, the weightiest first; Markdown.

    Args:
        facts: Patients and labels.
        scores: What was measured.
        has_baselines: Whether simple models were compared with.
    """
    return [
        *_of_test(facts, scores),
        *_of_events(facts),
        *_of_calibration(scores),
        *_of_missingness(facts, scores),
        *_of_groups(facts, scores),
        *_of_setting(facts),
        *([] if has_baselines else ["It was not compared with simple models in this run."]),
    ]


def _of_test(facts: Facts, scores: Scores) -> list[str]:
    if scores.main.empty:
        n = f"{FEW} test patients" if facts.n_test else "no test patients"
        return [f"There are {n}: nothing is known about how well the model predicts."]
    main = scores.main
    texts = []
    few = [name for name, one in facts.tasks.items() if _smaller(facts, name) < ENOUGH_EACH]
    if few:
        each = "; ".join(f"{escaped(name)}: {count(_smaller(facts, name))}" for name in few)
        texts.append(
            f"An evaluation is advised to have at least {ENOUGH_EACH} patients of each outcome "
            f"(<https://doi.org/10.1002/sim.6787>). Test patients of the rarest outcome here (of numbers, all): {each}."
        )
    never = [
        f"{escaped(outcome)} of {escaped(name)}"
        for name, one in facts.tasks.items()
        for outcome, n in one.outcomes(facts.test).items()
        if not n
    ]
    if never:
        texts.append(f"No test patient has {'; '.join(never)}: predictions of that were not checked.")
    unsure = main.loc[main["low"].isna(), "task"]
    if len(unsure):
        texts.append(
            f"Too few patients or outcomes for an interval of {listed(unsure)}: these scores are not reliable."
        )
    chance = main["metric"].map(CHANCE)
    useless = main.loc[main["low"] <= chance, "task"]
    if len(useless):
        texts.append(
            f"For {listed(useless)} the interval includes chance: that predictions are better than without information "
            "is not shown."
        )
    wide = main[(main["high"] - main["low"] > WIDE) & ~main["task"].isin(useless)]
    if len(wide):
        texts.append(
            f"Intervals of {listed(wide['task'])} are wider than {WIDE:g}: how well they are predicted is known only "
            "roughly."
        )
    return texts


def _smaller(facts: Facts, task: str) -> int:
    return facts.tasks[task].rarest(facts.test)


def _of_events(facts: Facts) -> list[str]:
    few = [
        name
        for name, one in facts.tasks.items()
        if not one.is_number and one.rarest(facts.learned) < FEW_EVENTS * facts.n_inputs(name)
    ]
    if not few:
        return []
    return [
        f"For each input, fewer than {FEW_EVENTS} patients with the rarest outcome were trained on for {listed(few)} "
        "(section 8): what the model learned may be particular to these patients."
    ]


def _of_calibration(scores: Scores) -> list[str]:
    if scores.calibration.empty:
        return []
    known = scores.calibration.dropna(subset=["slope"])
    known = known[known["n"] >= FEWEST]
    texts = []
    bounds = f"a calibration slope outside {SLOPE[0]:g} to {SLOPE[1]:g}"
    far = known[~known["slope"].between(*SLOPE)]
    if len(far):
        named = [
            f"{escaped(row.task if row.task == row.output else f'{row.task}, {row.output}')} "
            f"{interval(row.slope, row.slope_low, row.slope_high)}"
            for row in rows_of(far)
        ]
        texts.append(
            f"Predictions with {bounds} on the test patients (lower: too extreme, higher: too timid): "
            f"{'; '.join(named)}. Where the interval holds 1, that may be chance."
        )
    unknown = [t for t in dict.fromkeys(scores.calibration["task"]) if t not in set(known["task"])]
    if unknown:
        texts.append(
            f"Whether probabilities of {listed(unknown)} can be taken at their word is not known: too few outcomes."
        )
    return texts


def _of_missingness(facts: Facts, scores: Scores) -> list[str]:
    texts = []
    alarms = {} if scores.audit is None else {f.task: f for f in scores.audit.alarms}
    if alarms:
        texts.append(f"Which modalities patients have depends on the outcome of {listed(alarms)} (section 7).")
    if facts.model.study.missingness == "off" and len(facts.presence.columns) > 1:
        texts.append(
            "The model may use which modalities a patient has; where these are missing for other reasons, its "
            f"predictions can be wrong ({code('missingness: off')})."
        )
    if facts.model.study.missingness == "informative":
        texts.append(
            "The model uses which modalities a patient has, and holds only where the reasons for that stay the same."
        )
    n_new, n_seen = unseen(facts)
    n_all = 2 ** len(facts.presence.columns) - 1
    if n_new:
        texts.append(
            f"Of {facts.n_test:,} test patients, {count(n_new)} have a combination of modalities that no training "
            "patient has."
        )
    if n_seen < n_all:
        texts.append(
            f"Training and test patients have {n_seen:,} of {n_all:,} possible combinations of modalities; predictions "
            "from the others were checked on nobody."
        )
    shifted = [] if scores.audit is None else [s.by for s in scores.audit.shifts if s.shifted]
    if "split" in shifted:
        texts.append("Training and test patients differ in which modalities they have.")
    return texts


def unseen(facts: Facts) -> tuple[int, int]:
    """Counts test patients whose combination of modalities no training patient has, and the combinations of both."""
    rows = pd.Series(list(map(tuple, facts.presence.to_numpy())), dtype=object)
    known = rows[(facts.learned | facts.test) & facts.presence.to_numpy().any(axis=1)]
    return int((~rows[facts.test].isin(set(rows[facts.learned]))).sum()), known.nunique()


def _of_groups(facts: Facts, scores: Scores) -> list[str]:
    if not facts.model.study.subgroups:
        return [
            "Whether it does worse for some groups, such as by sex or age, was not looked at: the study names no "
            "subgroups."
        ]
    rows = scores.of("subgroup") if not scores.main.empty else pd.DataFrame()
    if rows.empty:
        return ["Performance was not measured in any subgroup."]
    few = rows[rows["low"].isna() & (rows["n"] > 0)]
    texts = []
    if len(few):
        texts.append(
            f"In {len(few)} of {len(rows)} comparisons by subgroup, patients or outcomes are too few for an interval: "
            "that it serves these groups as well is not shown."
        )
    whole = scores.main.set_index("task")["value"]
    worse = [
        f"{escaped(row.task)}, {escaped(row.group)}: {interval(row.value, row.low, row.high)}"
        for row in rows_of(rows)
        if row.n >= FEWEST and row.high < whole[row.task]
    ]
    if worse:
        texts.append(
            f"It does worse than overall (whole interval below) for: {'; '.join(worse)}. Many groups were compared, "
            "without a correction."
        )
    return texts


def _of_setting(facts: Facts) -> list[str]:
    card, groups = facts.model.study.card, facts.cohort.groups
    texts = []
    if card.setting is None:
        where = "No sites are named"
        sites = facts.model.study.cohorts
        if sites:
            where = f"Patients are those of {len(sites)} registries ({listed(sites)})"
        elif groups is not None:
            where = f"The study names {groups.nunique():,} groups of patients, such as sites"
        texts.append(
            f"Where the patients come from is {missing('setting')}. {where}: take it for a model of "
            f"{'these places' if sites else 'one place'} until it is shown elsewhere."
        )
    if isinstance(facts.model.study.split, RandomSplit):
        texts.append(
            "Test patients were drawn from the same cohort as training patients: this is no external validation."
        )
    texts.append(
        "Whether anybody looked at the test patients' results while choosing settings is not known to the package."
    )
    unlabelled = [name for name, one in facts.tasks.items() if not one.known.all()]
    if unlabelled:
        lost = "; ".join(f"{escaped(n)} {number(100 * (1 - facts.tasks[n].known.mean()), 0)}%" for n in unlabelled)
        texts.append(
            f"Patients without a label were left out, as if labels were missing at random: {lost} of the cohort."
        )
    return texts


def limitations_section(facts: Facts, found: list[str]) -> list[str]:
    """Lists what the package found, and what the user says."""
    words = facts.model.study.card.limitations
    own = [f"{escaped(text)} (the user's words)" for text in words if text.strip()]
    return [*heading("14. Limitations"), *items([*found, *(own or [f"The user's own: {missing('limitations')}"])])]
