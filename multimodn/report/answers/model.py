"""The questions that a report asks of a model, step by step; see `multimodn.report.answers.collect`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from multimodn.base.batches import PatientTensors
from multimodn.evaluate.performance.decision_curve import decision_curve
from multimodn.evaluate.performance.performance import calibration_curve, calibration_summary, performance
from multimodn.explain.contributions import MAX_MODALITIES
from multimodn.explain.interactions import synergy
from multimodn.explain.summary import summarise
from multimodn.model import tables
from multimodn.model.multimodn import MultiModN
from multimodn.report.answers.choose_patients import RULE, choose_patients
from multimodn.report.answers.collector import Collector
from multimodn.report.answers.comparisons import ask_baselines, ask_conflicts, ask_gains, ask_sets
from multimodn.report.answers.patients import ask_about_patients
from multimodn.report.answers.run import training
from multimodn.report.content import ANSWERS_OF

MOST_EXPLAINED, MOST_PAIRED = 400, 150  # patients whose contributions, and interactions (of all subsets), are computed
MOST_GROUPS = 8  # sites by which contributions are told apart


def ask_performance(asked: Collector) -> None:
    """Scores predictions, and compares them with what happened."""
    if not asked.is_labelled:
        reason = "No outcomes were given for these patients: replace the sources of all tasks, too."
        asked.lacking |= dict.fromkeys(ANSWERS_OF["performance"], reason)
        return
    model, patients, seed, n = asked.model, asked.patients, asked.wishes.seed, asked.wishes.n_resamples
    asked.answers["performance"] = performance(model, patients, asked.cohort, n_resamples=n, seed=seed)
    asked.answers["calibration"] = curve = calibration_curve(model, patients)
    asked.answers["slopes"] = calibration_summary(model, patients)
    asked.answers["calibration_by_pattern"] = calibration_summary(model, patients, by="pattern")
    asked.answers["decision"] = decision_curve(model, patients, n_resamples=n, seed=seed)
    asked.answers["predicted"] = _predicted(model, patients, curve)


def _predicted(model: MultiModN, patients: PatientTensors, curve: pd.DataFrame) -> pd.DataFrame:
    """The predictions of labelled patients that a calibration curve was made of."""
    tasks, links, named = model.trained.tasks, model.link(patients), model.predict(patients)
    parts = []
    for task, output in curve[["task", "output"]].drop_duplicates().itertuples(index=False):
        known = patients.labelled[task].numpy()
        if output in tasks[task].link_names:
            link = links[task][:, tasks[task].link_names.index(output)].double()
            values = (link.sigmoid() if tasks[task].link_scale == "log-odds" else link).numpy()
        else:
            values = named.loc[(named["task"] == task) & (named["output"] == output), "value"].to_numpy()
        parts.append(pd.DataFrame({"task": task, "output": output, "value": values[known]}))
    return pd.concat(parts) if parts else pd.DataFrame(columns=["task", "output", "value"])


def ask_trajectory(asked: Collector) -> None:
    """Predicts after every step."""
    asked.answers["trajectory"] = asked.model.trajectory(asked.patients)


def ask_contributions(asked: Collector) -> None:
    """Shares predictions out among modalities, and sums that up by class and by site."""
    some, seed = asked.some(MOST_EXPLAINED), asked.wishes.seed
    asked.n_explained = len(some.patients)
    asked.answers["contributions"] = shares = asked.model.contributions(some, seed=seed)
    summed = partial(summarise, shares, n_resamples=asked.wishes.n_resamples, seed=seed)
    asked.answers["summary"] = summed(None)
    if asked.is_labelled:
        asked.answers["by_class"] = summed(tables.classes(asked.model.trained.tasks, some))
    sites = asked.cohort.groups
    if sites is None or sites.reindex(some.patients).isna().any() or not 2 <= sites.nunique() <= MOST_GROUPS:
        asked.lacking["by_group"] = "The study names no groups, or too many to compare."
    else:
        asked.answers["by_group"] = summed(sites.astype(str))


def ask_interactions(asked: Collector) -> None:
    """Asks what modalities say only together."""
    n_modalities = len(asked.model.order)
    if n_modalities > MAX_MODALITIES:
        reason = "Interactions need the predictions from every subset of the modalities: this model has "
        reason += f"{n_modalities}, at most {MAX_MODALITIES} can be done."
        asked.lacking |= dict.fromkeys(ANSWERS_OF["interactions"], reason)
        return
    pairs = asked.model.explain.interactions(asked.some(MOST_PAIRED))
    asked.answers["interactions"] = pairs
    asked.answers["synergy"] = synergy(pairs, asked.wishes.n_resamples, asked.wishes.seed)


def ask_orders(asked: Collector) -> None:
    """Predicts in many orders."""
    asked.answers["orders"] = asked.model.explain.order_sensitivity(asked.some(MOST_EXPLAINED), seed=asked.wishes.seed)


def ask_value(asked: Collector) -> None:
    """Scores predictions with and without each modality."""
    if not asked.is_labelled:
        asked.lacking["value"] = "The value of a modality needs outcomes, and none were given for these patients."
        return
    n = max(50, asked.wishes.n_resamples // 5)
    asked.answers["value"] = asked.model.explain.value_of(None, asked.shown, n_resamples=n, seed=asked.wishes.seed)


def ask_next(asked: Collector) -> None:
    """Asks what to measure next."""
    if asked.model.trained.acquisition is None:
        asked.lacking["next"] = "The model was not trained to rank the next modality to measure."
        return
    asked.answers["next"] = asked.model.explain.next(asked.some(MOST_EXPLAINED))


def ask_patients(asked: Collector) -> None:
    """Chooses some patients, and asks about each."""
    wanted = [str(patient) for patient in asked.wishes.patients]
    if wanted:
        why, asked.rule = dict.fromkeys(wanted, "asked for by name"), "They were asked for by name."
    else:
        asked.rule = RULE
        counts = asked.shown.presence.sum(axis=1)
        why = choose_patients(asked.answers["trajectory"], counts, asked.model.study.tasks[0].name)
    asked.alone = ask_about_patients(asked.model, asked.cohort, why)


def ask_slides(asked: Collector) -> None:
    """Draws the model's attention, if slides were given."""
    from multimodn.report.answers.slides import draw_maps

    if asked.wishes.slides is not None and asked.alone.ids:
        few = asked.cohort.subset(asked.alone.ids)
        asked.alone.drawn = draw_maps(asked.model, few, asked.labels(asked.alone.ids), asked.wishes.slides)


def ask_training(asked: Collector) -> None:
    """Reads how training went."""
    found = training(asked.run)
    if found.empty:
        asked.lacking["training"] = "The folder holds a bundle only: the logs of training are in the run folder."
    asked.answers["training"] = found


STEPS: tuple[tuple[str, Callable[[Collector], None]], ...] = (
    ("performance", ask_performance),
    ("sets", ask_sets),
    ("simple models", ask_baselines),
    ("tasks together", ask_conflicts),
    ("gains of tasks", ask_gains),
    ("trajectories", ask_trajectory),
    ("contributions", ask_contributions),
    ("interactions", ask_interactions),
    ("orders", ask_orders),
    ("value of modalities", ask_value),
    ("what to measure next", ask_next),
    ("single patients", ask_patients),
    ("slides", ask_slides),
    ("training curves", ask_training),
)
