"""Sections on patients: where they come from, how many there are at each stage, and what they are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from multimodn.card.facts import Bools, CardFacts, Floats, TaskFacts
from multimodn.card.sample_size import median_follow_up
from multimodn.card.wording import given
from multimodn.errors import DataError
from multimodn.evaluate.performance.subgroups import FEW_VALUES, UNKNOWN, read_subgroups
from multimodn.findings.markdown import Markup, code, escaped, heading, items, prose, table
from multimodn.findings.numbers import FEW, FEWEST, count, counts, quartiles, share, shares
from multimodn.study.study import ColumnSplit, RandomSplit


def flow_section(facts: CardFacts) -> list[str]:
    """Counts patients from the sources to the parts, and who has labels and modalities."""
    card = facts.model.study.card
    keys = {"setting": "Setting", "eligibility": "Eligibility", "dates": "Dates", "treatment": "Treatments"}
    return [
        *heading("3. Patients"),
        *(line for key, name in keys.items() for line in prose(f"**{name}:** {given(getattr(card, key), key)}")),
        *_flow(facts),
        *prose(_split_words(facts)),
        *_notes(facts),
    ]


def _flow(facts: CardFacts) -> list[str]:
    everyone: Bools = np.ones(len(facts.cohort), dtype=bool)
    columns = {"All": everyone, **{name.capitalize(): rows for name, rows in facts.parts.items()}}
    placed: Bools = facts.parts["train"] | facts.parts["validation"] | facts.parts["test"]
    if not placed.all():
        columns["In no part"] = ~placed

    def row(label: str, has: Bools) -> tuple[object, ...]:
        return (Markup(label), *(count(int((has & part).sum())) for part in columns.values()))

    rows, origin, presence = [row("**Patients**", everyone)], facts.cohort.registry, facts.presence
    if origin is not None:
        names = origin.unique().tolist()
        each = [counts([int((part & (origin == one).to_numpy()).sum()) for one in names]) for part in columns.values()]
        rows += [(Markup(f"of {escaped(name)}"), *cells) for name, *cells in zip(names, *each, strict=True)]
    rows += [row(f"with a label of {escaped(name)}", task.known) for name, task in facts.tasks.items()]
    rows += [row(f"with {escaped(name)}", presence[name].to_numpy()) for name in presence.columns]
    if len(presence.columns) > 1:
        rows.append(row("with every modality", np.all(presence.to_numpy(), axis=1)))
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
        evenly = f", evenly by {escaped(spec.stratify)}" if spec.stratify else ""
        how = f"The parts were drawn at random (seed {spec.seed}{evenly})"
    elif isinstance(spec, ColumnSplit):
        how = f"The parts are those that column {code(spec.column)} names"
    else:
        how = "The parts are those that the study's files list"
    if not isinstance(spec, RandomSplit) and spec.test is not None:
        where = f"column {code(spec.column)}" if isinstance(spec, ColumnSplit) else "the study's files"
        how = f"Tested is fold {escaped(spec.test)} of {where}; patients of the other folds are trained on"
    if facts.model.provenance.get("validation"):
        how += (
            ", but for the validation patients, who were drawn from its training patients (a fifth, evenly by outcome)"
        )
    apart = "" if groups is None else f", and a group ({groups.nunique():,} of them) is never in two"
    chosen = "validation patients choose the epoch" if facts.parts["validation"].any() else "all epochs are run"
    trained = f"Weights are learned from the training patients; {chosen}."
    if facts.n_members > 1:
        trained = f"The {facts.n_members} networks share training and validation patients: each leaves out another "
        trained += "fold, which chooses its epoch."
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
    parts = {"Training": facts.learned} | ({"Test": facts.test} if facts.n_test else {})
    rows = [*_subgroup_rows(facts, parts), *(row for one in facts.tasks.values() for row in _outcome_rows(one, parts))]
    included = "Training patients include the validation patients, on whom other networks were trained."
    unnamed = prose(f"No column is named to compare groups of patients ({code('subgroups')} of the study).")
    return [
        *heading("4. Characteristics"),
        *prose(
            included if facts.n_members > 1 else "",
            "Shares are of the patients who have the value. Groups of 1 to 4 patients are not counted exactly, nor are "
            "others from which they could be derived.",
        ),
        *table(["", *(f"{name} (n = {count(int(mask.sum()))})" for name, mask in parts.items())], rows),
        *([] if facts.model.study.subgroups else unnamed),
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
    every = dict.fromkeys([*groups.cat.categories, *merged.unique()])
    order = [group for group in every if (merged == group).any()]
    columns = [shares([int((merged[mask] == group).sum()) for group in order]) for mask in parts.values()]
    labels = [str(group).removeprefix(f"{name} ").removeprefix(f"{name}: ").removeprefix("= ") for group in order]
    return [(label, *cells) for label, *cells in zip(labels, *columns, strict=True)]


def _outcome_rows(one: TaskFacts, parts: dict[str, Bools]) -> list[tuple[object, ...]]:
    masks = [one.known & mask for mask in parts.values()]
    totals, by_part = [int(mask.sum()) for mask in masks], [one.outcomes(mask) for mask in masks]
    head = (Markup(f"**{escaped(one.task.name)}**"), *(f"{count(n)} labelled" for n in totals))
    if one.is_number:
        return [head, ("median (quartiles)", *(quartiles(one.truth[mask, 0]) for mask in masks))]
    if one.is_survival or one.has_labels:
        columns = [[share(n, total) for n in each.values()] for each, total in zip(by_part, totals, strict=True)]
    else:
        columns = [shares(list(each.values())) for each in by_part]
    rows = [head, *((name, *cells) for name, *cells in zip(by_part[0], *columns, strict=True))]
    if one.is_survival:
        label = Markup(f"median follow-up (unit of column {escaped(one.spec.target_columns[0])})")
        rows.append((label, *(_follow_up(one.truth[mask]) for mask in masks)))
    return rows


def _follow_up(truth: Floats) -> str:
    """The median follow-up of times and events ``(n, 2)`` in the units of the time column."""
    median = median_follow_up(truth[:, 0], truth[:, 1] > 0) if len(truth) >= FEWEST else 0.0
    return FEW if len(truth) < FEWEST else "not reached" if np.isnan(median) else f"{median:,.4g}"


def ethics_section(facts: CardFacts) -> list[str]:
    """What people said of approval, money and data."""
    card = facts.model.study.card
    keys = {
        "ethics": "Ethical approval and consent", "funding": "Funding", "conflicts": "Conflicts of interest",
        "registration": "Protocol and registration", "data_availability": "Data and code",
        "patient_involvement": "Patient involvement",
    }  # fmt: skip
    lines = [f"**{name}:** {given(getattr(card, key), key)}" for key, name in keys.items()]
    privacy = f"**Privacy:** this card names no patient; groups of 1 to 4 patients are written as {code(FEW)}. "
    privacy += "Numbers of patients with a label or a modality are exact from 5 on."
    return [*heading("15. Ethics, funding, data"), *items([*lines, privacy])]
