"""Sections on patients: where they come from, how many there are at each stage, and what they are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from multimodn.card.facts import Bools, CardFacts, TaskFacts
from multimodn.card.sample_size import median_follow_up
from multimodn.card.wording import given, missing
from multimodn.errors import DataError
from multimodn.evaluate.performance.subgroups import FEW_VALUES, UNKNOWN, read_subgroups
from multimodn.findings.markdown import Markup, code, escaped, heading, items, prose, table
from multimodn.findings.numbers import FEW, FEWEST, count, counts, quartiles, share, shares
from multimodn.study.study import ColumnSplit, FileSplit, RandomSplit


def flow_section(facts: CardFacts) -> list[str]:
    """Counts patients from the sources to the parts, and who has labels and modalities."""
    card = facts.model.study.card
    return [
        *heading("3. Patients"),
        *prose(f"**Setting:** {given(card.setting, 'setting')}"),
        *prose(f"**Eligibility:** {given(card.eligibility, 'eligibility')}"),
        *prose(f"**Dates:** {given(card.dates, 'dates')}"),
        *prose(f"**Treatments:** {given(card.treatment, 'treatment')}"),
        *_flow(facts),
        *prose(_split_words(facts)),
        *_notes(facts),
    ]


def _flow(facts: CardFacts) -> list[str]:
    columns = {
        "All": np.ones(len(facts.cohort), dtype=bool),
        **{p.capitalize(): rows for p, rows in facts.parts.items()},
    }
    placed = facts.parts["train"] | facts.parts["validation"] | facts.parts["test"]
    if not placed.all():
        columns["In no part"] = ~placed
    rows: list[tuple[object, ...]] = [(Markup("**Patients**"), *(count(int(rows.sum())) for rows in columns.values()))]
    origin = facts.cohort.registry
    if origin is not None:
        names = origin.unique().tolist()
        each = [
            counts([int((part & (origin == name).to_numpy()).sum()) for name in names]) for part in columns.values()
        ]
        rows += [(Markup(f"of {escaped(name)}"), *cells) for name, *cells in zip(names, *each, strict=True)]
    for name, task in facts.tasks.items():
        label = Markup(f"with a label of {escaped(name)}")
        rows.append((label, *(count(int((task.known & part).sum())) for part in columns.values())))
    for name in facts.presence.columns:
        has = facts.presence[name].to_numpy()
        label = Markup(f"with {escaped(name)}")
        rows.append((label, *(count(int((has & part).sum())) for part in columns.values())))
    whole = facts.presence.to_numpy().all(axis=1)
    if len(facts.presence.columns) > 1:
        rows.append(("with every modality", *(count(int((whole & part).sum())) for part in columns.values())))
    return [
        *prose(
            f"The cohort is every patient in a source that the study reads: {len(facts.cohort):,} patients. Earlier "
            "exclusions, by a query or a person, are not known."
        ),
        *table(["", *columns], rows),
    ]


def _split_words(facts: CardFacts) -> str:
    spec, groups = facts.model.study.split, facts.cohort.groups
    if isinstance(spec, RandomSplit):
        how = f"The parts were drawn at random (seed {spec.seed}"
        how += f", evenly by {escaped(spec.stratify)})" if spec.stratify else ")"
    elif isinstance(spec, ColumnSplit):
        how = f"The parts are those that column {code(spec.column)} names"
    else:
        assert isinstance(spec, FileSplit)
        how = "The parts are those that the study's files list"
    apart = "" if groups is None else f", and a group ({groups.nunique():,} of them) is never in two"
    trained = (
        f"The {facts.n_members} networks share training and validation patients: each leaves out another fold, which "
        "chooses its epoch."
        if facts.n_members > 1
        else "Weights are learned from the training patients; validation patients choose the epoch."
    )
    return f"{how}. No patient is in two parts{apart}. {trained}"


def _notes(facts: CardFacts) -> list[str]:
    """Lists the summaries of the notes on the data, which name no patients."""
    notes = facts.cohort.notes
    texts = [
        note.summary.format(*(count(value) if isinstance(value, int) else escaped(value) for value in note.values))
        for note in notes
        if note.summary is not None
    ]
    if not texts:
        return []
    if len(texts) < len(notes):
        texts.append(f"{len(notes) - len(texts)} more, which {code('multimodn fit')} prints")
    return [*prose("Notes on the data:"), *items(dict.fromkeys(texts))]


def characteristics_section(facts: CardFacts) -> list[str]:
    """Compares training and test patients by subgroup columns and outcomes."""
    parts = {"Training": facts.learned, "Test": facts.test}
    if not facts.n_test:
        parts.pop("Test")
    rows = [*_subgroup_rows(facts, parts), *(row for one in facts.tasks.values() for row in _outcome_rows(one, parts))]
    named = facts.model.study.subgroups
    return [
        *heading("4. Characteristics"),
        *prose(
            "Training patients include the validation patients, on whom other networks were trained."
            if facts.n_members > 1
            else "",
            "Shares are of the patients who have the value. Groups of 1 to 4 patients are not counted exactly, nor are "
            "others from which they could be derived.",
        ),
        *table(["", *(f"{name} (n = {count(int(mask.sum()))})" for name, mask in parts.items())], rows),
        *(
            []
            if named
            else prose(f"No column is named to compare groups of patients ({code('subgroups')} of the study).")
        ),
    ]


def _subgroup_rows(facts: CardFacts, parts: dict[str, Bools]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name in facts.model.study.subgroups:
        rows.append((Markup(f"**{escaped(name)}**"), *("" for _ in parts)))
        modality, _, column = name.partition(".")
        try:
            groups = read_subgroups(facts.cohort, [name])[name]
        except DataError:
            rows.append(("cannot be read", *("" for _ in parts)))
            continue
        values = facts.cohort.modalities[modality][column].reindex(facts.cohort.patients)
        is_number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
        if is_number and values.nunique() > FEW_VALUES:
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            rows.append(("median (quartiles)", *(quartiles(numbers[mask]) for mask in parts.values())))
            rows.append((UNKNOWN, *(count(int(np.isnan(numbers[mask]).sum())) for mask in parts.values())))
        else:
            rows += _category_rows(name, groups, parts)
    return rows


def merged_small(groups: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Joins groups of fewer than five patients, whose very name would tell of single ones."""
    n = groups.value_counts()
    small = [group for group in n.index[(n > 0) & (n < FEWEST)] if not str(group).endswith(UNKNOWN)]
    texts = groups.astype(object)
    return texts.where(~texts.isin(small), f"{name}: values of {FEW} patients each")


def _category_rows(name: str, groups: pd.Series[Any], parts: dict[str, Bools]) -> list[tuple[object, ...]]:
    merged = merged_small(groups, name)
    order = [group for group in [*groups.cat.categories, *merged.unique()] if (merged == group).any()]
    columns = []
    for mask in parts.values():
        found = merged[mask].value_counts()
        columns.append(shares([int(found.get(group, 0)) for group in dict.fromkeys(order)]))
    labels = [
        str(group).removeprefix(f"{name} ").removeprefix(f"{name}: ").removeprefix("= ")
        for group in dict.fromkeys(order)
    ]
    return [(label, *cells) for label, *cells in zip(labels, *columns, strict=True)]


def _outcome_rows(one: TaskFacts, parts: dict[str, Bools]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    labelled = [f"{count(int((one.known & mask).sum()))} labelled" for mask in parts.values()]
    rows.append((Markup(f"**{escaped(one.name)}**"), *labelled))
    if one.is_number:
        rows.append(("median (quartiles)", *(quartiles(one.truth[one.known & mask, 0]) for mask in parts.values())))
        return rows
    if one.is_survival:
        rows.append(("events", *(share(one.outcomes(m)["events"], int((one.known & m).sum())) for m in parts.values())))
        unit = one.spec.target_columns[0]
        rows.append(
            (
                Markup(f"median follow-up (unit of column {escaped(unit)})"),
                *(_follow_up(one, mask) for mask in parts.values()),
            )
        )
        return rows
    by_part = [one.outcomes(mask) for mask in parts.values()]
    if one.has_labels:
        totals = [int((one.known & mask).sum()) for mask in parts.values()]
        return rows + [
            (name, *(share(found[name], n) for found, n in zip(by_part, totals, strict=True))) for name in by_part[0]
        ]
    columns = [shares(list(found.values())) for found in by_part]
    return rows + [(name, *cells) for name, *cells in zip(by_part[0], *columns, strict=True)]


def _follow_up(one: TaskFacts, mask: Bools) -> str:
    """The median follow-up in the units of the time column."""
    rows = mask & one.known
    if rows.sum() < FEWEST:
        return FEW
    found = median_follow_up(one.truth[rows, 0], one.truth[rows, 1] > 0)
    return "not reached" if np.isnan(found) else f"{found:,.4g}"


def ethics_section(facts: CardFacts) -> list[str]:
    """What people said of approval, money and data."""
    card = facts.model.study.card
    about = {
        "Ethical approval and consent": (card.ethics, "ethics"),
        "Funding": (card.funding, "funding"),
        "Conflicts of interest": (card.conflicts, "conflicts"),
        "Protocol and registration": (card.registration, "registration"),
        "Data and code": (card.data_availability, "data_availability"),
        "Patient involvement": (card.patient_involvement, "patient_involvement"),
    }
    lines = [f"**{name}:** {given(text, key)}" for name, (text, key) in about.items()]
    privacy = (
        "**Privacy:** this card names no patient; groups of 1 to 4 patients are written as "
        f"{code(FEW)}. Numbers of patients with a label or a modality are exact from 5 on."
    )
    return [*heading("15. Ethics, funding, data"), *items([*lines, privacy])]


__all__ = ["characteristics_section", "ethics_section", "flow_section", "merged_small", "missing"]
