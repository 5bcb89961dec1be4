"""The reporting checklists TRIPOD+AI and PROBAST+AI, filled with what is known; their items are data, not code.

A rule settles a few facts; every judgement is left to a person.

References:
    Collins et al. (2024), https://doi.org/10.1136/bmj-2023-078378 (27 items)
    Moons et al. (2025), https://doi.org/10.1136/bmj-2024-082505 (16 questions on development, 18 on evaluation)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, TypedDict

import yaml

from multimodn.card.facts import CardFacts
from multimodn.card.scores import CardScores
from multimodn.card.sections.data import per_input
from multimodn.card.wording import missing, patients
from multimodn.findings.markdown import Markup, code, escaped, heading, inline, items, listed, prose, table
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import FEWEST, count, counted, share

Part = Literal["development", "evaluation"]
JUDGE = "for a person to judge"
GIVEN = "given by the user"


class Item(TypedDict, total=False):
    """An item of a checklist; the files say what its fields mean."""

    number: str
    applies: str
    topic: str
    known: str
    user: str
    where: str
    fact: str
    judge: bool


class Group(TypedDict):
    """Items under a heading."""

    name: str
    items: list[Item]


@cache
def read_checklist(name: str) -> list[Group]:
    """Reads the items of a checklist, ``tripod`` or ``probast``."""
    text = (files("multimodn.card") / "checklists" / f"{name}.yaml").read_text(encoding="utf-8")
    groups: list[Group] = yaml.safe_load(text)
    return groups


def tripod(facts: CardFacts, scores: CardScores, has_baselines: bool) -> list[str]:
    """Fills TRIPOD+AI."""
    about = _about(facts, scores, has_baselines)
    lines = [*heading("TRIPOD+AI"), *prose("Applies to: D, development; E, evaluation of a model.")]
    for group in read_checklist("tripod"):
        rows = [
            (one["number"], one["applies"], one["topic"], _known(one, facts, about), one.get("where", ""))
            for one in group["items"]
        ]
        lines += [*heading(group["name"], 3), *table(["Item", "For", "Topic", "What is known", "Where"], rows, 5)]
    return lines


def probast(facts: CardFacts, scores: CardScores) -> list[str]:
    """Fills PROBAST+AI."""
    about = _about(facts, scores, has_baselines=False)
    lines = [
        *heading("PROBAST+AI"),
        *prose(
            "Answers are yes, probably yes, probably no, no, or no information. Where a rule settles a fact, the fact "
            "is written; everything else, including the rating of each domain and the applicability to your question, "
            "is for a person to judge."
        ),
        *heading("Development of the model (quality)", 3),
        *_domains("development", facts, about),
        *heading("Evaluation of the model (risk of bias)", 3),
    ]
    unevaluated = prose("There are no test patients: the model was not evaluated.")
    return [*lines, *(_domains("evaluation", facts, about) if facts.n_test else unevaluated)]


def _domains(part: Part, facts: CardFacts, about: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for number, group in enumerate(read_checklist("probast"), 1):
        asked = [one for one in group["items"] if one.get("in", part) == part]
        rows = [(one["number"], one["topic"], _known(one, facts, about), _assessment(one, about)) for one in asked]
        ratings = ["Rating of the domain", *([] if group["name"] == "Analysis" else ["Applicability"])]
        lines += [
            *heading(f"{number}. {group['name']}", 4),
            *table(["No.", "Question", "Evidence", "Assessment"], rows, 4),
            *items(f"{each}: {JUDGE}" for each in ratings),
        ]
    return lines


def _known(item: Item, facts: CardFacts, about: Mapping[str, str]) -> Markup:
    """What the package knows, and what the user wrote or could write."""
    parts = [item["known"].format_map(about)] if "known" in item else []
    return Markup("; ".join([*parts, *([_from_user(facts, item["user"])] if "user" in item else [])]))


def _assessment(item: Item, about: Mapping[str, str]) -> Markup:
    if "fact" not in item:
        return Markup(JUDGE)
    return Markup(f"fact: {item['fact'].format_map(about)}" + (f"; {JUDGE}" if item.get("judge") else ""))


def _from_user(facts: CardFacts, key: str) -> str:
    """Says whether the user filled a key of the study's card, and of which names it lacks words."""
    words = getattr(facts.model.study.card, key)
    if not isinstance(words, Mapping):
        text = "; ".join(words) if isinstance(words, list) else words or ""
        return GIVEN if text.strip() else missing(key)
    names = list(facts.tasks) if key == "outcomes" else [spec.name for spec in facts.model.study.modalities]
    lacking, absent = [name for name in names if not words.get(name, "").strip()], missing(f"{key}.NAME")
    if lacking:
        return absent if len(lacking) == len(names) else f"{GIVEN}, but of {listed(lacking)}: {absent}"
    return GIVEN


def _about(facts: CardFacts, scores: CardScores, has_baselines: bool) -> dict[str, str]:
    """What the items' texts are filled with; Markdown."""
    study, groups, tasks = facts.model.study, facts.cohort.groups, facts.tasks.items()
    subgroups = counted(len(study.subgroups), "column")
    measured, is_held_out = not scores.performance.empty, facts.n_members > 1 or facts.parts["validation"].any()
    by_subgroup = "main metric by subgroup" if study.subgroups else "no subgroups are named"
    measures = [metric_name(one) for one in sorted(set(scores.performance["metric"]))] if measured else []
    aim = ", and evaluation on test patients of the same cohort" if facts.n_test else "; there are no test patients"
    grouped = "a group stays in one part; performance is not reported by group"
    compared = f"nothing in training; performance is compared by {subgroups}"
    tested = f"{patients(facts.n_test)}; {by_subgroup}" if measured else "not measured: too few test patients or none"
    n_learned = int(facts.learned.sum())
    return {
        "objective": f"development{aim}",
        "difference": "parts of one cohort; characteristics are compared" if facts.n_test else "no evaluation data",
        "missingness": code(study.missingness),
        "sizes": ", ".join(f"{name} {count(int(rows.sum()))}" for name, rows in facts.parts.items()),
        "n_networks": counted(facts.n_members, "network"),
        "clusters": "no groups are named" if groups is None else grouped,
        "compared": "; simple models on the same patients" if has_baselines else "",
        "fairness": compared if study.subgroups else "nothing; no subgroups are named",
        "performance": tested,
        "per_input": _each({name: per_input(one.rarest(facts.learned), facts.n_inputs(name)) for name, one in tasks}),
        "analysed_training": _each({n: share(int((one.known & facts.learned).sum()), n_learned) for n, one in tasks}),
        "analysed_test": _each({name: share(int((one.known & facts.test).sum()), facts.n_test) for name, one in tasks}),
        "rarest_test": _each({name: count(one.rarest(facts.test)) for name, one in tasks}),
        "penalty": f"{study.training.penalty:g}",
        "stopping": "epoch chosen on held-out patients" if is_held_out else "no held-out patients to stop by",
        "n_test": count(facts.n_test),
        "overlap": str(int((facts.learned & facts.test).sum())),
        "by_group": "" if groups is None else ", and by group",
        "measures": listed(measures, 20) if facts.n_test >= FEWEST else "none: too few test patients",
    }


def _each(texts: Mapping[str, str]) -> str:
    return "; ".join(f"{inline(name)} {escaped(text)}" for name, text in texts.items())
