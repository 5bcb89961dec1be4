"""Sections on predictors, outcomes, missing data and the number of patients."""

from __future__ import annotations

import numpy as np

from multimodn.audit.sentences import LIMIT, short_verdict
from multimodn.card.facts import CardFacts, TaskFacts
from multimodn.card.sample_size import NAGELKERKE, SHRINKAGE, Needed, largest_r2, needed
from multimodn.card.scores import CardScores, is_binary
from multimodn.card.wording import given, sentence
from multimodn.findings import sentences
from multimodn.findings.markdown import Markup, code, escaped, heading, items, listed, prose, table
from multimodn.findings.names import pattern_words
from multimodn.findings.numbers import FEWEST, count, counted, joined, number

MOST_COLUMNS = 12  # columns that are named
MOST_PATTERNS = 6


def predictors_section(facts: CardFacts) -> list[str]:
    """Lists the modalities."""
    n = int(facts.learned.sum())
    rows = []
    for one in facts.predictors:
        has = int((facts.presence[one.name].to_numpy() & facts.learned).sum())
        width = f"{one.n_inputs} (embedding)" if one.is_embedding else f"{one.n_inputs}"
        empty = "none" if one.empty == 0 else "not known" if np.isnan(one.empty) else f"{max(one.empty, 0.001):.1%}"
        rows.append((one.name, one.kind, f"{len(one.columns):,}", width, count(has), empty))
    lines = []
    words = facts.model.study.card.predictors
    for name, spec in {s.name: s for s in facts.model.study.modalities}.items():
        one = next(p for p in facts.predictors if p.name in spec.step_names)
        units = getattr(spec.options, "units", {}) or {}
        named = [f"{column} ({units[column]})" if column in units else column for column in one.columns]
        columns = f" Columns: {listed(named)}." if len(named) <= MOST_COLUMNS else ""
        hidden = f" Hidden from {listed(one.hidden_from)}." if one.hidden_from else ""
        lines.append(f"**{escaped(name)}:** {sentence(given(words.get(name), f'predictors.{name}'))}{columns}{hidden}")
    header = ["Modality", "Kind", "Columns", "Inputs", f"Patients of {n:,}", "Empty cells"]
    return [
        *heading("5. Predictors"),
        *table(header, rows, 2),
        *prose(
            "Columns: those that the encoder keeps. Inputs: the numbers that enter its network, such as principal "
            "components (a categorical column counts once). Patients and empty cells are counted among the training "
            "patients, empty cells among those who have the modality."
        ),
        *items(lines),
    ]


def outcomes_section(facts: CardFacts) -> list[str]:
    """Defines what is predicted."""
    tasks = facts.tasks.values()
    rows = [(one.task.name, one.spec.kind, listed(one.spec.target_columns), _classes(one)) for one in tasks]
    words = facts.model.study.card.outcomes
    lines = [f"**{escaped(name)}:** {given(words.get(name), f'outcomes.{name}')}" for name in facts.tasks]
    return [
        *heading("6. Outcomes"),
        *table(["Task", "Kind", "Column", "What is predicted"], rows, 4),
        *prose("Assessment (how, when and by whom):"),
        *items(lines),
        *prose("A patient without a label is left out of the training and the scores of that task."),
    ]


def _classes(one: TaskFacts) -> Markup:
    """Says which classes there are, and which one counts as the outcome."""
    if one.is_survival:
        edges, horizons = getattr(one.task, "edges", None), list(getattr(one.task, "horizons", {}))
        until = "" if edges is None else f" by each of {len(edges)} times, the last {float(edges[-1]):,.4g}"
        until = f" by {joined(horizons)}" if horizons else until
        classes = getattr(one.task, "classes", None)
        event = f" is {escaped(repr(classes[1]))} in its column" if classes else " is as its column says"
        return Markup(f"the chance of the event{until}, and a log-risk; the event{event}")
    if one.is_number:
        return Markup("the number, in the units of its column")
    if one.has_labels:
        return Markup(f"the probability of each label: {listed(one.task.link_names)}")
    names = one.task.stratum_names
    if len(one.task.link_names) == 1 and len(names) == 2:
        return Markup(f"the probability of {escaped(repr(names[1]))}, against {escaped(repr(names[0]))}")
    return Markup(f"the probability of each class: {listed(names)}")


def missing_section(facts: CardFacts, scores: CardScores) -> list[str]:
    """Reports which modalities are missing, how that is handled, and what the audit found."""
    mode, names = facts.model.study.missingness, list(facts.presence.columns)
    patterns, codes = np.unique(facts.presence.to_numpy(), axis=0, return_inverse=True)
    training, test = (np.bincount(codes.ravel()[rows], minlength=len(patterns)) for rows in (facts.learned, facts.test))
    order = np.argsort(-(training + test), kind="stable")[:MOST_PATTERNS]
    parts = [training, test] if facts.n_test else [training]
    present = [[name for name, has in zip(names, row, strict=True) if has] for row in patterns]
    rows = [(pattern_words(present[k], names), *(count(int(part[k])) for part in parts)) for k in order]
    left = len(patterns) - len(order)
    indicated = [m.name for m in facts.model.study.modalities if getattr(m.options, "indicate_empty", False)]
    absent = [m.name for m in facts.model.study.modalities if getattr(m.options, "on_error", "raise") == "absent"]
    unread = "A patient whose files cannot be read is predicted without"
    return [
        *heading("7. Missing data"),
        *prose(f"{code(f'missingness: {mode}')}. {sentences.MISSINGNESS[mode]}"),
        *prose(
            sentences.SKIPPED,
            f"Which cells are empty is an input of {listed(indicated)}." if indicated else "",
            f"{unread} {listed(absent)}, but counted as having it in this card." if absent else "",
        ),
        *table(["Modalities present", "Training", *(["Test"] if facts.n_test else [])], rows),
        *prose(f"{counted(left, 'rarer combination')} {'is' if left == 1 else 'are'} not listed." if left > 0 else ""),
        *_audit_words(scores),
        *prose(escaped(LIMIT)),
    ]


def _audit_words(scores: CardScores) -> list[str]:
    if scores.audit is None:
        return prose("The audit of missingness could not be made on these data.")
    n_tests = sum(len(task.modalities) for task in scores.audit.tasks)
    lines = [f"**{escaped(task.task)}:** {escaped(short_verdict(task, n_tests))}" for task in scores.audit.tasks]
    between = {"split": "the parts of the split", "group": "groups such as sites"}
    about = [f"The presence of modalities differs between {between[s.by]}." for s in scores.audit.shifts if s.shifted]
    return [
        *prose(
            "The audit tested, in all labelled patients, whether the presence of modalities, and which of their cells "
            "are empty, depends on the outcome. An AUROC below 0.5 means that what was learned from some patients does "
            "not hold for others:"
        ),
        *items([*lines, *about]),
    ]


def sample_size_section(facts: CardFacts, scores: CardScores) -> list[str]:
    """Counts events for each input, and compares with what a regression would need."""
    rows, wanted, learned = [], [], facts.learned
    for name, one in facts.tasks.items():
        n, events, inputs = int((one.known & learned).sum()), one.rarest(learned), facts.n_inputs(name)
        rows.append((name, count(n), count(events), f"{inputs:,}", per_input(events, inputs)))
        asked = criteria(facts, name)
        if asked is not None:
            sizes = (f"{k:,}" for k in (inputs, asked.shrinkage, asked.optimism, asked.risk))
            wanted.append((name, *sizes, count(n)))
    lines = [
        *heading("8. Sample size"),
        *prose(f"**Reason for the sample size:** {given(facts.model.study.card.sample_size, 'sample_size')}"),
        *table(["Task", "Labelled", "Rarest outcome", "Inputs", "Patients per input"], rows),
        *prose(
            "Training patients. Rarest outcome: the events, the smallest class, or, of numbers, all. Inputs are "
            "candidate predictor parameters after encoding (section 5); the networks have more weights than that, "
            "shrunk by the penalty."
        ),
    ]
    if wanted:
        header = ["Task", "Inputs", f"Shrinkage {SHRINKAGE:g}", "Optimism 0.05", "Risk ± 0.05", "Patients"]
        lines += [
            *prose(
                "Patients that a regression with as many parameters needs by the criteria of Riley et al. 2020 "
                "(<https://doi.org/10.1136/bmj.m441>); the largest number counts. The anticipated R² is assumed to be "
                f"{NAGELKERKE:.0%} of the largest possible, as they propose where nothing better is known:"
            ),
            *table(header, wanted),
            *prose(
                *_observed(facts, scores),
                "The criteria are for regressions without a penalty; what a penalised network needs is unknown.",
            ),
        ]
    return lines


def _observed(facts: CardFacts, scores: CardScores) -> list[str]:
    """What the criteria ask for with the R² that test patients show, where it is of a size that makes sense."""
    texts = []
    for name, r2 in scores.r2.items():
        share = prevalence(facts, name)
        if not 0 < r2 < SHRINKAGE * largest_r2(share) or criteria(facts, name) is None:
            continue
        asked = needed(facts.n_inputs(name), share, r2)
        texts.append(
            f"With the Cox-Snell R² of {escaped(name)} in the test patients ({number(r2, 3)}), the first two criteria "
            f"require {max(asked.shrinkage, asked.optimism):,}."
        )
    return texts


def per_input(events: int, inputs: int) -> str:
    """Writes events per input; of 1 to 4 events only an upper bound."""
    if not inputs:
        return "no inputs"
    if 0 < events < FEWEST:
        return f"less than {FEWEST / inputs:.2g}"
    return f"{events / inputs:.2g}" if events < 100 * inputs else f"{events / inputs:.0f}"


def prevalence(facts: CardFacts, task: str) -> float:
    """Returns the share of the second class among the labelled training patients."""
    one = facts.tasks[task]
    return float((one.truth[one.known & facts.learned, 0] > 0).mean())


def criteria(facts: CardFacts, task: str) -> Needed | None:
    """Computes the criteria for a task of two classes, if the smaller has `FEWEST` or more training patients."""
    if not is_binary(facts, task) or facts.tasks[task].rarest(facts.learned) < FEWEST or not facts.n_inputs(task):
        return None
    share = prevalence(facts, task)
    return needed(facts.n_inputs(task), share, NAGELKERKE * largest_r2(share))
