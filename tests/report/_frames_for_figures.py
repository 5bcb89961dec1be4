"""Frames of made-up answers, and every picture that is drawn from one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from multimodn.explain.interactions import synergy
from multimodn.explain.summary import summarise
from multimodn.figures.acquisition import next_chart
from multimodn.figures.attributions import attribution_bars
from multimodn.figures.contributions import beeswarm, importance
from multimodn.figures.interactions import interaction_map
from multimodn.figures.orders import order_spread, synergy_chart
from multimodn.figures.trajectory import trajectory_fan, trajectory_lines
from multimodn.figures.value import training_curves, value_chart
from multimodn.figures.waterfall import waterfall
from multimodn.figures.word_strip import word_strip
from multimodn.findings.frames import AttributedFrame, DescribedFrame

LONG = "the thickness of the margin, measured by hand in millimetres"  # 60 letters
ODD = ["cost $x$", "a<b>&c", "β-Größe ≥ 3", LONG, 'id="q" #0b5fa5']
KINDS = ["normal", "zero", "tied", "negative", "tiny", "large"]


@dataclass
class Case:
    """Sizes and sort of the numbers of a cohort."""

    kind: str = "normal"
    n_patients: int = 12
    n_modalities: int = 6
    n_classes: int = 2
    seed: int = 0
    has_gaps: bool = False
    names: list[str] = field(default_factory=lambda: [*ODD, *(f"m{k}" for k in range(40))])

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.modalities = self.names[: self.n_modalities]
        self.presence = self.rng.random((self.n_patients, self.n_modalities)) < 0.7
        self.presence[:, 0] = True
        self.patients = [f"p{k}" for k in range(self.n_patients)]
        self.tasks = {
            "death": ["death"],
            "grade": [f"g{k}" for k in range(self.n_classes)],
            "stage": [">i", ">ii", ">iii"],
        }

    def numbers(self, *shape):
        plain = self.rng.normal(size=shape)
        made = {
            "normal": plain,
            "zero": 0 * plain,
            "tied": np.round(plain),
            "negative": -np.abs(plain),
            "tiny": 1e-9 * plain,
            "large": 1e3 * plain,
        }
        return made[self.kind]

    def frame(self, rows, columns, *, indexed=True):
        found = pd.DataFrame(rows, columns=[*(["patient"] if indexed else []), *columns])
        if self.has_gaps and "step" not in columns:
            for name in {"low", "high", "value", "mean_abs_low", "mean_abs_high", "cost", "spread"} & set(columns):
                if len(found) > 1 and found[name].dtype == float:
                    found.loc[::2, name] = np.nan
        found = found.set_index("patient") if indexed else found
        return DescribedFrame.of(found, link_scales=dict.fromkeys(self.tasks, "log-odds"), modalities=self.modalities)

    def contributions(self):
        rows = []
        for i, patient in enumerate(self.patients):
            for task, outputs in self.tasks.items():
                for output in outputs:
                    sizes = self.numbers(self.n_modalities) * self.presence[i]
                    rows += [
                        (patient, task, output, name, size, 0.01 * abs(size), -1.0, -1.0 + sizes.sum())
                        for name, size, has in zip(self.modalities, sizes, self.presence[i], strict=True)
                        if has
                    ]
        columns = ["task", "output", "modality", "contribution", "standard_error", "prior", "prediction"]
        return self.frame(rows, columns)

    def summary(self):
        rows = []
        for task, outputs in self.tasks.items():
            for output in outputs:
                for group in ("site $A$", "site B"):
                    for name in self.modalities:
                        mean, size = self.numbers(2)
                        size = abs(size)
                        rows.append(
                            (task, output, group, name, 9, size, 0.8 * size, 1.3 * size, mean, mean - 1, mean + 1)
                        )
        means = [f"{name}{end}" for name in ("mean_abs", "mean") for end in ("", "_low", "_high")]
        return self.frame(rows, ["task", "output", "group", "modality", "n", *means], indexed=False)

    def trajectory(self):
        rows = []
        for i, patient in enumerate(self.patients):
            names = ["", *(name for name, has in zip(self.modalities, self.presence[i], strict=True) if has)]
            links = self.numbers(len(names), self.n_classes).cumsum(0)
            shares = np.exp(links - links.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            for step, name in enumerate(names):
                rows.append((patient, "death", "probability", step, name, shares[step, 0]))
                rows += [(patient, "grade", f"g{k}", step, name, shares[step, k]) for k in range(self.n_classes)]
        return self.frame(rows, ["task", "output", "step", "modality", "value"])

    def interactions(self):
        rows = []
        for i, patient in enumerate(self.patients):
            names = [name for name, has in zip(self.modalities, self.presence[i], strict=True) if has]
            pairs = list(combinations_with_replacement(names, 2))
            for task, output in (("death", "death"), ("stage", ">i"), ("stage", ">ii")):
                rows += [
                    (patient, task, output, a, b, x) for (a, b), x in zip(pairs, self.numbers(len(pairs)), strict=True)
                ]
        return self.frame(rows, ["task", "output", "modality", "other", "interaction"])

    def synergy(self):
        shares = 1 / (1 + np.exp(-self.numbers(4).clip(-9, 9)))
        names = [("death", "death"), ("stage", ">i"), ("stage", ">ii"), (LONG, LONG)]
        rows = [
            (*pair, share, share / 2, (1 + share) / 2, self.n_patients)
            for pair, share in zip(names, shares, strict=True)
        ]
        return self.frame(rows, ["task", "output", "synergy", "low", "high", "n"], indexed=False)

    def orders(self):
        rows = []
        for patient in self.patients:
            for task, outputs in self.tasks.items():
                for output, middle in zip(outputs, self.numbers(len(outputs)), strict=True):
                    spread = abs(middle) / 9
                    rows.append((patient, task, output, 24, spread, middle - 2 * spread, middle + 2 * spread, middle))
        return self.frame(rows, ["task", "output", "n_orders", "spread", "low", "high", "prediction"])

    def value(self):
        rows = []
        for task, metric in (("death", "auroc"), ("grade", "auroc"), (LONG, "integrated_brier")):
            for name, gain in zip(self.modalities, self.numbers(self.n_modalities), strict=True):
                rows.append((task, metric, name, 30, 25.5, 0.7 + gain, 0.7, gain, gain - 0.1, gain + 0.1, gain / 2))
        columns = ["task", "metric", "modality", "n", "n_effective", "with_it", "without_it", "value", "low", "high"]
        return self.frame(rows, [*columns, "unweighted"], indexed=False)

    def next(self):
        rows = []
        for patient in self.patients:
            for task in self.tasks:
                gains = np.sort(self.numbers(self.n_modalities))[::-1]
                names = self.rng.permutation(self.modalities)
                costs = self.rng.integers(1, 4, self.n_modalities).astype(float)
                rows += [
                    (patient, task, *line) for line in zip(names, gains, costs, range(1, 1 + len(names)), strict=True)
                ]
        return self.frame(rows, ["task", "modality", "gain", "cost", "rank"])

    def attributions(self):
        rows = []
        for patient in self.patients:
            for task in ("death", LONG):
                sizes = self.numbers(self.n_modalities)
                rows += [
                    (patient, "labs", task, task, name, k, 1.5, sizes[k]) for k, name in enumerate(self.modalities)
                ]
        found = self.frame(rows, ["modality", "task", "output", "feature", "position", "value", "attribution"])
        return AttributedFrame.of(found, method="integrated gradients", baseline="training mean")

    def words(self):
        found = self.attributions()
        words = np.array(["no", "$", "sign", "of", "a", "<tumour>", "&", "of", "β-cells"])
        found["feature"] = found["value"] = words[self.rng.integers(0, len(words), len(found))]
        found["modality"] = "report"
        return found

    def training(self):
        rows = []
        for member in range(3):
            for epoch, (one, other) in enumerate(self.numbers(7, 2)):
                rows.append((member, epoch, one, other))
        return self.frame(rows, ["member", "epoch", "validation_loss", "training_loss"], indexed=False)


def swarm(frame, *names, **options):
    """A beeswarm with the summary of its own frame."""
    return beeswarm(frame, *names, summary=summarise(frame), **options)


def pairs_map(frame, patient=None, **options):
    """A map of interactions with the synergy of the patients that are drawn."""
    rows = frame if patient is None else frame[frame.index == patient]
    return interaction_map(frame, synergy=synergy(rows), patient=patient, **options)


PICTURES = {
    "waterfall": lambda case: waterfall(case.contributions(), patient="p0"),
    "beeswarm": lambda case: swarm(case.contributions(), "grade", patient="p0"),
    "importance": lambda case: importance(case.summary()),
    "trajectory fan": lambda case: trajectory_fan(case.trajectory(), patients=["p0"]),
    "trajectory lines": lambda case: trajectory_lines(case.trajectory(), "grade", patient="p0"),
    "interaction map": lambda case: pairs_map(case.interactions()),
    "synergy": lambda case: synergy_chart(case.synergy()),
    "order spread": lambda case: order_spread(case.orders()),
    "value": lambda case: value_chart(case.value()),
    "next, patient": lambda case: next_chart(case.next(), patient="p0"),
    "next, cohort": lambda case: next_chart(case.next()),
    "attributions, patient": lambda case: attribution_bars(case.attributions(), LONG, patient="p0"),
    "attributions, cohort": lambda case: attribution_bars(case.attributions()),
    "words": lambda case: word_strip(case.words(), patient="p0"),
    "training": lambda case: training_curves(case.training()),
}

cases = st.builds(
    Case,
    kind=st.sampled_from(KINDS),
    n_patients=st.sampled_from([1, 2, 12]),
    n_modalities=st.sampled_from([1, 6, 9]),
    n_classes=st.sampled_from([1, 3, 8]),
    seed=st.integers(0, 999),
    has_gaps=st.booleans(),
)
