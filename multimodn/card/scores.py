"""What is measured on the test patients, and what the audit of missingness found."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from multimodn.audit.audit import audit
from multimodn.audit.findings import Audit
from multimodn.base.batches import PatientTensors
from multimodn.card.facts import CardFacts
from multimodn.card.sample_size import cox_snell
from multimodn.errors import DataError, DataWarning
from multimodn.evaluate.performance.conformal_coverage import coverage
from multimodn.evaluate.performance.performance import calibration_summary, performance
from multimodn.explain.summary import summarise
from multimodn.findings.findings import Findings, findings_of, main_rows
from multimodn.findings.frames import PerformanceFrame
from multimodn.findings.numbers import FEWEST

MOST_EXPLAINED = 200  # test patients whose contributions are computed
N_PAIRS = 8  # sampled orders, each with its reverse, where there are too many modalities for exact contributions
LEVEL = 0.9  # coverage level of the conformal prediction sets that are checked
FEWEST_R2 = 50  # test patients below whom the predictions' R2 is too uncertain to plan a study with


@dataclass(frozen=True, eq=False)
class CardScores:
    """Numbers about the predictions of test patients; frames are empty without them."""

    performance: PerformanceFrame
    calibration: pd.DataFrame  # of `calibration_summary`
    summary: pd.DataFrame  # of `multimodn.explain.summary.summarise`
    n_explained: int  # test patients behind it
    scales: dict[str, str]  # the link scale of each task
    coverage: pd.DataFrame  # empty without conformal sets
    r2: dict[str, float]  # Cox-Snell R2 of binary tasks with enough test patients
    audit: Audit | None  # what missingness says about outcomes; None where it could not be asked
    subgroups_failed: bool  # whether the columns of the study's subgroups could not be read

    @property
    def main(self) -> pd.DataFrame:
        """The row of each task's main metric over all test patients who have a label."""
        return self.of("overall")

    def of(self, by: str) -> pd.DataFrame:
        """The rows of each task's main metric for one way to group test patients."""
        return self.performance if self.performance.empty else main_rows(self.performance, by)

    def findings(self, baselines: pd.DataFrame | None = None) -> Findings:
        """What the card's sentences are about: rows of `FEWEST` or more patients."""
        frames = (self.performance, self.calibration, self.coverage, baselines, self.summary)
        return findings_of(*(one if one is None or one.empty else one[one["n"] >= FEWEST] for one in frames))


def read_scores(facts: CardFacts, n_resamples: int, seed: int) -> CardScores:
    """Scores the test patients, if there are `FEWEST` or more of them."""
    import scipy.optimize  # noqa: F401 - threads can be limited only of what is loaded
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):  # small fits, which threads only slow down
        warnings.simplefilter("ignore", DataWarning)  # told when the patients were trained on
        try:
            audited = audit(facts.model.study, facts.cohort, facts.model.split)
        except DataError:
            audited = None
        if facts.n_test < FEWEST:
            nothing = pd.DataFrame()
            return CardScores(PerformanceFrame(), nothing, nothing, 0, {}, nothing, {}, audited, False)
        return _scored(facts, audited, n_resamples, seed)


def _scored(facts: CardFacts, audited: Audit | None, n_resamples: int, seed: int) -> CardScores:
    model = facts.model
    patients = model.prepare(facts.cohort.subset(facts.test), labelled=True)
    failed = False
    try:
        found = performance(model, patients, facts.cohort, n_resamples=n_resamples, seed=seed)
    except DataError:  # a subgroup's column that is not there or has several rows
        failed, found = True, performance(model, patients, n_resamples=n_resamples, seed=seed)
    some = patients
    if len(patients) > MOST_EXPLAINED:
        drawn = np.random.default_rng(seed).permutation(len(patients))[:MOST_EXPLAINED]
        some = patients.subset(torch.from_numpy(np.sort(drawn)))
    shares = model.contributions(some, n_pairs=N_PAIRS, seed=seed)
    return CardScores(
        found,
        calibration_summary(model, patients),
        summarise(shares, n_resamples=n_resamples, seed=seed),
        len(some.patients),
        {name: one.task.link_scale for name, one in facts.tasks.items()},
        pd.DataFrame() if model.trained.conformal_scores is None else coverage(model, patients, LEVEL),
        _r2(facts, patients),
        audited,
        failed,
    )


def _r2(facts: CardFacts, patients: PatientTensors) -> dict[str, float]:
    links, r2 = facts.model.link(patients), {}
    for name, one in facts.tasks.items():
        rows = facts.test & one.known
        if is_binary(facts, name) and rows.sum() >= FEWEST_R2 and one.rarest(rows) >= 2 * FEWEST:
            log_odds = links[name][:, 0].double().numpy()[one.known[facts.test]]
            r2[name] = cox_snell(log_odds, one.truth[rows, 0] > 0)
    return r2


def is_binary(facts: CardFacts, task: str) -> bool:
    """Says whether a task tells two classes apart."""
    one = facts.tasks[task]
    return one.task.link_scale == "log-odds" and len(one.task.link_names) == 1 and one.task.n_strata == 2
