"""Information about a study for its model card that is not in the data. Import it from `study.study`."""

from __future__ import annotations

from pydantic import Field

from multimodn.study.yaml_file import Spec


class CardSpec(Spec):
    """Information for the model card that is not in the data; missing items are reported as not provided."""

    background: str | None = None  # the clinical question, whether diagnosis or prognosis, and existing models
    intended_use: str | None = None  # purpose of the predictions, point of care, and the decisions that follow
    intended_users: str | None = None  # who uses them
    out_of_scope: str | None = None  # uses that are excluded
    inequalities: str | None = None  # known differences in health or care between groups of such patients
    setting: str | None = None  # centres, countries, level of care
    eligibility: str | None = None  # inclusion and exclusion criteria
    dates: str | None = None  # of inclusion and end of follow-up
    outcomes: dict[str, str] = Field(default_factory=dict)  # for each task how, when and by whom it was assessed
    predictors: dict[str, str] = Field(default_factory=dict)  # for each modality how and when it was measured
    treatment: str | None = None  # treatments that patients received
    sample_size: str | None = None  # its justification
    ethics: str | None = None  # ethical approval and consent
    funding: str | None = None  # sources of funding
    conflicts: str | None = None  # conflicts of interest
    registration: str | None = None  # protocol and registration
    data_availability: str | None = None  # availability of data and code
    patient_involvement: str | None = None  # involvement of patients and the public
    limitations: list[str] = Field(default_factory=list)  # beside those that the package finds
    contact: str | None = None  # person to contact
    license: str | None = None  # licence of the model
