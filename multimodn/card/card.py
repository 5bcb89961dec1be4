"""Writes MODEL_CARD.md and CHECKLIST.md of a trained model.

References:
    Mitchell et al. (2019), Model cards for model reporting, https://doi.org/10.1145/3287560.3287596
    Collins et al. (2024), TRIPOD+AI statement, https://doi.org/10.1136/bmj-2023-078378
    Moons et al. (2025), PROBAST+AI, https://doi.org/10.1136/bmj-2024-082505
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from multimodn.card.checklist import probast, tripod
from multimodn.card.facts import CardFacts, read_facts
from multimodn.card.limitations import limitations, limitations_section
from multimodn.card.scores import CardScores, read_scores
from multimodn.card.sections.data import missing_section, outcomes_section, predictors_section, sample_size_section
from multimodn.card.sections.model import brief, model_section, use_section
from multimodn.card.sections.patients import characteristics_section, ethics_section, flow_section
from multimodn.card.sections.scores import (
    baselines_section,
    calibration_section,
    contributions_section,
    performance_section,
    sets_section,
)
from multimodn.card.wording import missing
from multimodn.data.cohort import Cohort
from multimodn.files import make_folder, write_text
from multimodn.findings.findings import Findings
from multimodn.findings.markdown import code, escaped, heading, prose, table
from multimodn.findings.sentences import comparison
from multimodn.model.multimodn import MultiModN

CARD, CHECKLIST = "MODEL_CARD.md", "CHECKLIST.md"
MOST_CAUTIONS = 4  # limitations that are repeated at the top


def write_card(
    model: MultiModN,
    cohort: Cohort,
    folder: Path,
    *,
    baselines: pd.DataFrame | None = None,
    sentences: Sequence[str] | None = None,
    n_resamples: int = 500,
    seed: int = 0,
) -> list[Path]:
    """Writes the model card and the filled reporting checklists of a trained model.

    No patient is named; groups of 1 to 4 patients are not counted exactly. What only people know is read from the
    study's `card`, or marked as not provided.

    Args:
        model: A trained model.
        cohort: All patients of its split, with labels.
        folder: Where the two files go, such as the run folder; files of these names are replaced.
        baselines: What `multimodn.evaluate.baselines.compare.compare_with_baselines` returned; None: not compared.
        sentences: The comparison in words; default: `multimodn.findings.sentences.comparison` of each task.
        n_resamples: Bootstrap resamples of test patients behind intervals.
        seed: Of whatever is drawn at random.

    Returns:
        The paths of ``MODEL_CARD.md`` and ``CHECKLIST.md``.

    Raises:
        NotFittedError: Before training.
        DataError: If the cohort lacks targets, modalities or patients of the split.
    """
    facts = read_facts(model, cohort)
    scores = read_scores(facts, n_resamples, seed)
    findings = scores.findings(baselines)
    texts = sentences if sentences is not None else [comparison(one) for one in findings.comparisons]
    card = _card(facts, scores, findings, texts)
    checklist = _checklist(facts, scores, has_baselines=bool(findings.comparisons))
    make_folder(folder)
    write_text(folder / CARD, card)
    write_text(folder / CHECKLIST, checklist)
    return [folder / CARD, folder / CHECKLIST]


def _card(facts: CardFacts, scores: CardScores, found: Findings, comparisons: Sequence[str]) -> str:
    limits = limitations(facts, scores, found)
    lines = [
        *heading(f"Model card: {facts.model.study.name}", 1),
        *prose(
            "Written by the package from the study, the data and the trained model. Every number is counted or "
            "measured on the patients that its section states. What only people know is in their words, or marked "
            f"{missing('...')} with the key of the study file that would fill it."
        ),
        *brief(facts, scores, limits[:MOST_CAUTIONS]),
        *model_section(facts),
        *use_section(facts),
        *flow_section(facts),
        *characteristics_section(facts),
        *predictors_section(facts),
        *outcomes_section(facts),
        *missing_section(facts, scores),
        *sample_size_section(facts, scores),
        *performance_section(facts, scores),
        *calibration_section(facts, scores, found),
        *contributions_section(facts, scores, found),
        *sets_section(facts, scores, found),
        *baselines_section(found, comparisons),
        *limitations_section(facts, limits),
        *ethics_section(facts),
        *_reproduce(facts),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _reproduce(facts: CardFacts) -> list[str]:
    provenance = facts.model.provenance
    hashes = {"study file": hashlib.sha256(facts.model.study.to_yaml().encode()).hexdigest()}
    hashes |= {name: str(provenance.get(f"{name}_hash", "not recorded")) for name in ("data", "split")}
    return [
        *heading("16. Reproducibility"),
        "```bash",
        "multimodn fit study.yaml --run again   # the study.yaml of the run folder, beside its sources",
        "multimodn evaluate again               # scores of the test patients",
        "multimodn audit study.yaml             # whether missingness depends on the outcomes",
        "multimodn report again                 # everything, with figures",
        "```",
        "",
        *prose("The same study has the same seed and versions (section 1) and these hashes (SHA-256):"),
        *table(["Of", "Hash"], [(name, code(value)) for name, value in hashes.items()], 2),
        *prose(
            "The form follows Mitchell et al. 2019 (<https://doi.org/10.1145/3287560.3287596>); "
            f"{escaped(CHECKLIST)} covers TRIPOD+AI and PROBAST+AI."
        ),
    ]


def _checklist(facts: CardFacts, scores: CardScores, *, has_baselines: bool) -> str:
    lines = [
        *heading(f"Reporting checklists: {facts.model.study.name}", 1),
        *prose(
            "A draft for authors and reviewers, filled with what the package knows. The wording is ours; the numbering "
            f"is that of the statements, whose own words count. Sections are those of {code(CARD)}."
        ),
        "- TRIPOD+AI: Collins et al. 2024, <https://doi.org/10.1136/bmj-2023-078378>",
        "- PROBAST+AI: Moons et al. 2025, <https://doi.org/10.1136/bmj-2024-082505>",
        "",
        *tripod(facts, scores, has_baselines),
        *probast(facts, scores),
    ]
    return "\n".join(lines).rstrip() + "\n"
