"""Limitations that follow from the numbers by rules."""

from __future__ import annotations

import pandas as pd

from multimodn.card.facts import CardFacts
from multimodn.card.scores import CardScores
from multimodn.card.wording import missing, rows_of
from multimodn.findings import sentences
from multimodn.findings.findings import Findings
from multimodn.findings.markdown import code, escaped, heading, items, listed
from multimodn.findings.numbers import FEW, FEWEST, count, interval, percent
from multimodn.study.study import RandomSplit

# Test patients with and without an outcome for an evaluation: Collins et al. (2016), https://doi.org/10.1002/sim.6787.
ENOUGH_EACH = 100
# Events per parameter, a rule of thumb: Peduzzi et al. (1996), https://doi.org/10.1016/S0895-4356(96)00236-3.
FEW_EVENTS = 10


def limitations(facts: CardFacts, scores: CardScores, found: Findings) -> list[str]:
    """Lists limitations, the weightiest first; Markdown."""
    makers = (sentences.miscalibrated, sentences.unusual_slopes, sentences.unknown_calibration, sentences.low_coverage)
    return [
        *_of_test(facts, found),
        *_of_events(facts),
        *(escaped(text) for make in makers for text in make(found)),
        *_of_missingness(facts, scores),
        *_of_groups(facts, scores),
        *_of_setting(facts),
        *([] if found.comparisons else ["The model was not compared with simple models in this run."]),
    ]


def _of_test(facts: CardFacts, found: Findings) -> list[str]:
    if not found.scores:
        n = f"{FEW} test patients" if facts.n_test else "no test patients"
        return [f"There are {n}: the performance of the model is unknown."]
    rarest = {name: one.rarest(facts.test) for name, one in facts.tasks.items()}
    few = "; ".join(f"{escaped(name)}: {count(n)}" for name, n in rarest.items() if n < ENOUGH_EACH)
    texts = []
    if few:
        texts.append(
            f"An evaluation should have at least {ENOUGH_EACH} patients with and without each outcome "
            f"(<https://doi.org/10.1002/sim.6787>). Test patients with the rarest outcome (of numbers: all): {few}."
        )
    outcomes = {name: one.outcomes(facts.test) for name, one in facts.tasks.items()}
    absent = {name: [outcome for outcome, n in counts.items() if not n] for name, counts in outcomes.items()}
    never = [f"{escaped(outcome)} of {escaped(name)}" for name, each in absent.items() for outcome in each]
    if never:
        texts.append(f"No test patient has {'; '.join(never)}: predictions of these outcomes were not evaluated.")
    return [*texts, *map(escaped, sentences.score_cautions(found))]


def _of_events(facts: CardFacts) -> list[str]:
    events = {name: one.rarest(facts.learned) for name, one in facts.tasks.items() if not one.is_number}
    few = [name for name, n in events.items() if n < FEW_EVENTS * facts.n_inputs(name)]
    text = f"Fewer than {FEW_EVENTS} training patients per input have the rarest outcome of {listed(few)} (section 8): "
    return [f"{text}the model may be overfitted to these patients."] if few else []


def _of_missingness(facts: CardFacts, scores: CardScores) -> list[str]:
    mode, alarms = facts.model.study.missingness, [] if scores.audit is None else scores.audit.alarms
    texts = []
    if alarms:
        tasks = dict.fromkeys(one.task for one in alarms)
        texts.append(f"Which modalities patients have depends on the outcome of {listed(tasks)} (section 7).")
    if scores.audit is not None and (empty := scores.audit.cell_alarms):
        tasks = dict.fromkeys(one.task for one in empty)
        texts.append(f"Which cells of a modality are empty depends on the outcome of {listed(tasks)} (section 7).")
    if mode == "informative" or (mode == "off" and len(facts.presence.columns) > 1):
        texts.append(f"{code(f'missingness: {mode}')}: {sentences.MISSINGNESS[mode]}")
    n_new, n_seen = unseen(facts)
    n_all = 2 ** len(facts.presence.columns) - 1
    if n_new:
        new = f"{count(n_new)} of {facts.n_test:,} test patients"
        texts.append(f"{new} have a combination of modalities that no training patient has.")
    if n_seen < n_all:
        texts.append(
            f"Training and test patients have {n_seen:,} of {n_all:,} possible combinations of modalities; predictions "
            "from the others were never evaluated."
        )
    if scores.audit is not None and any(shift.by == "split" and shift.shifted for shift in scores.audit.shifts):
        texts.append("Training and test patients differ in which modalities they have.")
    return texts


def unseen(facts: CardFacts) -> tuple[int, int]:
    """Counts test patients whose combination of modalities no training patient has, and the combinations of both."""
    rows = pd.Series(list(map(tuple, facts.presence.to_numpy())), dtype=object)
    seen = rows[(facts.learned | facts.test) & facts.presence.to_numpy().any(axis=1)]
    return int((~rows[facts.test].isin(set(rows[facts.learned]))).sum()), seen.nunique()


def _of_groups(facts: CardFacts, scores: CardScores) -> list[str]:
    if not facts.model.study.subgroups:
        return ["Performance by group, such as by sex or age, was not measured: the study names no subgroups."]
    rows = pd.DataFrame() if scores.main.empty else scores.of("subgroup")
    if rows.empty:
        return ["Performance was not measured in any subgroup."]
    few = rows[rows["low"].isna() & (rows["n"] > 0)]
    texts = []
    if len(few):
        texts.append(
            f"In {len(few)} of {len(rows)} comparisons by subgroup, patients or outcomes are too few for an interval: "
            "equal performance in these groups is not shown."
        )
    whole = scores.main.set_index("task")["value"]
    worse = [
        f"{escaped(row.task)}, {escaped(row.group)}: {interval(row.value, row.low, row.high)}"
        for row in rows_of(rows)
        if row.n >= FEWEST and row.high < whole[row.task]
    ]
    if worse:
        texts.append(
            f"Performance is worse than overall (whole interval below) for: {'; '.join(worse)}. Many groups were "
            "compared, without adjustment."
        )
    return texts


def _of_setting(facts: CardFacts) -> list[str]:
    card, groups, sites = facts.model.study.card, facts.cohort.groups, facts.model.study.cohorts
    texts = []
    if card.setting is None:
        where = "No sites are named"
        if sites:
            where = f"Patients are from {len(sites)} registries ({listed(sites)})"
        elif groups is not None:
            where = f"The study names {groups.nunique():,} groups of patients, such as sites"
        place = f"consider it a model for {'these places' if sites else 'one place'} until it is validated elsewhere"
        texts.append(f"Where the patients come from is {missing('setting')}. {where}: {place}.")
    if isinstance(facts.model.study.split, RandomSplit):
        texts.append("Test patients are a random part of the same cohort: this is no external validation.")
    texts.append("Whether test results were looked at while settings were chosen is not known to the package.")
    unlabelled = {name: 1 - float(one.known.mean()) for name, one in facts.tasks.items() if not one.known.all()}
    if unlabelled:
        lost = "; ".join(f"{escaped(name)} {percent(share)}" for name, share in unlabelled.items())
        text = "Patients without a label were left out, as if labels were missing at random"
        texts.append(f"{text}: {lost} of the cohort.")
    return texts


def limitations_section(facts: CardFacts, found: list[str]) -> list[str]:
    """Lists what the package found, and what the user says."""
    own = [f"{escaped(text)} (the user's words)" for text in facts.model.study.card.limitations if text.strip()]
    return [*heading("14. Limitations"), *items([*found, *(own or [f"From the user: {missing('limitations')}"])])]
