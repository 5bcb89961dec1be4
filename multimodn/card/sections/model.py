"""The first sections of a card: in brief, the model, what it is for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multimodn.card.facts import Facts
from multimodn.card.scores import Scores
from multimodn.card.wording import given, patients, rows_of, sentence
from multimodn.findings.markdown import Markup, code, escaped, heading, items, listed, prose, table
from multimodn.findings.names import CHANCE, metric_name
from multimodn.findings.numbers import FEWEST, count, counted, interval

UPDATES = {
    "residual": "adds the embedding and a learned interaction with the state",
    "product": "adds the embedding and learned products with what was read before",
    "gated": "moves the state by learned gates",
    "linear": "adds the embedding",
    "attention": "adds the embedding and what the state found by attention to single items",
}
BALANCES = {
    "sum": "the mean of the tasks' losses",
    "uncertainty": "the tasks' losses weighted by learned variances",
    "upgrad": "the tasks' gradients joined by UPGrad",
    "pcgrad": "the tasks' gradients joined by PCGrad",
}


def brief(facts: Facts, scores: Scores, cautions: list[str]) -> list[str]:
    """Says in a few lines what the model predicts, how well, and what speaks against it."""
    n_tasks, n = len(facts.tasks), len(facts.presence.columns)
    lines = prose(
        f"One model predicts {counted(n_tasks, 'outcome')} ({listed(facts.tasks)}) from up to "
        f"{'1 modality' if n == 1 else f'{n} modalities'} ({listed(facts.presence.columns, 20)}).",
        f"Its weights were learned from {patients(int(facts.learned.sum()))}; "
        f"{patients(facts.n_test)} were kept apart to test it.",
    )
    lines += prose(f"**Intended use:** {given(facts.model.study.card.intended_use, 'intended_use')}")
    if scores.main.empty:
        lines += prose(
            "**There are no test patients to measure it on: this card holds no number about how well it does.**"
        )
    else:
        lines += main_table(facts, scores)
    return [
        *lines,
        *prose("**Before you use it** (all limitations are in section 14):"),
        *items(cautions),
    ]


def main_table(facts: Facts, scores: Scores) -> list[str]:
    """The main metric of each task."""
    rows = []
    for row in rows_of(scores.main):
        task = facts.tasks[str(row.task)]
        value = interval(row.value, row.low, row.high) if row.n >= FEWEST else "too few patients"
        chance = CHANCE.get(str(row.metric))
        rows.append((row.task, task.spec.kind, metric_name(row.metric), value, f"{chance:g}", count(int(row.n))))
    header = ["Task", "Kind", "Metric", "Test patients, 95% interval", "Without information", "Patients"]
    return table(header, rows, 3)


def model_section(facts: Facts) -> list[str]:
    """Describes the networks and how they were trained."""
    model, spec = facts.model, facts.model.study.training
    fitted = model._model()
    members = model.provenance.get("members", [])
    epochs = pd.Series([member.get("epochs", np.nan) for member in members], dtype=float).dropna()
    run = f"{int(epochs.min())} to {int(epochs.max())}" if len(epochs) and epochs.min() < epochs.max() else ""
    run = run or (f"{int(epochs.iloc[0])}" if len(epochs) else "not recorded")
    n_parameters = sum(p.numel() for p in fitted.first.parameters() if p.requires_grad)
    versions = model.provenance.get("versions", {})
    one = len(fitted.members) == 1
    held = "the validation patients" if one else "another fold of the training and validation patients each"
    stopped = (
        f"weights of the epoch with the least loss on {held}" if _has_stopped(facts) else "weights of the last epoch"
    )
    update = Markup(f"{spec.state_size} numbers; an update ({code(spec.update)}) {UPDATES[spec.update]}")
    rows = [
        ("Study", escaped(model.study.name)),
        ("Networks", f"{len(fitted.members)}, of {n_parameters:,} trained numbers each"),
        ("Patient state", update),
        ("Epochs", f"{run} of at most {spec.epochs}; {stopped}"),
        ("Optimiser", f"Adam, first step {spec.learning_rate:g}, {spec.batch_size} patients a batch"),
        ("L2 penalty", f"{spec.penalty:g}, as 1 / C of a logistic regression"),
        ("Several tasks", BALANCES[spec.balance]),
        ("Calibration", _calibration(facts)),
        ("Missing modalities", code(f"missingness: {model.study.missingness}")),
        ("Seed", str(model.provenance.get("seed", spec.seed))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"),
    ]
    return [
        *heading("1. Model"),
        *prose(
            "For each modality an encoder turns a patient's values into an embedding, and one after the other these "
            "update a state of the patient, from which a decoder for each task predicts after every step.",
            "A modality that a patient lacks is skipped and leaves the state as it was: nothing is imputed"
            + ("." if one else f"; the mean of {len(fitted.members)} such networks is the prediction."),
        ),
        *table(["What", "How"], [(name, how) for name, how in rows], 2),
        *prose(f"**Licence of the model:** {given(model.study.card.license, 'license')}"),
        *prose(f"**Contact:** {given(model.study.card.contact, 'contact')}"),
    ]


def _calibration(facts: Facts) -> Markup | str:
    """What was fitted to held-out patients after training, by task."""
    fitted = facts.model.provenance.get("calibration")
    if not fitted:
        return code("training.calibrate: false") if not facts.model.study.training.calibrate else "not recorded"
    said: dict[str, list[str]] = {}
    for task, what in fitted.items():
        said.setdefault(str(what), []).append(str(task))
    parts = list(said) if len(said) == 1 else [f"{', '.join(tasks)}: {what}" for what, tasks in said.items()]
    if not all(what.startswith("identity") for what in said):
        parts.append("fitted to patients whom each network did not train on")
    return escaped("; ".join(parts))


def _has_stopped(facts: Facts) -> bool:
    """Says whether held-out patients chose the epoch."""
    return facts.n_members > 1 or bool(facts.parts["validation"].any())


def use_section(facts: Facts) -> list[str]:
    """What people said that the model is for."""
    card = facts.model.study.card
    about = {
        "Background": (card.background, "background"),
        "Intended use": (card.intended_use, "intended_use"),
        "Intended users": (card.intended_users, "intended_users"),
        "Out of scope": (card.out_of_scope, "out_of_scope"),
        "Known inequalities": (card.inequalities, "inequalities"),
    }
    lines = [line for name, (text, key) in about.items() for line in prose(f"**{name}:** {given(text, key)}")]
    return [
        *heading("2. Intended use"),
        *lines,
        *prose(
            sentence("The package that trained this model is a research tool and no medical device"),
            "It gives probabilities, numbers or risks; it applies no threshold and makes no decision.",
        ),
    ]
