"""The first sections of a card: in brief, the model, its intended use."""

from __future__ import annotations

import numpy as np

from multimodn.card.facts import CardFacts
from multimodn.card.scores import CardScores
from multimodn.card.wording import given, patients, rows_of
from multimodn.findings import sentences
from multimodn.findings.experts import experts_of
from multimodn.findings.markdown import Markup, code, escaped, heading, items, listed, prose, table
from multimodn.findings.names import CHANCE, metric_name
from multimodn.findings.numbers import FEWEST, count, counted, interval

UPDATES = {
    "residual": "adds the embedding and a learned interaction with the state",
    "product": "adds the embedding and learned products with the state",
    "gated": "moves the state by learned gates",
    "linear": "adds the embedding",
    "attention": "adds the embedding and attention of the state to single items",
}
BALANCES = {
    "sum": "the mean of the tasks' losses",
    "uncertainty": "the tasks' losses weighted by learned variances",
    "upgrad": "the tasks' gradients combined by UPGrad",
    "pcgrad": "the tasks' gradients combined by PCGrad",
}


def brief(facts: CardFacts, scores: CardScores, cautions: list[str]) -> list[str]:
    """Says in a few lines what the model predicts, how well, and what its main limitations are."""
    names = facts.presence.columns
    lines = prose(
        f"One model predicts {counted(len(facts.tasks), 'outcome')} ({listed(facts.tasks)}) from up to "
        f"{counted(len(names), 'modality')} ({listed(names, 20)}).",
        f"It was trained on {patients(int(facts.learned.sum()))} and tested on {patients(facts.n_test)}.",
    )
    lines += prose(f"**Intended use:** {given(facts.model.study.card.intended_use, 'intended_use')}")
    unknown = prose("**There are no test patients: the performance of this model is unknown.**")
    lines += unknown if scores.main.empty else main_table(facts, scores)
    return [*lines, *prose("**Before you use it** (all limitations: section 14):"), *items(cautions)]


def main_table(facts: CardFacts, scores: CardScores) -> list[str]:
    """The main metric of each task."""
    rows = []
    for row in rows_of(scores.main):
        value = interval(row.value, row.low, row.high) if row.n >= FEWEST else "too few patients"
        kind, chance = facts.tasks[str(row.task)].spec.kind, CHANCE.get(str(row.metric))
        rows.append((row.task, kind, metric_name(row.metric), value, f"{chance:g}", count(int(row.n))))
    return table(["Task", "Kind", "Metric", "Value (95% interval)", "By chance", "Test patients"], rows, 3)


def model_section(facts: CardFacts) -> list[str]:
    """Describes the networks and how they were trained."""
    model, spec = facts.model, facts.model.study.training
    fitted = model.trained.ensemble
    members = model.provenance.get("members", [])
    epochs = sorted(int(n) for n in (member.get("epochs", np.nan) for member in members) if not np.isnan(n))
    run = " to ".join(map(str, dict.fromkeys([*epochs[:1], *epochs[-1:]]))) or "not recorded"
    n_parameters = sum(p.numel() for p in fitted.first.parameters() if p.requires_grad)
    versions = model.provenance.get("versions", {})
    one = len(fitted.members) == 1
    held = "the validation patients" if one else "another fold of the training and validation patients each"
    has_stopped = facts.n_members > 1 or facts.parts["validation"].any()  # held-out patients chose the epoch
    stopped = f"the epoch with the lowest loss on {held}" if has_stopped else "the last epoch"
    experts = sentences.experts(experts_of(model.provenance, model.study.seen))
    update = Markup(f"{spec.state_size} numbers; an update ({code(spec.update)}) {UPDATES[spec.update]}")
    rows = [
        ("Study", escaped(model.study.name)),
        ("Networks", f"{len(fitted.members)}, with {n_parameters:,} trained parameters each"),
        ("Patient state", update),
        ("Epochs", f"{run} of at most {spec.epochs}; {stopped}"),
        ("Optimiser", f"Adam, learning rate {spec.learning_rate:g}, batches of {spec.batch_size} patients"),
        ("L2 penalty", f"{spec.penalty:g}, as 1 / C of a logistic regression"),
        ("Several tasks", BALANCES[spec.balance]),
        ("Experts", Markup(", ".join(map(code, spec.experts)) or "none")),
        ("Calibration", _calibration(facts)),
        ("Missing modalities", code(f"missingness: {model.study.missingness}")),
        ("Seed", str(model.provenance.get("seed", spec.seed))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"),
    ]
    return [
        *heading("1. Model"),
        *prose(
            "For each modality an encoder turns a patient's values into an embedding. The embeddings update a state of "
            "the patient one after the other, and a decoder for each task predicts from the state after every step.",
            "A modality that a patient lacks is skipped (section 7).",
            "" if one else f"The prediction is the mean of {len(fitted.members)} such networks.",
        ),
        *table(["What", "How"], rows, 2),
        *prose(*map(escaped, experts)),
        *prose(f"**Licence of the model:** {given(model.study.card.license, 'license')}"),
        *prose(f"**Contact:** {given(model.study.card.contact, 'contact')}"),
    ]


def _calibration(facts: CardFacts) -> Markup | str:
    """What was fitted on held-out patients after training, by task."""
    fitted = facts.model.provenance.get("calibration")
    if not fitted:
        return code("training.calibrate: false") if not facts.model.study.training.calibrate else "not recorded"
    by_method: dict[str, list[str]] = {}
    for task, method in fitted.items():
        by_method.setdefault(str(method), []).append(str(task))
    parts = [f"{', '.join(tasks)}: {method}" for method, tasks in by_method.items()]
    parts = list(by_method) if len(by_method) == 1 else parts
    if not all(method.startswith("identity") for method in by_method):
        parts.append("fitted on patients whom each network did not train on")
    return escaped("; ".join(parts))


def use_section(facts: CardFacts) -> list[str]:
    """Intended use, in the user's words."""
    card = facts.model.study.card
    keys = {"background": "Background", "intended_use": "Intended use", "intended_users": "Intended users"}
    keys |= {"out_of_scope": "Out of scope", "inequalities": "Known inequalities"}
    return [
        *heading("2. Intended use"),
        *(line for key, name in keys.items() for line in prose(f"**{name}:** {given(getattr(card, key), key)}")),
        *prose(
            sentences.RESEARCH_TOOL,
            "The model gives probabilities, numbers or risks; it applies no threshold and makes no decision.",
        ),
    ]
