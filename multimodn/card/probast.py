"""PROBAST+AI: the evidence that the package holds for each question. Questions are in our own words.

A rule settles a few facts; the judgement itself is left to a person.

References:
    Moons et al. (2025), https://doi.org/10.1136/bmj-2024-082505 (16 questions on development, 18 on evaluation)
"""

from __future__ import annotations

from dataclasses import dataclass

from multimodn.card.checklist import said, said_of
from multimodn.card.facts import Facts
from multimodn.card.scores import Scores
from multimodn.card.sections.data import per_input
from multimodn.findings.markdown import heading, items, listed, prose, table
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import FEWEST, count, share

JUDGE = "for a person to judge"


@dataclass(frozen=True)
class Question:
    """A signalling question: its number, our words for it, the evidence, and the assessment."""

    number: str
    text: str
    evidence: str
    assessment: str = JUDGE


def probast(facts: Facts, scores: Scores) -> list[str]:
    """Fills both parts, for each domain a table."""
    development = [*_shared(facts), ("Analysis", _development(facts))]
    evaluation = [*_shared(facts), ("Analysis", _evaluation(facts, scores))]
    lines = [
        *heading("PROBAST+AI"),
        *prose(
            "Answers are yes, probably yes, probably no, no, or no information. Where a rule can settle a fact, it is "
            "written as such; everything else, the rating of each domain and the applicability to your question "
            "included, is for a person to judge."
        ),
        *heading("Development of the model (quality)", 3),
        *_tables(development),
        *heading("Evaluation of the model (risk of bias)", 3),
    ]
    if not facts.n_test:
        return [*lines, *prose("There are no test patients: the model was not evaluated.")]
    return [*lines, *_tables(evaluation)]


def _tables(domains: list[tuple[str, list[Question]]]) -> list[str]:
    lines: list[str] = []
    for number, (name, questions) in enumerate(domains, 1):
        rows = [(one.number, one.text, one.evidence, one.assessment) for one in questions]
        ratings = ["rating of the domain"] + ([] if name == "Analysis" else ["applicability"])
        lines += [
            *heading(f"{number}. {name}", 4),
            *table(["No.", "Question", "Evidence", "Assessment"], rows, 4),
            *items(f"{each.capitalize()}: {JUDGE}" for each in ratings),
        ]
    return lines


def _shared(facts: Facts) -> list[tuple[str, list[Question]]]:
    """The first three domains, which ask the same of development and evaluation."""
    card = facts.model.study.card
    outcomes = said_of(card.outcomes, list(facts.tasks), "outcomes")
    predictors = said_of(card.predictors, [spec.name for spec in facts.model.study.modalities], "predictors")
    participants = [
        Question("1.1", "Are the sources of data suitable?", said(card.setting, "setting")),
        Question("1.2", "Is the design of the study suitable?", said(card.eligibility, "eligibility")),
        Question(
            "1.3", "Do the patients represent those whom it is meant for?", said(card.intended_use, "intended_use")
        ),
    ]
    of_predictors = [
        Question("2.1", "Are predictors defined and measured alike for all?", predictors),
        Question(
            "2.2",
            "Are predictors prepared alike for all?",
            "scaling and encoding are fitted on training patients and applied to all by the same code; earlier steps "
            "are not known",
        ),
        Question("2.3", "Were predictors measured without knowing the outcome?", predictors),
        Question("2.4", "Are predictors at hand when the model is to be used?", predictors),
    ]
    of_outcome = [
        Question("3.1", "Is the outcome defined suitably?", outcomes),
        Question("3.2", "Is it defined and assessed alike for all?", outcomes),
        Question("3.3", "Was it assessed without knowing the predictors?", outcomes),
        Question("3.4", "Is the time between predictors and outcome suitable?", outcomes),
    ]
    return [
        ("Participants and data sources", participants),
        ("Predictors", of_predictors),
        ("Outcome", of_outcome),
    ]


def _development(facts: Facts) -> list[Question]:
    each = "; ".join(
        f"{name} {per_input(one.rarest(facts.learned), facts.n_inputs(name))}" for name, one in facts.tasks.items()
    )
    return [
        Question(
            "4.1",
            "Are there enough patients?",
            "section 8",
            f"fact: patients of the rarest outcome per input: {each}; {JUDGE}",
        ),
        Question(
            "4.2",
            "Are numbers and categories handled suitably?",
            "numbers are not cut into two; how each kind encodes them stands in study.yaml (section 5)",
        ),
        Question(
            "4.3",
            "Are missing and censored data handled suitably?",
            "nobody is left out for missing modalities; patients without a label are left out of that task; censored "
            "times enter the likelihood (section 7)",
            f"fact: {_analysed(facts, learned=True)}; {JUDGE}",
        ),
        Question(
            "4.4",
            "If classes were balanced, were outputs recalibrated?",
            "classes are not balanced",
            "fact: not applicable",
        ),
        Question(
            "4.5",
            "Was overfitting dealt with?",
            f"L2 penalty {facts.model.study.training.penalty:g}, {_stopping(facts)}, {facts.n_members} network(s)",
        ),
    ]


def _stopping(facts: Facts) -> str:
    held_out = facts.n_members > 1 or facts.parts["validation"].any()
    return "epoch chosen on held-out patients" if held_out else "no held-out patients to stop by"


def _analysed(facts: Facts, *, learned: bool) -> str:
    rows = facts.learned if learned else facts.test
    n = int(rows.sum())
    each = "; ".join(f"{name} {share(int((one.known & rows).sum()), n)}" for name, one in facts.tasks.items())
    return f"analysed {'training' if learned else 'test'} patients: {each}"


def _evaluation(facts: Facts, scores: Scores) -> list[Question]:
    rarest = "; ".join(f"{name} {count(one.rarest(facts.test))}" for name, one in facts.tasks.items())
    overlap = int((facts.learned & facts.test).sum())
    apart = f"fact: {count(facts.n_test)} test patients, {overlap} of them among those whom weights were learned from"
    measures = sorted(set(scores.performance["metric"])) if not scores.performance.empty else []
    return [
        Question("4.1", "Is it more than performance on the training patients?", "section 9", apart),
        Question(
            "4.2",
            "Are there enough test patients?",
            "sections 8, 9, 14",
            f"fact: rarest outcome in the test part: {rarest}; {JUDGE}",
        ),
        Question(
            "4.3",
            "Are missing and censored data handled suitably?",
            "as in development; scores of censored times are weighted by the chance of being observed",
            f"fact: {_analysed(facts, learned=False)}; {JUDGE}",
        ),
        Question(
            "4.4",
            "Was it evaluated on data without balanced classes?",
            "test patients are as they are in the sources",
            "fact: yes, the package balances nothing",
        ),
        Question(
            "4.5",
            "Was leakage from training to test patients avoided?",
            "parts are divided by patient"
            + (", and by group" if facts.cohort.groups is not None else "")
            + "; everything is fitted on training and validation patients; what was done before, and who saw the test "
            "results, is not known",
        ),
        Question(
            "4.6",
            "If patients were resampled, was every step of building repeated?",
            "intervals resample the predictions of one trained model; nothing is trained again",
            "fact: not applicable to one held-out part",
        ),
        Question(
            "4.7",
            "Are the measures of performance suitable?",
            listed([metric_name(one) for one in measures], 20)
            if facts.n_test >= FEWEST
            else "none: too few test patients",
        ),
    ]
