"""One output of a task, such as a class, in words and lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy.special import expit

from multimodn.base.task import Task
from multimodn.cli.terminal.bars import BarLine
from multimodn.findings.names import event_words, lower_class, main_survival
from multimodn.findings.numbers import percent, signed

NAMED = 2  # modalities that a sentence names for either direction
SMALL = 0.005  # a contribution below it is written as 0.00
WORTH = 0.05  # an interaction below this share of all contributions is not worth a line
PLAIN = {"1", "yes", "true", "on"}  # positive classes that say no more than the task's name does


@dataclass(frozen=True)
class PatientOutput:
    """What is told of one output of one task, for one patient.

    ``shares`` holds contribution and standard error of each modality that the patient has and the task sees, in the
    order of reading; ``pair`` the two modalities of the strongest interaction, its size, and the number of pairs.
    """

    output: str
    quantity: str  # what is predicted, in words, such as ``stage above ii``
    head: str  # what the numbers after each step are
    is_share: bool  # whether they are probabilities
    scale: str  # `Task.link_scale`
    prior: float  # without any modality, on the link scale
    prediction: float  # with all
    after: Mapping[str, float]  # modality to the prediction after its step; the first, ``""``, before any
    final: float  # the prediction with all modalities, in the same terms
    shares: Mapping[str, tuple[float, float]]
    order: Any = None  # the row of order sensitivity, where there are several orders
    pair: tuple[str, str, float, int] | None = None

    def shown(self, value: float) -> str:
        """Writes a prediction."""
        return percent(value) if self.is_share else f"{value:.4g}"

    @property
    def is_still(self) -> bool:
        """Whether no modality contributes."""
        return all(abs(size) < SMALL for size, _ in self.shares.values())

    def numbers(self) -> str:
        """Writes ``71% (prior 42%)``."""
        return f"{self.shown(self.final)} (prior {self.shown(self.after[''])})"

    def moved(self) -> str:
        """Names the modalities that contribute most, in either direction."""
        if self.is_still:
            return "No modality contributes." if self.shares else "No modality that the task may see is present."
        total = sum(abs(size) for size, _ in self.shares.values())
        words, worth = [], max(0.1 * total, SMALL)
        for word, sign in (("up", 1), ("down", -1)):
            sizes = sorted(((sign * size, name) for name, (size, _) in self.shares.items()), reverse=True)
            named = [f"{name} ({signed(sign * size)})" for size, name in sizes[:NAMED] if size > worth]
            words += [f"{word} by {' and '.join(named)}"] if named else []
        if self.prediction < self.prior:
            words.reverse()
        if not words:
            return f"Many modalities contribute a little, {signed(self.prediction - self.prior)} together."
        text = ", ".join(words).replace(" by ", " mainly by ", 1)
        return f"{text[0].upper()}{text[1:]}."

    def lines(self) -> list[BarLine]:
        """Lays out the steps from the prior to the prediction."""
        start = self.after[""]
        found = [BarLine("prior", self.shown(start), self._place(start), total=self.prior)]
        for name, (size, error) in self.shares.items():
            value = self.after.get(name)
            text, place = ("not read", None) if value is None else (self.shown(value), self._place(value))
            found.append(BarLine(f"+ {name}", text, place, size, error))
        return [*found, BarLine("prediction", self.shown(self.final), self._place(self.final), total=self.prediction)]

    def _on_link(self, value: float) -> str:
        if self.scale == "log-odds":
            return percent(float(expit(value)))
        return signed(value) if self.scale == "log-risk" else f"{value:.4g}"

    def _place(self, value: float) -> float:
        """Where a value lies, from 0 to 1: a probability itself, else between the smallest and the largest."""
        values = [*self.after.values(), self.final]
        low, high = (0.0, 1.0) if self.is_share else (min(values), max(values))
        return (value - low) / (high - low) if high > low else 0.5

    def notes(self) -> list[str]:
        """Reports the sensitivity to the order of reading, and the strongest interaction."""
        found = []
        if self.order is not None and len(self.shares) > 1:
            row = self.order
            ends = (min(row.low, row.prediction), max(row.high, row.prediction))
            span = " to ".join(dict.fromkeys(map(self._on_link, ends)))
            unit = "" if self.scale == "units" else f" {self.scale}"
            what = "" if self.scale != "log-risk" else "log-risk "
            found.append(f"Over {row.n_orders} orders of reading: {what}{span} (spread {row.spread:.2f}{unit}).")
        total = sum(abs(size) for size, _ in self.shares.values())
        if self.pair is not None and abs(self.pair[2]) >= max(SMALL, WORTH * total):
            one, other, size, n_pairs = self.pair
            among = f", the strongest of {n_pairs} pairs" if n_pairs > 1 else ""
            found.append(f"Interaction: {one} and {other} {signed(size)}{among}.")
        return found


def columns_of(
    task: Task,
    link: Sequence[float],
    names: Sequence[str],
    final: pd.DataFrame,
    steps: pd.DataFrame,
    deltas: pd.DataFrame,
    shares: pd.DataFrame,
    orders: pd.DataFrame,
    pairs: pd.DataFrame,
) -> list[PatientOutput]:
    """Gathers what is told of each link-scale column of a task.

    ``link`` are the patient's predictions on the link scale, ``names`` the patient's modalities in the order of
    reading; frames have the rows of this patient and task.
    """
    found = []
    for output, prediction in zip(task.link_names, link, strict=True):
        delta, share, order, pair = (frame[frame["output"] == output] for frame in (deltas, shares, orders, pairs))
        prior = float(share["prior"].iloc[0]) if len(share) else prediction
        sizes = share[["contribution", "standard_error"]].astype(float).itertuples(index=False, name=None)
        by_name = dict(zip(share["modality"].astype(str), sizes, strict=True))
        after = {"": prior} | dict(zip(delta["modality"].astype(str), delta["value"].astype(float), strict=True))
        after, end, head = _in_words(task, after, prediction, final, steps)
        found.append(
            PatientOutput(
                output, quantity_of(task, output), head, task.link_scale == "log-odds" or head != "prediction",
                task.link_scale, prior, prediction, after, end,
                {name: by_name[name] for name in names if name in by_name},
                next(iter(order.itertuples()), None), _strongest(pair),
            )
        )  # fmt: skip
    return found


def _in_words(
    task: Task, after: dict[str, float], prediction: float, final: pd.DataFrame, steps: pd.DataFrame
) -> tuple[dict[str, float], float, str]:
    """Turns log-odds into probabilities, and log-risk into the chance of the event by a middle time."""
    if task.link_scale == "log-odds":
        return {name: float(expit(value)) for name, value in after.items()}, float(expit(prediction)), "prediction"
    chosen = main_survival(steps["output"])
    if task.link_scale == "log-risk" and chosen is not None:
        rows = steps[steps["output"] == chosen].sort_values("step")
        chances = dict(zip(rows["modality"].astype(str), 1 - rows["value"].astype(float), strict=True))
        end = 1 - float(final.loc[final["output"] == chosen, "value"].iloc[0])
        return chances, end, event_words(chosen)
    return after, prediction, "prediction"


def _strongest(pairs: pd.DataFrame) -> tuple[str, str, float, int] | None:
    pairs = pairs[pairs["modality"] != pairs["other"]] if len(pairs) else pairs
    if not len(pairs):
        return None
    row: Any = pairs.iloc[int(pairs["interaction"].abs().to_numpy().argmax())]
    return str(row["modality"]), str(row["other"]), float(row["interaction"]), len(pairs)


def quantity_of(task: Task, output: str) -> str:
    """Says in words what a link-scale column predicts, such as ``N = n1``, ``grade = g2`` or ``stage above ii``."""
    if task.link_scale == "log-odds" and (lower := lower_class(output)) is not None:
        return f"{task.name} above {lower}"
    if output != task.name:
        return f"{task.name} = {output}"
    if task.link_scale == "log-odds" and task.n_strata == 2 and task.has_strata_likelihood:
        positive = task.stratum_names[1]
        return task.name if positive.lower() in {*PLAIN, task.name.lower()} else f"{task.name} = {positive}"
    return task.name


def headline(task: Task, columns: Sequence[PatientOutput], final: pd.DataFrame, steps: pd.DataFrame) -> str:
    """Reports the prediction for a task, and the prior."""
    if task.link_scale == "log-risk":
        only = columns[0]
        risk = f"log-risk {signed(only.prediction)} (prior {signed(only.prior)})"
        chance = f"{only.head}, {only.numbers()}; " if only.is_share else ""
        return f"{task.name}: {chance}{risk}."
    if len(columns) == 1:
        spread = final.loc[final["output"] == "sd", "value"]
        only = columns[0]
        error = f" ± {spread.iloc[-1]:.2g}" if task.link_scale == "units" and len(spread) else ""
        return f"{only.quantity}: {only.shown(only.final)}{error} (prior {only.shown(only.after[''])})."
    last = final[final["output"] != "expected"].set_index("output")["value"]
    first = steps[steps["step"] == 0].set_index("output")["value"]
    words = [f"{name} {percent(last[name])} (prior {percent(first[name])})" for name in last.nlargest(2).index]
    if abs(float(last.sum()) - 1) > 1e-3:  # labels that do not exclude each other
        return f"{task.name}: {', '.join(words)} are the most likely of {len(last)}."
    return f"{task.name}: most likely {', then '.join(words)}."


def most_telling(columns: Sequence[PatientOutput]) -> list[PatientOutput]:
    """Chooses at most two: the likeliest classes, the middle split of ordered ones, the labels that moved most."""
    if len(columns) <= 1:
        return list(columns)
    if all(lower_class(one.output) is not None for one in columns):
        return [columns[len(columns) // 2]]
    is_exclusive = abs(sum(one.final for one in columns) - 1) < 1e-3
    key = (lambda one: one.final) if is_exclusive else (lambda one: abs(one.prediction - one.prior))
    return sorted(columns, key=key, reverse=True)[:2]
