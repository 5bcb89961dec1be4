"""A report from findings: its sections in order, its title and facts."""

from __future__ import annotations

from multimodn.findings.numbers import joined
from multimodn.report.findings import Findings
from multimodn.report.html.page import Page
from multimodn.report.sections.appendix import appendix_section, training_section
from multimodn.report.sections.baselines import baselines_section
from multimodn.report.sections.brief import brief_section
from multimodn.report.sections.calibration import calibration_section
from multimodn.report.sections.cohort import cohort_section
from multimodn.report.sections.explain import (
    contributions_section,
    steps_section,
    together_section,
    value_section,
)
from multimodn.report.sections.patients import patients_section
from multimodn.report.sections.performance import performance_section
from multimodn.report.sections.tasks import tasks_section

FOOTER = (
    "Written by multimodn, a research tool and no medical device: nothing on this page is advice for the treatment of "
    "a patient. The page holds everything that it shows and asks nothing of the network."
)


def page_of(found: Findings, written: str) -> Page:
    """Words and draws findings.

    Args:
        found: What is told.
        written: Date of the report.
    """
    run, n_modalities = found.run, len(found.modalities)
    names = [task.name for task in found.tasks]
    after = "one modality" if n_modalities == 1 else f"each of up to {n_modalities} modalities"
    by = [f"{name} {run.versions[name]}" for name in ("multimodn", "torch", "python") if name in run.versions]
    facts = [
        ("Patients", f"{len(found.presence):,}, of whom {found.n_shown:,} {found.who} are looked at here"),
        ("Trained", f"{run.trained}, {run.n_members} member{'s' if run.n_members > 1 else ''}, seed {run.seed}"),
        ("Report", written),
        ("Versions", ", ".join(by) or "unknown"),
    ]
    sections = [
        brief_section(found),
        cohort_section(found),
        performance_section(found),
        calibration_section(found),
        baselines_section(found),
        *([tasks_section(found)] if len(found.tasks) > 1 else []),
        steps_section(found),
        contributions_section(found),
        together_section(found),
        value_section(found),
        patients_section(found),
        training_section(found),
        appendix_section(found),
    ]
    return Page(run.name, f"Predicts {joined(names)} after {after}.", facts, sections, FOOTER)
