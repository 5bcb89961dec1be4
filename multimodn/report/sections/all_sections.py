"""A report from findings: its sections in order, its title and facts."""

from __future__ import annotations

from multimodn.findings import sentences
from multimodn.findings.numbers import joined
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Page
from multimodn.report.sections.appendix import appendix_section, training_section
from multimodn.report.sections.baselines import baselines_section
from multimodn.report.sections.brief import brief_section
from multimodn.report.sections.calibration import calibration_section
from multimodn.report.sections.cohort import cohort_section
from multimodn.report.sections.explain import contributions_section, steps_section, together_section, value_section
from multimodn.report.sections.patients import patients_section
from multimodn.report.sections.performance import performance_section
from multimodn.report.sections.tasks import tasks_section

FOOTER = (
    f"{sentences.RESEARCH_TOOL} Nothing on this page is advice for the treatment of a patient. The page needs no other "
    "file and no network."
)


def page_of(content: ReportContent, written: str) -> Page:
    """Words and draws findings; ``written`` is the date of the report."""
    run, n_modalities = content.run, len(content.modalities)
    names = [task.name for task in content.tasks]
    after = "one modality" if n_modalities == 1 else f"each of up to {n_modalities} modalities"
    by = [f"{name} {run.versions[name]}" for name in ("multimodn", "torch", "python") if name in run.versions]
    facts = [
        ("Patients", f"{len(content.presence):,}, of whom {content.n_shown:,} {content.who} are reported on here"),
        ("Trained", f"{run.trained}, {run.n_members} member{'s' if run.n_members > 1 else ''}, seed {run.seed}"),
        ("Report", written),
        ("Versions", ", ".join(by) or "unknown"),
    ]
    makers = [
        brief_section, cohort_section, performance_section, calibration_section, baselines_section,
        *([tasks_section] if len(names) > 1 else []), steps_section, contributions_section, together_section,
        value_section, patients_section, training_section, appendix_section,
    ]  # fmt: skip
    sections = [make(content) for make in makers]
    return Page(run.name, f"Predicts {joined(names)} after {after}.", facts, sections, FOOTER)
