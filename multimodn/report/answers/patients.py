"""Asks a model about single patients: steps, contributions, what to measure next, what counts inside a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.data.splits import PARTS
from multimodn.errors import MultiModNError, StudyError
from multimodn.findings.names import lower_class, main_survival
from multimodn.model.multimodn import MultiModN
from multimodn.model.results import AttributionFrame
from multimodn.report.answers.choose_patients import last_values
from multimodn.report.answers.collector import PatientAnswers
from multimodn.report.answers.comparisons import LEVEL, NO_SETS
from multimodn.report.content import ChosenPatient

MOST_PATIENTS = 12
TABLES = ("table", "embedding")  # kinds whose columns are attributed to


def check_wanted(cohort: Cohort, patients: Sequence[str]) -> None:
    """Refuses more than `MOST_PATIENTS` patients (StudyError), and unknown ones or one named twice (DataError)."""
    if len(patients) > MOST_PATIENTS:
        text = f"{len(patients)} patients are to be shown one by one; a page has room for {MOST_PATIENTS}."
        raise StudyError(f"{text} Write several reports, or use multimodn explain.")
    if patients:
        cohort.subset([str(patient) for patient in patients])


def ask_about_patients(model: MultiModN, cohort: Cohort, why: Mapping[str, str]) -> PatientAnswers:
    """Asks about each of some patients; ``why`` says of each why it is shown."""
    few = cohort.subset(list(why))
    patients, task = model.prepare(few), model.study.tasks[0].name
    found = PatientAnswers()
    found.frames["patient_trajectory"] = steps = model.trajectory(patients)
    found.frames["patient_contributions"] = shares = model.contributions(patients)
    found.frames["patient_outputs"] = _outputs(model, few, steps, shares)
    presence = few.presence
    parts = {} if model.split is None else {part: set(getattr(model.split, part)) for part in PARTS}
    for patient, reason in why.items():
        output = _output(shares, patient, task)
        has = tuple(name for name in model.order if name in presence and presence.loc[patient, name])
        lacks = tuple(name for name in model.order if name not in has)
        modality = _largest_table(model, shares, patient, task, output)
        part = next((name for name, members in parts.items() if patient in members), "")
        found.about[patient] = ChosenPatient(patient, reason, part, has, lacks, output, modality)
    if model.trained.acquisition is None:
        found.lacking["patient_next"] = "The model was not trained to rank the next modality to measure."
    else:
        found.frames["patient_next"] = model.explain.next(patients)
    if model.trained.conformal_scores is None:
        found.lacking["patient_sets"] = NO_SETS
    else:
        found.frames["patient_sets"] = model.conformal.predict(patients, level=LEVEL)
    _attribute(model, few, found, task)
    return found


def _output(shares: pd.DataFrame, patient: str, task: str) -> str:
    """The link-scale column that is explained: the one predicted highest, the middle split of ordinal tasks."""
    rows = shares[(shares.index == patient) & (shares["task"] == task)].drop_duplicates("output")
    names = [str(name) for name in rows["output"]]
    if all(lower_class(name) is not None for name in names):
        return names[len(names) // 2] if names else ""
    return names[int(np.argmax(rows["prediction"].to_numpy()))]


def _largest_table(model: MultiModN, shares: pd.DataFrame, patient: str, task: str, output: str) -> str:
    """The table that contributes most to a patient's prediction."""
    steps = model.study.steps
    rows = shares[(shares.index == patient) & (shares["task"] == task) & (shares["output"] == output)]
    rows = rows[[steps[name].kind in TABLES for name in rows["modality"]]]
    return str(rows["modality"].iloc[int(rows["contribution"].abs().argmax())]) if len(rows) else ""


def _outputs(model: MultiModN, few: Cohort, steps: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """One prediction a task, before any modality and now, what moved it most, and what was observed."""
    last = last_values(steps).reset_index()
    before = steps[steps["step"] == 0].reset_index()
    keys = [str(steps.index.name), "task", "output"]
    found = last[[*keys, "value"]].merge(before[[*keys, "value"]], on=keys, suffixes=("", "_before"))
    found = found.rename(columns={"value": "prediction", "value_before": "before"})
    scales = {name: task.link_scale for name, task in model.trained.tasks.items()}
    kept = [_telling(part, scales[str(task)]) for (_, task), part in found.groupby(keys[:2], sort=False)]
    found = pd.concat(kept).set_index(keys[0])
    size = shares["contribution"].abs().groupby([shares.index, shares["task"], shares["modality"]], sort=False).mean()
    sizes = size.rename_axis(["patient", "task", "modality"]).reset_index().sort_values("contribution", ascending=False)
    first = sizes.drop_duplicates(["patient", "task"]).set_index(["patient", "task"])["modality"]
    where = pd.MultiIndex.from_arrays([found.index, found["task"]])
    observed = {task: _observed(table) for task, table in few.targets.items()}
    seen = [observed.get(task, {}).get(str(patient), "") for patient, task in where]
    return found.assign(moved_by=first.reindex(where).fillna("").to_numpy(), observed=seen)


def _telling(rows: pd.DataFrame, scale: str) -> pd.DataFrame:
    """The output of a patient and task that tells most: the likeliest class, a middle chance of survival, a mean."""
    if scale == "log-risk":
        chosen = main_survival(rows["output"])
        return rows.head(1) if chosen is None else rows[rows["output"] == chosen]
    if scale == "units":
        return rows.head(1)
    classes = rows[rows["output"] != "expected"]
    return classes.loc[[classes["prediction"].idxmax()]]


def _observed(table: pd.DataFrame) -> dict[str, str]:
    """The target's cells of each patient as text."""
    rows = table.astype(object).where(table.notna(), None)
    named = len(table.columns) > 1
    return {
        str(patient): ", ".join(
            f"{column} {_short(value)}" if named else _short(value)
            for column, value in zip(table.columns, cells, strict=True)
            if value is not None
        )
        for patient, cells in zip(rows.index, rows.to_numpy(), strict=True)
    }


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _attribute(model: MultiModN, few: Cohort, found: PatientAnswers, task: str) -> None:
    """Attributes each patient's prediction to the columns of the table that contributes most."""
    parts = []
    for modality, output in dict.fromkeys((one.modality, one.output) for one in found.about.values() if one.modality):
        who = [name for name, one in found.about.items() if (one.modality, one.output) == (modality, output)]
        try:
            parts.append(model.explain.attributions(modality, few.subset(who), task, output))
        except MultiModNError:
            found.lacking["patient_attributions"] = f"The kind of '{modality}' has no parts to attribute to."
    if parts:
        found.frames["patient_attributions"] = AttributionFrame.of(pd.concat(parts), like=parts[0])
