"""External validation: a trained model on the patients of another hospital, without training anything.

References:
    Steyerberg and Harrell (2016), https://doi.org/10.1016/j.jclinepi.2015.04.005; what to report: TRIPOD+AI, Collins
    et al. (2024), https://doi.org/10.1136/bmj-2023-078378
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.data.registries import own_identifiers
from multimodn.errors import DataError, DataWarning, MultiModNError, StudyError, did_you_mean, raise_all, shown
from multimodn.evaluate.performance.conformal_coverage import coverage
from multimodn.evaluate.performance.performance import performance
from multimodn.external.result import External
from multimodn.external.tables import calibration_table, compared_with_scores, comparison_table, outcome_flow
from multimodn.model.multimodn import MultiModN
from multimodn.monitor.drift import drift
from multimodn.monitor.reference import Reference
from multimodn.study.study import Study, TaskSpec
from multimodn.training.provenance import versions

LEVEL = 0.9  # the coverage level of conformal prediction sets


def external_cohort(model: MultiModN, other: Study, *, labelled: bool = True) -> Cohort:
    """Loads the patients of another study as the model takes them; a modality or task that it lacks is absent.

    Without ``labelled`` its targets are not read.

    Raises:
        StudyError: If the study has a modality or task that the model does not know, or a task of another kind, other
            target columns or another positive label; every problem is listed.
        DataError: If its data cannot be used.
    """
    _check_names(model, other)
    found = Cohort.load(other, labelled=labelled)
    if not labelled:
        return found
    targets = dict(found.targets)
    for spec in model.study.tasks:
        if spec.name not in targets:
            targets[spec.name] = pd.DataFrame(np.nan, index=found.patients, columns=pd.Index(spec.target_columns))
    return replace(found, targets=targets)


def evaluate_external(
    model: MultiModN,
    other: Study | Cohort,
    *,
    reference: Reference | None = None,
    allow_overlap: bool = False,
    n_resamples: int = 1000,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda step: None,
) -> External:
    """Evaluates a trained model on patients of another study.

    Args:
        model: The model.
        other: The other study: its own sources, the modalities, tasks and columns by the names that the model knows, or
            some of them. Or what `external_cohort` made of it.
        reference: What the training patients look like, to tell how these differ.
        allow_overlap: Go on although patients have identifiers of patients who were trained on, as where two hospitals
            number theirs alike.
        n_resamples: Bootstrap resamples of patients.
        seed: Their seed.
        on_step: Called with what is done next.

    Raises:
        NotFittedError: Before training.
        StudyError: See `external_cohort`.
        DataError: If the data cannot be used, columns are missing, labels are unknown to the model, nobody has a label,
            or patients were trained on; the message names them.
    """
    _ = model.trained  # raises NotFittedError
    on_step("reading the patients")
    name = other.name if isinstance(other, Study) else "another cohort"
    cohort = external_cohort(model, other) if isinstance(other, Study) else other
    notes = _overlap(model, cohort, allow_overlap)
    patients, read = _prepared(model, cohort)
    notes += read
    labelled = [task for task, known in patients.labelled.items() if known.any()]
    if not labelled:
        raise DataError(f"Nobody in '{name}' has a label of any task: there is nothing to evaluate.")
    modalities = [task for task in model.trained.modalities if task not in cohort.modalities]
    tasks = [task for task in model.trained.tasks if task not in labelled]
    notes += [f"Not in this study, so absent in all patients: {', '.join(modalities)}."] if modalities else []
    notes += [f"Without labels here, so not evaluated: {', '.join(tasks)}."] if tasks else []
    on_step("scoring")
    scorer, subgroup_notes = _with_subgroups(model, cohort)
    found = performance(scorer, patients, cohort, n_resamples=n_resamples, seed=seed)
    on_step("comparing with the internal test patients")
    comparison, comparison_notes = _compare(model, patients, found, n_resamples, seed)
    on_step("looking for drift")
    drifted = None if reference is None else drift(model, reference, cohort)
    if reference is None:
        notes.append("No reference.json: how these patients differ from those trained on was not looked at.")
    return External(
        name=name,
        flow=outcome_flow(model, patients, list(cohort.modalities)),
        performance=found,
        calibration=calibration_table(model, patients),
        comparison=comparison,
        drift=drifted,
        coverage=None if model.trained.conformal_scores is None else coverage(model, patients, LEVEL),
        provenance=_provenance(model, other, cohort, seed),
        notes=[*notes, *subgroup_notes, *comparison_notes],
    )


def _prepared(model: MultiModN, cohort: Cohort) -> tuple[PatientTensors, list[str]]:
    """Prepares the patients; what is worth knowing about their data becomes notes, so that the page has it too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        patients = model.prepare(cohort, labelled=True)
    notes = [str(one.message) for one in caught if issubclass(one.category, DataWarning)]
    for one in caught:
        if not issubclass(one.category, DataWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return patients, notes


def _check_names(model: MultiModN, other: Study) -> None:
    steps, tasks = list(model.study.steps), {task.name: task for task in model.study.tasks}
    unknown = [name for name in other.steps if name not in steps]
    problems = [f"modality '{name}' is unknown to the model.{did_you_mean(name, steps)}" for name in unknown]
    for task in other.tasks:
        known = tasks.get(task.name)
        if known is None:
            problems.append(f"task '{task.name}' is unknown to the model.{did_you_mean(task.name, tasks)}")
        elif (task.kind, task.target_columns) != (known.kind, known.target_columns):
            problems.append(
                f"task '{task.name}' is {task.kind} of {shown(task.target_columns)}, the model predicts {known.kind} "
                f"of {shown(known.target_columns)}. Rename columns with a query: SELECT x AS {known.target_columns[0]}."
            )
        else:
            problems += _other_positives(task, known)
    raise_all(problems, StudyError, f"Study '{other.name}' does not fit the model of '{model.study.name}'")


def _other_positives(task: TaskSpec, known: TaskSpec) -> Iterator[str]:
    for key in ("positive", "event_positive"):
        here, there = (getattr(spec.options, key, None) for spec in (task, known))
        if here is not None and there is not None and here != there:
            text = f"task '{task.name}' has `{key}: {here}`, the model `{key}: {there}`. It reads labels as it was"
            yield f"{text} trained: say the same, or recode them with a query."


def _overlap(model: MultiModN, cohort: Cohort, allow_overlap: bool) -> list[str]:
    if model.split is None:
        return ["The model does not know whom it was trained on: that nobody is on both sides was not checked."]
    both = list(cohort.patients[_named_in(model, cohort, [*model.split.train, *model.split.validation])])
    tested = int(_named_in(model, cohort, list(model.split.test)).sum())
    notes = [f"{tested} patient(s) have identifiers of internal test patients."] if tested else []
    if not both:
        return [*notes, "No patient has the identifier of one who was trained on."]
    if not allow_overlap:
        raise DataError(
            f"{len(both)} patient(s) have identifiers of patients who were trained on: {shown(both)}. The same person "
            f"must not be on both sides: remove them, or allow it (--allow-overlap) if these are other people."
        )
    text = f"{len(both)} patient(s) have identifiers of patients who were trained on; they were declared other people."
    return [*notes, text]


def _named_in(model: MultiModN, cohort: Cohort, part: Sequence[str]) -> NDArray[np.bool_]:
    """Says who bears the identifier of a patient of the split, the names of registries before them left aside."""
    here, there = cohort.patients, pd.Index(list(part))
    own_here = here if cohort.registry is None else own_identifiers(here)
    return here.isin(there) | own_here.isin(own_identifiers(there) if model.study.cohorts else there)


def _with_subgroups(model: MultiModN, cohort: Cohort) -> tuple[MultiModN, list[str]]:
    """Returns the model with those subgroups of its study that these patients have columns for."""
    parts = [(name, *name.partition(".")[::2]) for name in model.study.subgroups]
    kept = [name for name, modality, column in parts if column in cohort.modalities.get(modality, ())]
    lacking = [name for name in model.study.subgroups if name not in kept]
    if not lacking:
        return model, []
    scorer = copy.copy(model)
    scorer.study = model.study.model_copy(update={"subgroups": kept})
    return scorer, [f"Subgroups that these patients have no columns for: {', '.join(lacking)}."]


def _compare(
    model: MultiModN, patients: PatientTensors, found: pd.DataFrame, n_resamples: int, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Compares with the internal test patients, or with their kept scores where they cannot be read any more."""
    kept = pd.DataFrame(model.provenance.get("metrics") or [], columns=["task", "metric", "value", "n"])
    try:
        tested = model.test_cohort()
        internal = model.prepare(tested, labelled=True) if len(tested) else None
    except (MultiModNError, OSError):
        note = "The internal test patients cannot be read here: compared with their kept scores, without intervals."
        return compared_with_scores(kept, found), [note]
    if internal is None:
        return compared_with_scores(kept, found), ["The model has no internal test patients to compare with."]
    return comparison_table(model, patients, internal, n_resamples, seed), []


def _provenance(model: MultiModN, other: Study | Cohort, cohort: Cohort, seed: int) -> dict[str, str]:
    own = {
        "model": model.study.name,
        "study of the model, SHA-256": hashlib.sha256(model.study.to_yaml().encode()).hexdigest(),
        "training data": str(model.provenance.get("data_hash", "unknown")),
        "split": str(model.provenance.get("split_hash", "unknown")),
        "other data": cohort.hash(),
        "seed": str(seed),
    }
    if isinstance(other, Study):
        own["other study, SHA-256"] = hashlib.sha256(other.to_yaml().encode()).hexdigest()
    return own | {f"version of {name}": text for name, text in versions().items()}
