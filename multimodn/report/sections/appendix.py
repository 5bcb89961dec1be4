"""Training curves, and how the numbers of a report were computed."""

from __future__ import annotations

import pandas as pd

from multimodn.explain.contributions import MAX_MODALITIES
from multimodn.figures.value import training_curves
from multimodn.findings import sentences
from multimodn.findings.numbers import joined
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, Code, DataTable, Listing, Prose, Section, Subsection, Terms
from multimodn.report.sections.words import drawn

METHOD = {
    "Model": "Each modality has an encoder that turns a patient's values into an embedding. A patient state, at first "
    "the same for everyone, is updated by one embedding after another; every task predicts from the state after every "
    "step. In training the modalities that a patient has are read in random order, drawn anew each time. Predictions "
    "are the mean of the raw outputs of the members of an ensemble. Beside its network a member may have experts "
    "(ridge models and boosted trees); their evidence is added with weights, see Training.",
    "Contribution": "Of modality m to a patient's prediction: for every set of the patient's other modalities, the "
    "prediction with the set and m, minus the prediction with the set alone, on the link scale; averaged with Shapley "
    f"weights. All sets up to {MAX_MODALITIES} modalities; beyond, pairs of an order and its reverse are sampled, and "
    "a standard error is given.",
    "Interaction and synergy": "Of modalities a and b: the prediction with both, minus with either alone, plus with "
    "neither, averaged over sets of the other modalities as above, so that all interactions and main effects of a "
    "patient add up to prediction minus prior. Synergy is the mean size of all interactions, divided by that plus the "
    "mean size of all main effects.",
    "Order sensitivity": "The standard deviation of a patient's prediction over up to 24 orders.",
    "Value of a modality": "A task's score with it minus without it (for errors the other way round), among labelled "
    "patients who have it, each weighted by one over the probability of having it given outcome and other predictions.",
    "Decision curve": "Net benefit at a threshold: the share of patients with the event who are treated, less the "
    "share without it who are treated times the odds of the threshold.",
    "Conformal prediction sets": "Split conformal prediction by presence pattern: the nonconformity score of an "
    "outcome is compared with the scores of calibration patients, whose other modalities are hidden.",
    "Simple models": "Trained on the training and validation patients of this model, whose inner folds choose their "
    "penalties and settings. Differences are those of paired scores on the test patients; p-values are adjusted by "
    "Holm over all tasks and models.",
    "Conflict of two tasks": "The cosine of the gradients of their losses at the patient states is negative, in a "
    "batch of training patients on random paths.",
    "Attribution": "Within a modality: integrated gradients from an average patient, or Shapley values over sampled "
    "orders where boosted trees have a part. They add up to the difference between the prediction and the prediction "
    "with that average in the modality's place.",
    "Intervals": "All are 95% intervals. Scores, mean contributions, synergy and values: percentiles of a bootstrap "
    "over patients with the model fixed, so that they do not show how much another training would differ. Observed "
    "shares: Wilson; coverage: Clopper and Pearson; means: Student; survival: Greenwood, on the scale of log(-log); "
    "calibration slopes: from standard errors. No interval is adjusted for multiple comparisons.",
}
LIMITS = (
    "Missingness for reasons that are not in the data cannot be seen in any data.",
    "Contributions, attention and attributions describe the model. They are no evidence that a measurement causes or "
    "would change an outcome.",
    "Scores hold for patients like these. Another hospital, time or way of measuring can change them.",
    sentences.RESEARCH_TOOL,
)
REFERENCES = {
    "Swamy et al. (2023), MultiModN: sequential fusion.": "https://arxiv.org/abs/2309.14118",
    "Shapley (1953), as used by Lundberg and Lee (2017): contributions.": "https://arxiv.org/abs/1705.07874",
    "Grabisch and Roubens (1999): interactions.": "https://doi.org/10.1007/s001820050125",
    "Wenderoth et al. (2025), InterSHAP: synergy.": "https://arxiv.org/abs/2412.15828",
    "Gadgil, Covert and Lee (2024), DIME: what to measure next.": "https://arxiv.org/abs/2306.03301",
    "Sundararajan, Taly and Yan (2017): integrated gradients.": "https://arxiv.org/abs/1703.01365",
    "Choi et al. (2025), ICYM2I: the value of a modality where it is missing for a reason.": "https://arxiv.org/abs/2505.16953",
    "Efron and Tibshirani (1993), An introduction to the bootstrap.": "https://doi.org/10.1201/9780429246593",
    "Van Calster et al. (2016): calibration.": "https://doi.org/10.1016/j.jclinepi.2015.12.005",
    "Vickers and Elkin (2006): decision curves.": "https://doi.org/10.1177/0272989X06295361",
    "Zaffran et al. (2023): conformal prediction with missing values.": "https://arxiv.org/abs/2306.02732",
    "Vovk (2015): cross-conformal prediction.": "https://doi.org/10.1007/s10472-013-9368-4",
    "Holm (1979): adjustment for many comparisons.": "https://www.jstor.org/stable/4615733",
    "Yu et al. (2020): conflicts between tasks.": "https://arxiv.org/abs/2001.06782",
    "Lex et al. (2014), UpSet: patterns of sets.": "https://doi.org/10.1109/TVCG.2014.2346248",
}


def training_section(content: ReportContent) -> Section:
    """Draws the loss of each member, and says how much network and experts count."""
    training = content.get("training")
    block = Prose(content.why_not("training"), "absent") if training is None else drawn(training_curves, training)
    experts = Prose(" ".join(sentences.experts(content.run.experts)))
    return Section("training", "Training", [block, experts])


def appendix_section(content: ReportContent) -> Section:
    """Reports the provenance of data and model, the methods, and their limitations."""
    run = content.run
    methods = METHOD | {"Missing data": sentences.MISSINGNESS[run.missingness]}
    about = {"MODEL_CARD.md": "the model card", "CHECKLIST.md": "TRIPOD+AI and PROBAST+AI, filled as far as known"}
    documents = [f"{name} ({about.get(name, 'more')})" for name in run.documents]
    provenance = [
        ("hash of the data (SHA-256)", run.data_hash),
        ("hash of the split (SHA-256)", run.split_hash),
        ("seed", str(run.seed)),
        ("members of the ensemble", str(run.n_members)),
        ("trained with", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]
    data: list[Block] = [
        *([Prose(f"In the run folder of this model: {joined(documents)}.")] if documents else []),
        DataTable("Provenance of the model.", pd.DataFrame(provenance, columns=["what", "value"])),
        DataTable("Sources of the study.", pd.DataFrame(sorted(run.sources.items()), columns=["source", "reads"])),
        Code("The study file, as trained", run.study),
    ]
    blocks = [
        Subsection("method", "Methods", [Terms(list(methods.items()))]),
        Subsection("limits", "Limitations", [Listing(LIMITS)]),
        Subsection("data", "Data and study", data),
        Subsection("references", "References", [Listing(list(REFERENCES), REFERENCES)]),
    ]
    return Section("appendix", "Data and methods", blocks)
