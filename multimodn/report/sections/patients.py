"""Single patients of a report: their steps, what moved their predictions, what to measure next."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.acquisition import next_chart
from multimodn.figures.attributions import attribution_bars
from multimodn.figures.trajectory import trajectory_lines
from multimodn.figures.waterfall import waterfall
from multimodn.figures.wording import slug
from multimodn.findings.numbers import counted, joined, percent
from multimodn.report.findings import ChosenPatient, Findings
from multimodn.report.html.page import Block, Facts, Numbers, Part, Photo, Prose, Section
from multimodn.report.sections.sets import set_words
from multimodn.report.sections.words import drawn

HIDDEN = (
    "Identifiers are not shown: patients who are shown alone have letters, all others numbers in random order. What "
    "their columns hold is shown, and may be enough to recognise someone: treat this page as patient data. The "
    "options --patient and --patients-by-name of the command write identifiers."
)
NAMED = "Patients are shown under their identifiers. Treat this page as patient data."
MAP = (
    "Where the model looked on slide {number}. The colour of a tile is its attention times the number of the patient's "
    "tiles: 1 is what each would have if the model looked everywhere alike. n = 1 patient; there is no interval. "
    "Attention tells where the model looked, not what it concluded."
)

SETS = (
    "Beside each prediction stands the set that is to hold the truth. The promise is about the share of patients, not "
    "about one of them, and holds under the conditions that the section on calibration names."
)


def _no_sets(found: Findings) -> str:
    return found.lacking.get("patient_sets", "No sets that are to hold the truth are shown: there are none.")


def patients_section(found: Findings) -> Section:
    """Shows each of the chosen patients."""
    title = "Single patients"
    if not found.patients:
        return Section("patients", title, [Prose(found.why_not("patient_trajectory"), "absent")])
    is_named = found.is_by_name or found.rule.startswith("They were asked")
    task = found.main_task.name
    about = f"Figures are about {task}; the tables have all tasks."
    blocks: list[Block] = [
        Prose(NAMED if is_named else HIDDEN),
        Prose(f"{counted(len(found.patients), 'patient')}. {found.rule} {about}"),
    ]
    if "patient_maps" in found.lacking:
        blocks.append(Prose(f"Slides were given, and not drawn. {found.lacking['patient_maps']}", "absent"))
    blocks.append(Prose(SETS) if found.get("patient_sets") is not None else Prose(_no_sets(found), "absent"))
    blocks += [_patient(found, one, task) for one in found.patients]
    return Section("patients", title, blocks)


def _patient(found: Findings, one: ChosenPatient, task: str) -> Part:
    blocks: list[Block] = [Facts(_facts(one))]
    if one.part in ("train", "validation"):
        blocks.append(Prose(f"This patient is a {one.part} patient: the model has seen the outcome.", "caution"))
    outputs = found.get("patient_outputs")
    if outputs is not None and one.label in outputs.index:
        blocks.append(Numbers("What is predicted of this patient.", _outputs(found, outputs.loc[[one.label]])))
    steps, shares = found.get("patient_trajectory"), found.get("patient_contributions")
    if steps is not None:
        blocks.append(drawn(trajectory_lines, steps, task, patient=one.label))
    if shares is not None and one.output:
        blocks.append(drawn(waterfall, shares, task, one.output, patient=one.label))
    else:
        blocks.append(Prose("This patient has none of the modalities: every prediction is the prior.", "absent"))
    blocks += _inside(found, one, task) + _following(found, one, task) + _maps(found, one)
    return Part(slug("patient", one.label), f"Patient {one.label}: {one.why}", blocks)


def _outputs(found: Findings, rows: pd.DataFrame) -> pd.DataFrame:
    """Words a patient's predictions, one task a row."""
    scales = {task.name: task.scale for task in found.tasks}
    words = []
    for task, output, before, now in zip(rows["task"], rows["output"], rows["before"], rows["prediction"], strict=True):
        is_share = scales[task] == "log-odds" or output.startswith("survival@")
        numbers = [percent(float(value)) if is_share else f"{value:.3g}" for value in (before, now)]
        words.append((task, _quantity(output), *numbers))
    table = pd.DataFrame(words, columns=["task", "what", "before any modality", "now"])
    sets = found.get("patient_sets")
    if sets is not None:
        own = sets[sets.index == rows.index[0]]
        facts = {task.name: task for task in found.tasks}
        level = percent(float(sets["level"].iloc[0]))
        table[f"{level} set"] = [set_words(own[own["task"] == task], facts[task]) for task in rows["task"]]
    table["moved most by"] = rows["moved_by"].to_numpy()
    return table if (rows["observed"] == "").all() else table.assign(observed=rows["observed"].to_numpy())


def _quantity(output: str) -> str:
    if output.startswith("survival@"):
        return f"no event up to {output.partition('@')[2]}"
    return output if output in ("probability", "mean", "risk") else f"likeliest: {output}"


def _facts(one: ChosenPatient) -> list[tuple[str, str]]:
    facts = [("Has", joined(one.has, 40) or "nothing"), ("Lacks", joined(one.lacks, 40) or "nothing")]
    return [*facts, ("Part of the split", one.part)] if one.part else facts


def _inside(found: Findings, one: ChosenPatient, task: str) -> list[Block]:
    inside = found.get("patient_attributions")
    if not one.modality:
        return []
    if inside is None or one.label not in inside.index:
        return [Prose(found.why_not("patient_attributions"), "absent")]
    return [drawn(attribution_bars, inside, task, one.output, modality=one.modality, patient=one.label)]


def _following(found: Findings, one: ChosenPatient, task: str) -> list[Block]:
    following = found.get("patient_next")
    if following is None or one.label not in following.index:
        return []
    return [drawn(next_chart, following, task, patient=one.label)]


def _maps(found: Findings, one: ChosenPatient) -> list[Block]:
    return [
        Photo(
            slug("attention", one.label, each.number),
            f"Where the model looked, patient {one.label}, slide {each.number}",
            MAP.format(number=each.number),
            f"Heat map of attention on slide {each.number} of patient {one.label}.",
            each.png,
        )
        for each in found.maps
        if each.label == one.label
    ]
