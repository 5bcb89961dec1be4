"""TRIPOD+AI: what is known for each item, and where it stands. Topics are in our own words.

References:
    Collins et al. (2024), https://doi.org/10.1136/bmj-2023-078378 (27 items; D = development, E = evaluation)
"""

from __future__ import annotations

from multimodn.card.checklist import AUTHORS, Item, at, both, said, said_of
from multimodn.card.facts import Facts
from multimodn.card.scores import Scores
from multimodn.card.wording import patients
from multimodn.findings.markdown import Markup, code, heading, prose, table
from multimodn.findings.numbers import count


def tripod(facts: Facts, scores: Scores, has_baselines: bool) -> list[str]:
    """Fills the checklist."""
    parts = {
        "Title, abstract, introduction": _introduction(facts),
        "Methods: data and participants": _data(facts),
        "Methods: outcome, predictors, numbers": _variables(facts),
        "Methods: analysis": _analysis(facts, has_baselines),
        "Methods: fairness, output, ethics": _fairness(facts),
        "Open science, patients": _open(facts),
        "Results": _results(facts, scores),
        "Discussion": _discussion(facts),
    }
    lines = [*heading("TRIPOD+AI"), *prose("Applies to: D, development; E, evaluation of a model.")]
    for name, found in parts.items():
        rows = [(one.number, one.applies, one.topic, one.known, one.where) for one in found]
        lines += [*heading(name, 3), *table(["Item", "For", "Topic", "What is known", "Where"], rows, 5)]
    return lines


def _introduction(facts: Facts) -> list[Item]:
    card = facts.model.study.card
    return [
        Item("1", "D;E", "Title: a prediction model, its patients, its outcome", AUTHORS),
        Item("2", "D;E", "Abstract, by the checklist for abstracts", AUTHORS),
        Item("3a", "D;E", "Clinical context, and models that exist", said(card.background, "background"), at(2)),
        Item(
            "3b",
            "D;E",
            "For which patients, when in their care, for whom",
            said(card.intended_use, "intended_use"),
            at(2),
        ),
        Item("3c", "D;E", "Known health inequalities", said(card.inequalities, "inequalities"), at(2)),
        Item("4", "D;E", "Objectives: development, evaluation or both", _objective(facts), at(9)),
    ]


def _objective(facts: Facts) -> str:
    if not facts.n_test:
        return "development; there are no test patients"
    return "development, and evaluation on test patients of the same cohort"


def _data(facts: Facts) -> list[Item]:
    card = facts.model.study.card
    return [
        Item("5a", "D;E", "Sources of data, and how representative they are", said(card.setting, "setting"), at(3)),
        Item("5b", "D;E", "Dates of inclusion and follow-up", said(card.dates, "dates"), at(3)),
        Item("6a", "D;E", "Setting and centres", said(card.setting, "setting"), at(3)),
        Item("6b", "D;E", "Who was eligible", said(card.eligibility, "eligibility"), at(3)),
        Item("6c", "D;E", "Treatments, and how they were dealt with", said(card.treatment, "treatment"), at(3)),
        Item(
            "7",
            "D;E",
            "Preparation and quality of data, alike in all groups",
            "scaling, classes and components are fitted on training patients only; checks of the data are listed; what "
            "was done before is for the authors to write",
            "sections 3, 5",
        ),
    ]


def _variables(facts: Facts) -> list[Item]:
    card = facts.model.study.card
    modalities = [spec.name for spec in facts.model.study.modalities]
    outcomes, predictors = (
        said_of(card.outcomes, list(facts.tasks), "outcomes"),
        said_of(card.predictors, modalities, "predictors"),
    )
    return [
        Item(
            "8a",
            "D;E",
            "Outcome: definition, horizon, assessment",
            both("column and classes are listed", outcomes),
            at(6),
        ),
        Item("8b", "D;E", "Outcome: who judged it, if judgement is involved", outcomes, at(6)),
        Item("8c", "D;E", "Outcome: blinding of its assessment", outcomes, at(6)),
        Item(
            "9a",
            "D",
            "Predictors: how the first ones were chosen",
            both("all columns that the study names", predictors),
            at(5),
        ),
        Item(
            "9b",
            "D;E",
            "Predictors: definition and measurement",
            both("modalities and columns are listed", predictors),
            at(5),
        ),
        Item("9c", "D;E", "Predictors: who judged them, if judgement is involved", predictors, at(5)),
        Item(
            "10",
            "D;E",
            "Number of patients, and why",
            both("counts per input are given", said(card.sample_size, "sample_size")),
            at(8),
        ),
        Item(
            "11",
            "D;E",
            "Missing data",
            Markup(
                f"nothing is imputed, absent modalities are skipped; mode {code(facts.model.study.missingness)}; audit"
            ),
            at(7),
        ),
    ]


def _analysis(facts: Facts, has_baselines: bool) -> list[Item]:
    groups = facts.cohort.groups
    clusters = (
        "no groups are named" if groups is None else "a group stays in one part; performance is not told by group"
    )
    sizes = ", ".join(f"{name} {count(int(rows.sum()))}" for name, rows in facts.parts.items())
    compared = "; simple models on the same patients" if has_baselines else ""
    return [
        Item("12a", "D;E", "How data were used and divided", f"{sizes} patients", at(3)),
        Item("12b", "D", "How predictors enter", "by kind of modality; options stand in study.yaml", at(5)),
        Item(
            "12c",
            "D",
            "Type of model, all steps of building it, internal validation",
            f"{facts.n_members} network(s), settings and epochs are given; held-out test patients; how settings were "
            "chosen is for the authors to write",
            at(1),
        ),
        Item("12d", "D;E", "Differences between clusters, such as hospitals", clusters, at(3)),
        Item(
            "12e",
            "D;E",
            "Measures of performance",
            f"discrimination, calibration, overall error{compared}",
            "sections 9, 10, 13",
        ),
        Item("12f", "E", "Updating of the model after evaluation", "none by the package"),
        Item(
            "12g",
            "E",
            "How predictions are computed",
            Markup(f"by the saved bundle: {code('multimodn predict')}"),
            at(16),
        ),
    ]


def _fairness(facts: Facts) -> list[Item]:
    card, named = facts.model.study.card, facts.model.study.subgroups
    fair = (
        f"nothing in training; performance is compared by {len(named)} columns"
        if named
        else "nothing; no subgroups are named"
    )
    return [
        Item("13", "D;E", "Class imbalance", "no resampling, no weights of classes", at(1)),
        Item("14", "D;E", "Approaches to fairness", fair, at(9)),
        Item(
            "15", "D", "What is output, and thresholds", "probabilities, numbers, risks; no threshold is applied", at(6)
        ),
        Item("16", "D;E", "Differences between development and evaluation data", _difference(facts), at(4)),
        Item("17", "D;E", "Ethical approval and consent", said(card.ethics, "ethics"), at(15)),
    ]


def _difference(facts: Facts) -> str:
    return "parts of one cohort; characteristics are compared" if facts.n_test else "no evaluation data"


def _open(facts: Facts) -> list[Item]:
    card = facts.model.study.card
    return [
        Item("18a", "D;E", "Funding", said(card.funding, "funding"), at(15)),
        Item("18b", "D;E", "Conflicts of interest", said(card.conflicts, "conflicts"), at(15)),
        Item("18c", "D;E", "Protocol", said(card.registration, "registration"), at(15)),
        Item("18d", "D;E", "Registration", said(card.registration, "registration"), at(15)),
        Item("18e", "D;E", "Sharing of data", said(card.data_availability, "data_availability"), at(15)),
        Item(
            "18f",
            "D;E",
            "Sharing of code",
            both("commands, versions and hashes", said(card.data_availability, "data_availability")),
            "sections 15, 16",
        ),
        Item(
            "19",
            "D;E",
            "Involvement of patients and the public",
            said(card.patient_involvement, "patient_involvement"),
            at(15),
        ),
    ]


def _results(facts: Facts, scores: Scores) -> list[Item]:
    measured = not scores.performance.empty
    groups = "main metric by subgroup" if facts.model.study.subgroups else "no subgroups are named"
    return [
        Item(
            "20a",
            "D;E",
            "Flow of participants, with and without the outcome, follow-up",
            "counted by part",
            "sections 3, 4",
        ),
        Item(
            "20b",
            "D;E",
            "Characteristics, by setting, with missing values",
            "outcomes; columns that are named as subgroups",
            at(4),
        ),
        Item("20c", "E", "Comparison of evaluation with development data", _difference(facts), at(4)),
        Item("21", "D;E", "Participants and events in each analysis", "counted by task", "sections 4, 8, 9"),
        Item(
            "22", "D", "The full model", Markup(f"weights and scales are in the run folder ({code('bundle')})"), at(16)
        ),
        Item(
            "23a",
            "D;E",
            "Performance with intervals, in subgroups too",
            f"{patients(facts.n_test)}; {groups}" if measured else "not measured: too few test patients or none",
            "sections 9, 10",
        ),
        Item("23b", "D;E", "Differences of performance between clusters", "not told by the package", ""),
        Item("24", "E", "Results of updating", "none by the package"),
    ]


def _discussion(facts: Facts) -> list[Item]:
    card = facts.model.study.card
    return [
        Item("25", "D;E", "Interpretation, fairness included", AUTHORS),
        Item(
            "26",
            "D;E",
            "Limitations",
            both("those that follow from numbers", said("; ".join(card.limitations), "limitations")),
            at(14),
        ),
        Item(
            "27a",
            "D",
            "How poor or absent input is dealt with in use",
            "any subset of modalities is predicted from; checks name what cannot be read",
            at(7),
        ),
        Item("27b", "D", "What users have to do and know", said(card.intended_users, "intended_users"), at(2)),
        Item("27c", "D;E", "Next steps, and where else it may hold", AUTHORS),
    ]
