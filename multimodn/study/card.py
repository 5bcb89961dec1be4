"""Information about a study for its model card that is not in the data. Import it from `study.study`."""

from __future__ import annotations

from pydantic import Field

from multimodn.study.yaml_file import Spec


class CardSpec(Spec):
    """Information for the model card that is not in the data; missing items are reported as not provided.

    Attributes:
        background: The clinical question, whether it is diagnosis or prognosis, and models that exist already.
        intended_use: Purpose of the predictions, the point of care, and the decisions that follow.
        intended_users: Who uses them.
        out_of_scope: Uses that are excluded.
        inequalities: Known differences in health or care between groups of such patients.
        setting: Centres, countries, level of care.
        eligibility: Inclusion and exclusion criteria.
        dates: Dates of inclusion and end of follow-up.
        outcomes: For each task how, when and by whom the outcome was assessed.
        predictors: For each modality how and when it was measured.
        treatment: Treatments that patients received.
        sample_size: Justification of the sample size.
        ethics: Ethical approval and consent.
        funding: Sources of funding.
        conflicts: Conflicts of interest.
        registration: Protocol and registration.
        data_availability: Availability of data and code.
        patient_involvement: Involvement of patients and the public.
        limitations: Limitations beside those that the package finds.
        contact: Person to contact.
        license: Licence of the model.
    """

    background: str | None = None
    intended_use: str | None = None
    intended_users: str | None = None
    out_of_scope: str | None = None
    inequalities: str | None = None
    setting: str | None = None
    eligibility: str | None = None
    dates: str | None = None
    outcomes: dict[str, str] = Field(default_factory=dict)
    predictors: dict[str, str] = Field(default_factory=dict)
    treatment: str | None = None
    sample_size: str | None = None
    ethics: str | None = None
    funding: str | None = None
    conflicts: str | None = None
    registration: str | None = None
    data_availability: str | None = None
    patient_involvement: str | None = None
    limitations: list[str] = Field(default_factory=list)
    contact: str | None = None
    license: str | None = None
