"""Single patients of a report: their steps, contributions to their predictions, what to measure next."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.acquisition import next_chart
from multimodn.figures.attributions import attribution_bars
from multimodn.figures.trajectory import trajectory_lines
from multimodn.figures.waterfall import waterfall
from multimodn.figures.wording import slug
from multimodn.findings.names import output_words, survival_time
from multimodn.findings.numbers import counted, joined, percent
from multimodn.report.content import ChosenPatient, ReportContent
from multimodn.report.html.page import Block, DataTable, FactList, Photo, Prose, Section, Subsection
from multimodn.report.sections.sets import set_words
from multimodn.report.sections.words import drawn

HIDDEN = (
    "Identifiers are not shown: single patients have letters, all others random numbers. The values of their columns "
    "are shown and may identify someone: treat this page as patient data. The options --patient and --patients-by-name "
    "of the command write identifiers."
)
NAMED = "Patients are shown under their identifiers. Treat this page as patient data."
MAP = (
    "Attention on slide {number}. The colour of a tile is its attention times the number of the patient's tiles: 1 is "
    "uniform attention. n = 1 patient; there is no interval. Attention shows where the model looked, not what it "
    "concluded."
)
SETS = (
    "Beside each prediction is its conformal prediction set. Its coverage is guaranteed for the share of patients, not "
    "for one of them, under the conditions of the section on calibration."
)


def patients_section(content: ReportContent) -> Section:
    """Shows each of the chosen patients."""
    title = "Single patients"
    if not content.patients:
        return Section("patients", title, [Prose(content.why_not("patient_trajectory"), "absent")])
    is_named = content.is_by_name or content.rule.startswith("They were asked")
    task, n = content.main_task.name, counted(len(content.patients), "patient")
    about = Prose(f"{n}. {content.rule} Figures show {task}; tables show all tasks.")
    blocks: list[Block] = [Prose(NAMED if is_named else HIDDEN), about]
    if "patient_maps" in content.lacking:
        blocks.append(Prose(f"Slides were given, but not drawn. {content.lacking['patient_maps']}", "absent"))
    absent = Prose(content.lacking.get("patient_sets", "There are no conformal prediction sets."), "absent")
    blocks.append(absent if content.get("patient_sets") is None else Prose(SETS))
    blocks += [_patient(content, one, task) for one in content.patients]
    return Section("patients", title, blocks)


def _patient(content: ReportContent, one: ChosenPatient, task: str) -> Subsection:
    facts = [("Has", joined(one.has, 40) or "nothing"), ("Lacks", joined(one.lacks, 40) or "nothing")]
    blocks: list[Block] = [FactList([*facts, *([("Part of the split", one.part)] if one.part else [])])]
    if one.part in ("train", "validation"):
        blocks.append(Prose(f"This is a {one.part} patient: the model has seen the outcome.", "caution"))
    outputs = content.get("patient_outputs")
    if outputs is not None and one.label in outputs.index:
        blocks.append(DataTable("Predictions for this patient.", _outputs(content, outputs.loc[[one.label]])))
    steps, shares = content.get("patient_trajectory"), content.get("patient_contributions")
    if steps is not None:
        blocks.append(drawn(trajectory_lines, steps, task, patient=one.label))
    if shares is not None and one.output:
        blocks.append(drawn(waterfall, shares, task, one.output, patient=one.label))
    else:
        blocks.append(Prose("This patient has no modality: every prediction is the prior.", "absent"))
    inside, following = content.get("patient_attributions"), content.get("patient_next")
    if one.modality and inside is not None and one.label in inside.index:
        blocks.append(drawn(attribution_bars, inside, task, one.output, modality=one.modality, patient=one.label))
    elif one.modality:
        blocks.append(Prose(content.why_not("patient_attributions"), "absent"))
    if following is not None and one.label in following.index:
        blocks.append(drawn(next_chart, following, task, patient=one.label))
    blocks += _maps(content, one)
    return Subsection(slug("patient", one.label), f"Patient {one.label}: {one.why}", blocks)


def _outputs(content: ReportContent, rows: pd.DataFrame) -> pd.DataFrame:
    """Words a patient's predictions, one task a row."""
    scales = {task.name: task.scale for task in content.tasks}
    words = []
    for task, output, before, now in zip(rows["task"], rows["output"], rows["before"], rows["prediction"], strict=True):
        is_share = scales[task] == "log-odds" or survival_time(output) is not None
        shown = [1 - float(value) if survival_time(output) is not None else float(value) for value in (before, now)]
        numbers = [percent(value) if is_share else f"{value:.3g}" for value in shown]
        is_class = output not in ("probability", "mean", "risk") and survival_time(output) is None
        words.append((task, f"most likely: {output}" if is_class else output_words(output), *numbers))
    table = pd.DataFrame(words, columns=["task", "what", "before any modality", "now"])
    sets = content.get("patient_sets")
    if sets is not None:
        own = sets[sets.index == rows.index[0]]
        facts = {task.name: task for task in content.tasks}
        level = percent(float(sets["level"].iloc[0]))
        table[f"{level} set"] = [set_words(own[own["task"] == task], facts[task]) for task in rows["task"]]
    table["largest contribution"] = rows["moved_by"].to_numpy()
    return table if (rows["observed"] == "").all() else table.assign(observed=rows["observed"].to_numpy())


def _maps(content: ReportContent, one: ChosenPatient) -> list[Block]:
    return [
        Photo(
            slug("attention", one.label, each.number),
            f"Attention on slide {each.number} of patient {one.label}",
            MAP.format(number=each.number),
            f"Heat map of attention on slide {each.number} of patient {one.label}.",
            each.png,
        )
        for each in content.maps
        if each.label == one.label
    ]
