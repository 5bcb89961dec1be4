"""Sections on predictors, outcomes, missing data and the number of patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multimodn.audit.findings import TaskAudit
from multimodn.audit.sentences import BLIND, LIMIT, noticeable
from multimodn.card.facts import Facts, TaskFacts, pattern_of
from multimodn.card.sample_size import NAGELKERKE, SHRINKAGE, Needed, largest_r2, needed
from multimodn.card.scores import Scores, is_binary
from multimodn.card.wording import given, sentence
from multimodn.findings.markdown import Markup, code, escaped, heading, items, listed, prose, table
from multimodn.findings.numbers import FEWEST, count, counted, number

MOST_COLUMNS = 12
"""Columns that are named."""
MOST_PATTERNS = 6
MODES = {
    "neutral": "A prediction may learn nothing about the outcome from which modalities a patient has, as far as that "
    "depends on the outcome: losses are corrected for it in training, and outputs are calibrated for each subset of "
    "modalities.",
    "informative": "The model is told which modalities a patient has, and uses it. Its predictions hold only where "
    "modalities go missing for the same reasons as in these data.",
    "off": "Absent modalities are skipped and nothing else is done: a prediction may rest on which modalities a "
    "patient has, and can go wrong where they are missing for other reasons than here.",
}


def predictors_section(facts: Facts) -> list[str]:
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
            "Columns are those that the encoder keeps; inputs are the numbers that enter its network, such as "
            "principal components (a column of categories counts once). Patients and empty cells are those of the "
            "training patients, empty cells among those who have the modality.",
        ),
        *items(lines),
    ]


def outcomes_section(facts: Facts) -> list[str]:
    """Defines what is predicted."""
    rows = []
    for one in facts.tasks.values():
        columns = listed(one.spec.target_columns)
        rows.append((one.name, one.spec.kind, columns, _classes(one)))
    words = facts.model.study.card.outcomes
    lines = [f"**{escaped(name)}:** {given(words.get(name), f'outcomes.{name}')}" for name in facts.tasks]
    return [
        *heading("6. Outcomes"),
        *table(["Task", "Kind", "Column", "What is predicted"], rows, 4),
        *prose("How, when and by whom they were assessed:"),
        *items(lines),
        *prose(
            "A patient without a label takes no part in the training and the scores of that task.",
        ),
    ]


def _classes(one: TaskFacts) -> Markup:
    """Says which classes there are, and which one counts as the outcome."""
    if one.is_survival:
        edges = getattr(one.task, "edges", None)
        until = "" if edges is None else f" up to time {float(edges[-1]):,.4g}, in {len(edges)} intervals"
        classes = getattr(one.task, "classes", None)
        event = f" is {escaped(repr(classes[1]))} in its column" if classes else " is what its column says"
        return Markup(f"the chance of no event{until}, and a log-risk; the event{event}")
    if one.is_number:
        return Markup("the number, in the units of its column")
    if one.has_labels:
        return Markup(f"the probability of each label: {listed(one.task.link_names)}")
    names = one.task.stratum_names
    if len(one.task.link_names) == 1 and len(names) == 2:
        return Markup(f"the probability of {escaped(repr(names[1]))}, against {escaped(repr(names[0]))}")
    return Markup(f"the probability of each class: {listed(names)}")


def missing_section(facts: Facts, scores: Scores) -> list[str]:
    """Says which modalities are missing, how that is handled, and what the audit found."""
    mode = facts.model.study.missingness
    names = list(facts.presence.columns)
    found = facts.presence.to_numpy()
    patterns, codes = np.unique(found, axis=0, return_inverse=True)
    training, test = (np.bincount(codes.ravel()[rows], minlength=len(patterns)) for rows in (facts.learned, facts.test))
    order = np.argsort(-(training + test), kind="stable")[:MOST_PATTERNS]
    parts = [training, test] if facts.n_test else [training]
    rows = [(pattern_words(patterns[k], names), *(count(int(part[k])) for part in parts)) for k in order]
    left = len(patterns) - len(order)
    tables = any(one.kind == "table" for one in facts.predictors)
    indicated = [m.name for m in facts.model.study.modalities if getattr(m.options, "indicate_empty", False)]
    absent = [m.name for m in facts.model.study.modalities if getattr(m.options, "on_error", "raise") == "absent"]
    return [
        *heading("7. Missing data"),
        *prose(f"{code(f'missingness: {mode}')}. {MODES[mode]}"),
        *prose(
            "An empty cell of a table contributes what the average training patient contributes." if tables else "",
            f"Which cells are empty is an input of {listed(indicated)}." if indicated else "",
            f"Patients whose files cannot be read count as without {listed(absent)} when they are predicted, though "
            "they are counted as having it in this card."
            if absent
            else "",
        ),
        *table(["Modalities that patients have", "Training", *(["Test"] if facts.n_test else [])], rows),
        *prose(f"{counted(left, 'rarer combination')} {'is' if left == 1 else 'are'} not listed." if left > 0 else ""),
        *_audit_words(scores),
        *prose(escaped(LIMIT)),
    ]


def pattern_words(has: np.typing.NDArray[np.bool_], names: Sequence[str]) -> str:
    """Writes what a patient has, by what is missing where that is shorter."""
    if has.all():
        return "all"
    if has.sum() > len(has) / 2:
        return f"all but {', '.join(name for name, one in zip(names, has, strict=True) if not one)}"
    return pattern_of(has, names).replace("+", ", ")


def _audit_words(scores: Scores) -> list[str]:
    if scores.audit is None:
        return prose("The audit of missingness could not be made on these data.")
    n_tests = sum(len(task.modalities) for task in scores.audit.tasks)
    lines = [_audit_of(task, n_tests) for task in scores.audit.tasks]
    shifted = [shift.by for shift in scores.audit.shifts if shift.shifted]
    shift = {"split": "between the parts of the split", "group": "between groups such as sites"}
    about = [f"Who has which modality differs {shift[by]}." for by in shifted]
    return [
        *prose(
            "The audit asked all labelled patients whether presence tells the outcome. An AUROC below 0.5 means that "
            "what some patients' presence tells does not hold for those left out:"
        ),
        *items([*lines, *about]),
    ]


def _audit_of(task: TaskAudit, n_tests: int) -> str:
    """Words the findings about a task without the counts of small patterns."""
    name = escaped(task.task)
    auroc = task.auroc
    told = "what presence alone predicts cannot be estimated"
    if auroc.note and auroc.value is not None:
        told = "presence alone predicts nothing, as all have the same or nothing could be learned from it"
    elif auroc.value is not None and auroc.low is not None and auroc.high is not None:
        found = f"AUROC {number(auroc.value)} ({number(auroc.low)} to {number(auroc.high)}) on patients left out"
        told = f"presence alone predicts {'nothing' if auroc.low <= 0.5 else 'it'}, {found}"
    alarms = [found.modality for found in task.modalities if found.alarm]
    if alarms:
        return f"**{name}: alarm.** Whether patients have {listed(alarms)} depends on the outcome; {told}."
    blind = noticeable(task.n_low, task.n_high, n_tests)
    weak = (
        f" A difference of less than about {100 * min(blind, 1):.0f} points in presence would hardly be noticed."
        if blind >= BLIND
        else ""
    )
    holes = len({hole.subset for hole in task.holes if hole.is_pattern})
    more = (
        f" For {counted(holes, 'combination')} of modalities that patients have, some outcome has no example among "
        "those who have as much or more."
        if holes
        else ""
    )
    return f"**{name}:** no alarm; {told}.{weak}{more}"


def sample_size_section(facts: Facts, scores: Scores) -> list[str]:
    """Counts events for each input, and compares with what a regression would need."""
    rows, wanted = [], []
    n_rows = facts.learned
    for name, one in facts.tasks.items():
        n, events, inputs = int((one.known & n_rows).sum()), one.rarest(n_rows), facts.n_inputs(name)
        rows.append((name, count(n), count(events), f"{inputs:,}", per_input(events, inputs)))
        asked = criteria(facts, name)
        if asked is not None:
            wanted.append(
                (name, f"{inputs:,}", f"{asked.shrinkage:,}", f"{asked.optimism:,}", f"{asked.risk:,}", count(n))
            )
    lines = [
        *heading("8. Number of patients"),
        *prose(f"**Why so many:** {given(facts.model.study.card.sample_size, 'sample_size')}"),
        *table(["Task", "Labelled", "Rarest outcome", "Inputs", "Patients per input"], rows),
        *prose(
            "Training patients. The rarest outcome is the events, the smallest class, or, of numbers, all of them. "
            "Inputs are candidate predictor parameters after encoding (section 5); the networks have more weights "
            "than that, held back by the penalty.",
        ),
    ]
    if wanted:
        header = ["Task", "Inputs", f"Shrinkage {SHRINKAGE:g}", "Optimism 0.05", "Risk ± 0.05", "There are"]
        lines += [
            *prose(
                "Patients that a regression of as many parameters would need by Riley et al. 2020 "
                f"(<https://doi.org/10.1136/bmj.m441>), the largest number counting. The anticipated R² is an "
                f"assumption, {NAGELKERKE:.0%} of the largest possible, which they propose where nothing better is "
                "known:"
            ),
            *table(header, wanted),
            *prose(
                *_observed(facts, scores),
                "They were made for regressions without a penalty and do not tell what a penalised network needs.",
            ),
        ]
    return lines


def _observed(facts: Facts, scores: Scores) -> list[str]:
    """What the criteria ask for with the R² that test patients show, where it is of a size that makes sense."""
    texts = []
    for name, r2 in scores.r2.items():
        share = prevalence(facts, name)
        if not 0 < r2 < SHRINKAGE * largest_r2(share) or criteria(facts, name) is None:
            continue
        asked = needed(facts.n_inputs(name), share, r2)
        texts.append(
            f"With the Cox-Snell R² that the test patients show for {escaped(name)} ({number(r2, 3)}), the first two "
            f"criteria ask for {max(asked.shrinkage, asked.optimism):,}."
        )
    return texts


def per_input(events: int, inputs: int) -> str:
    """Writes events per input; of 1 to 4 events only an upper bound."""
    if not inputs:
        return "no inputs"
    if 0 < events < FEWEST:
        return f"less than {FEWEST / inputs:.2g}"
    return f"{events / inputs:.2g}" if events < 100 * inputs else f"{events / inputs:.0f}"


def prevalence(facts: Facts, task: str) -> float:
    """Returns the share of the second class among the labelled training patients."""
    one = facts.tasks[task]
    return float((one.truth[one.known & facts.learned, 0] > 0).mean())


def criteria(facts: Facts, task: str) -> Needed | None:
    """Computes the criteria for a task of two classes, if the smaller has `FEWEST` or more training patients."""
    if not is_binary(facts, task) or facts.tasks[task].rarest(facts.learned) < FEWEST or not facts.n_inputs(task):
        return None
    share = prevalence(facts, task)
    return needed(facts.n_inputs(task), share, NAGELKERKE * largest_r2(share))
