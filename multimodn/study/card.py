"""What only people know of a study, for its model card and reporting checklists. Import it from `study.study`."""

from __future__ import annotations

from pydantic import Field

from multimodn.study.yaml_file import Spec


class CardSpec(Spec):
    """What the data cannot tell, in the user's words; what is left out is said to be not provided.

    Attributes:
        background: The clinical question, whether it is diagnosis or prognosis, and models that exist already.
        intended_use: What the predictions are for, at which moment of care, and what follows from them.
        intended_users: Who reads them.
        out_of_scope: What the model must not be used for.
        inequalities: Known differences in health or care between groups of such patients.
        setting: Where the patients come from: centres, countries, level of care.
        eligibility: Who was included and who was not.
        dates: From when to when patients were included, and the end of follow-up.
        outcomes: For each task how, when and by whom the outcome was assessed.
        predictors: For each modality how and when it was measured.
        treatment: Treatments that patients received.
        sample_size: Why there are so many patients.
        ethics: Approval and consent.
        funding: Who paid.
        conflicts: Interests of the authors.
        registration: Protocol and register.
        data_availability: Where data and code can be had.
        patient_involvement: How patients took part.
        limitations: What its users must know, beside what the package finds.
        contact: Whom to ask.
        license: Under which the model may be used.
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
