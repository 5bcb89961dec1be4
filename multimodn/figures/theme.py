"""Colours of every figure: distinct for colour-blind readers, on light and on dark ground.

A figure uses the colours of its theme as they are, transparent where it wants them lighter, and no others: the page of
a report can then exchange them for the reader's light or dark mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Theme:
    """Colours as ``#rrggbb``; no two of a theme are the same."""

    paper: str  # the ground
    ink: str  # text and what matters most
    faint: str  # text that explains, ticks
    grid: str  # lines behind the data
    band: str  # areas without a meaning of their own, such as bars that only count
    low: str  # blue: decreases, negative contributions, patients without the event
    high: str  # orange: increases, positive contributions, patients with the event
    series: tuple[str, ...]  # categories, in this order; after Okabe and Ito, https://jfly.uni-koeln.de/color/
    diverging: tuple[str, ...]  # from `low` over nothing to `high`
    sequential: tuple[str, ...]  # from nothing to much

    def roles(self) -> Iterator[tuple[str, str]]:
        """Names every colour, such as ``("ink", "#1b1f24")`` and ``("series-0", ...)``."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                yield field.name, value
            else:
                yield from ((f"{field.name}-{k}", colour) for k, colour in enumerate(value))

    def amount(self, share: float) -> tuple[str, str]:
        """Returns the colours of a cell and of a number on it, for an amount from 0 (nothing) to 1 (much)."""
        level = min(max(int(share * N_SEQUENTIAL), 0), N_SEQUENTIAL - 1)
        return self.sequential[level], self.paper if level in STRONG_SEQUENTIAL else self.ink

    def leaning(self, value: float) -> tuple[str, str]:
        """Returns the colours of a cell and of a text on it, for a value from -1 (`low`) over 0 to 1 (`high`)."""
        level = diverging_level(value)
        return self.diverging[level], self.paper if level in STRONG_DIVERGING else self.ink

    def strata(self, n: int) -> list[str]:
        """Returns colours of n outcomes, in order: blues from strong to light, then oranges from light to strong."""
        lower, upper = ([round(2 * k / max(m - 1, 1)) for k in range(m)] for m in (n - n // 2, n // 2))
        blues = [self.diverging[k] for k in lower] if len(lower) > 1 else [self.low]
        return blues + ([self.diverging[k - 3] for k in upper] if len(upper) > 1 else [self.high][: len(upper)])

    def style(self) -> Any:
        """Returns the settings of Matplotlib, a dictionary, under which a figure is drawn; see `rc_context`."""
        cycle = ", ".join(f"'{colour}'" for colour in self.series)
        return {
            "font.family": "DejaVu Sans", "font.size": 9.0, "figure.facecolor": self.paper,
            "text.color": self.ink, "text.parse_math": False,  # a name may hold a dollar sign
            "axes.facecolor": self.paper, "axes.edgecolor": self.grid, "axes.labelcolor": self.faint,
            "axes.titlecolor": self.ink, "axes.titlesize": 10.0, "axes.titleweight": "bold",
            "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
            "axes.axisbelow": True, "axes.prop_cycle": f"cycler('color', [{cycle}])",
            "grid.color": self.grid, "grid.linewidth": 0.8, "legend.frameon": False,
            "xtick.color": self.grid, "ytick.color": self.grid,
            "xtick.labelcolor": self.faint, "ytick.labelcolor": self.ink,
            "savefig.facecolor": self.paper, "svg.fonttype": "none",  # text can be searched, copied and read aloud
        }  # fmt: skip


N_SEQUENTIAL, N_DIVERGING = 7, 9
STRONG_SEQUENTIAL, STRONG_DIVERGING = {4, 5, 6}, {0, 1, 7, 8}  # levels on which text has the colour of the paper


def diverging_level(value: float) -> int:
    """Returns which of a theme's `diverging` colours stands for a value from -1 to 1; the middle one is 0's."""
    return min(max(round((value + 1) / 2 * (N_DIVERGING - 1)), 0), N_DIVERGING - 1)


LIGHT = Theme(
    paper="#ffffff", ink="#1b1f24", faint="#57606a", grid="#e3e6ea", band="#cfd4da",
    low="#0b5fa5", high="#c2500a",
    series=("#0072b2", "#d55e00", "#00805c", "#b0529a", "#8a6d00", "#3c8fc4", "#5b4fa8", "#6b737c"),
    diverging=("#084b83", "#3577b2", "#82b1d9", "#c8deef", "#f1f2f3", "#fbdcc2", "#f3ad77", "#b85713", "#8f3a06"),
    sequential=("#f0f4f8", "#d3e3f1", "#a9cae5", "#74aad4", "#3577b0", "#1f669e", "#0a467a"),
)  # fmt: skip

DARK = Theme(
    paper="#14171c", ink="#e9ecf0", faint="#a3adb8", grid="#2c323a", band="#4a525c",
    low="#58acf0", high="#ff9142",
    series=("#4fa8e0", "#ff8a3c", "#2fc49a", "#de8fcb", "#d9b534", "#8cc8f2", "#a79bf0", "#9aa3ad"),
    diverging=("#9bd0fb", "#5aa7e6", "#316f98", "#274a61", "#23272d", "#5a3b23", "#985825", "#e0832f", "#ffb77d"),
    sequential=("#1c2229", "#203446", "#254f72", "#2c6897", "#4a93ce", "#7db9ea", "#bfe0fb"),
)  # fmt: skip
