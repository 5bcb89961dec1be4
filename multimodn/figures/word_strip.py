"""The words of a report, coloured by their attributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.attributions import COLUMNS, in_order, strength
from multimodn.figures.axes import WIDTH, Floats, new_figure
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, only_patient, pick_name, require_columns, select_output
from multimodn.figures.theme import Theme, diverging_level
from multimodn.figures.wording import shorten, slug
from multimodn.findings.numbers import MINUS, counted, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WORDS = 300
SIZE, LINE, PAD = 9.0, 19.0, 4.4  # points
MIDDLE = diverging_level(0.0)
PLUS, RAISED_MINUS = "\u207a", "\u207b"  # superscript


@dataclass(frozen=True)
class _Strip:
    chosen: OutputRows
    modality: str
    patient: str
    words: list[str]
    attribution: Floats
    strength: Floats
    n_words: int

    @property
    def marked(self) -> list[str]:
        """Words with their sign, which stands wherever there is a colour."""
        levels = [diverging_level(value) for value in self.strength]
        signs = ["" if level == MIDDLE else PLUS if level > MIDDLE else RAISED_MINUS for level in levels]
        return [f"{word}{sign}" for word, sign in zip(self.words, signs, strict=True)]


def word_strip(
    attributions: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    modality: str | None = None,
    patient: object | None = None,
    most: int = MOST_WORDS,
) -> Picture:
    """Draws the words of a patient's report, coloured and signed by their attributions.

    Default: the only patient, the first modality, task and output (of an ordinal task, the middle one); of more than
    ``most`` words the passage that moves the prediction most.
    """
    require_columns(attributions, COLUMNS, "attributions")
    modality = pick_name(attributions["modality"], modality, "modality")
    rows = attributions[attributions["modality"].astype(str) == modality]
    name, rows = only_patient(rows, patient, "A text")
    chosen = select_output(rows, task, output)
    words, attribution = in_order(chosen.rows)
    scaled, start = strength(attribution), 0
    if len(words) > most:
        passed = np.concatenate([[0.0], np.abs(scaled).cumsum()])
        start = int(np.argmax(passed[most:] - passed[:-most]))
    part = slice(start, start + most)
    strip = _Strip(chosen, modality, name, list(words[part]), attribution[part], scaled[part], len(words))
    largest = np.argsort(-np.abs(strip.attribution), kind="stable")[:4]
    named = [f"{strip.words[k]} {signed(float(strip.attribution[k]))}" for k in largest]
    return Picture(
        slug("words", strip.modality, strip.chosen.task, strip.chosen.output, strip.patient),
        f"{strip.chosen.named(40)}: words of {shorten(strip.modality)}, patient {shorten(strip.patient)}",
        _caption(strip),
        f"Words that move {strip.chosen.quantity} most: {', '.join(named)}.",
        lambda theme: _draw(strip, theme),
        pd.DataFrame({"word": strip.words, "attribution": strip.attribution}),
    )


def _draw(strip: _Strip, theme: Theme) -> Figure:
    from matplotlib.patches import FancyBboxPatch

    places, n_lines = _flow(strip.marked)
    height = LINE * n_lines + 6
    figure = new_figure((height + 2 * PAD) / 72)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH * 72 - 2 * PAD)
    axes.set_ylim(height, 0)
    for word, value, (x, line, width) in zip(strip.marked, strip.strength, places, strict=True):
        y = 3 + LINE * (line + 0.5)
        fill, ink = theme.leaning(float(value))
        is_marked, style = diverging_level(float(value)) != MIDDLE, "round,pad=0,rounding_size=2.5"
        if is_marked:
            axes.add_patch(FancyBboxPatch((x - 1, y - 6.5), width + 2, 13, boxstyle=style, facecolor=fill, lw=0))
        axes.text(x, y, word, va="center_baseline", size=SIZE, color=ink if is_marked else theme.ink)
    return figure


def _flow(words: list[str]) -> tuple[list[tuple[float, int, float]], int]:
    """Breaks words into lines: for each its place (points), its line and its width; and the number of lines."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font, measure = FontProperties(family="DejaVu Sans", size=SIZE), TextToPath()
    widths = {word: float(measure.get_text_width_height_descent(word, font, ismath=False)[0]) for word in set(words)}
    places, x, line = [], 3.0, 0
    for word in words:
        if x > 3.0 and x + widths[word] > WIDTH * 72 - 2 * PAD - 6:
            x, line = 3.0, line + 1
        places.append((x, line, widths[word]))
        x += widths[word] + 5.0
    return places, line + 1


def _caption(strip: _Strip) -> str:
    text = (
        f"n = 1 (patient {shorten(strip.patient, 40)}), {counted(strip.n_words, 'word')} of {shorten(strip.modality)}"
    )
    if strip.n_words > len(strip.words):
        text += f", of which the {len(strip.words)} that move the prediction most in one passage"
    return (
        f"{text}. Orange, +: increases the prediction of {strip.chosen.named(40)}; blue, {MINUS}: decreases it; no "
        "colour: less than 1/8 of the largest attribution. No interval."
    )
