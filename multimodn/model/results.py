"""Result frames that draw themselves: DataFrames with ``plot`` and ``picture``.

All else is as in pandas; ``pd.DataFrame(frame).plot`` is pandas' own. A frame has typed fields beside its columns,
which a slice keeps: see `multimodn.findings.frames`. Matplotlib is imported when something is drawn, not before.

Examples:
    >>> import pandas as pd
    >>> frame = ContributionFrame.of(
    ...     pd.DataFrame({"task": ["death"], "contribution": [0.4]}), link_scales={"death": "log-odds"}
    ... )
    >>> type(frame[frame["contribution"] > 0]).__name__, frame.link_scales
    ('ContributionFrame', {'death': 'log-odds'})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from multimodn.errors import StudyError, did_you_mean
from multimodn.explain.summary import summarise
from multimodn.figures.acquisition import next_chart
from multimodn.figures.attributions import attribution_bars
from multimodn.figures.contributions import CONTRIBUTIONS, beeswarm, importance
from multimodn.figures.interactions import INTERACTIONS, interaction_map
from multimodn.figures.orders import order_spread, synergy_chart
from multimodn.figures.picture import Picture
from multimodn.figures.selection import pick_name, require_columns, rows_of_patient, select_output
from multimodn.figures.theme import DARK, LIGHT
from multimodn.figures.trajectory import trajectory_fan, trajectory_lines
from multimodn.figures.value import value_chart
from multimodn.figures.waterfall import waterfall
from multimodn.figures.word_strip import word_strip
from multimodn.findings.frames import AttributedFrame, DescribedFrame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ThemeName = Literal["light", "dark"]


class ResultFrame(DescribedFrame):
    """A DataFrame of results; slices of it are of the same class."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns the picture that fits the frame, with caption, alternative text and numbers.

        Args:
            patient: One of the frame.
            task: Default: the first, or all where the figure shows all.
            output: Default: depends on the figure.

        Raises:
            StudyError: If task or output is unknown, or the frame has no patients to ask for.
            DataError: If there is nothing to draw, or the patient has no rows.
        """
        raise NotImplementedError(f"{type(self).__name__} has no picture.")

    def plot(  # type: ignore[override]
        self,
        *,
        patient: object | None = None,
        task: str | None = None,
        output: str | None = None,
        theme: ThemeName = "light",
    ) -> Figure:
        """Draws the fitting picture, with title and caption; see `picture`. ``theme``: ``light`` or ``dark``."""
        return draw(self.picture(patient=patient, task=task, output=output), theme)

    def _of_output(self, output: str | None) -> Self:
        """Returns the rows of an output, or all."""
        if output is None:
            return self
        return self[self["output"].astype(str) == pick_name(self["output"], output, "output")]

    def _refuse_patient(self, patient: object | None) -> None:
        """Raises an error if a patient is named, in a frame of means."""
        if patient is not None:
            raise StudyError(
                f"This {type(self).__name__} holds means over patients, not patient '{patient}'; leave `patient` out."
            )


class ContributionFrame(ResultFrame):
    """Of `MultiModN.contributions`: a waterfall of one patient, a beeswarm of several."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns the waterfall of ``patient``, or of the only one there is, else the beeswarm of all."""
        if patient is not None or self.index.nunique() == 1:
            return waterfall(self, task, output, patient=patient)
        require_columns(self, CONTRIBUTIONS, "contributions")
        summary = summarise(select_output(self, task, output).rows[[*CONTRIBUTIONS]])
        return beeswarm(self, task, output, summary=summary)


class SummaryFrame(ResultFrame):
    """Of `summarise`: mean |contribution| of each modality, with intervals."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns a panel for each task and output."""
        self._refuse_patient(patient)
        return importance(self, task, output)


class TrajectoryFrame(ResultFrame):
    """Of `MultiModN.trajectory`: the steps of one patient, or of a cohort with one patient in it."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns all outputs of the only patient, else one output of all with ``patient`` before them."""
        if self.index.nunique() == 1:
            return trajectory_lines(self, task, output, patient=patient)
        return trajectory_fan(self, task, output, patients=() if patient is None else (patient,))


class InteractionFrame(ResultFrame):
    """Of `MultiModN.interactions`: a map of modalities by modalities."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns the map of ``patient``, or the mean of all."""
        from multimodn.explain.interactions import synergy  # PyTorch takes a second to load

        require_columns(self, INTERACTIONS, "interactions")
        rows = select_output(self, task, output).rows
        shares = synergy(rows if patient is None else rows_of_patient(rows, patient))
        return interaction_map(self, task, output, synergy=shares, patient=patient)


class SynergyFrame(ResultFrame):
    """Of `MultiModN.synergy`: the share of interaction in each task."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns a row for each task and output."""
        self._refuse_patient(patient)
        return synergy_chart(self._of_output(output), task)


class OrderFrame(ResultFrame):
    """Of `MultiModN.order_sensitivity`: how far predictions depend on the order of modalities."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns a row for each task and output."""
        rows = self._of_output(output)
        return order_spread(rows if patient is None else rows_of_patient(rows, patient), task)


class ValueFrame(ResultFrame):
    """Of `MultiModN.value_of`: how much better predictions are with each modality."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns a panel for each task and metric; ``output`` names a metric."""
        self._refuse_patient(patient)
        return value_chart(self, task, output)


class NextFrame(ResultFrame):
    """Of `MultiModN.next`: what to measure next."""

    def picture(self, *, patient: object | None = None, task: str | None = None, output: str | None = None) -> Picture:
        """Returns the ranks of ``patient``, or how often each modality is first; ``output`` is not used."""
        return next_chart(self, task, patient=patient)


class AttributionFrame(ResultFrame, AttributedFrame):
    """Of `MultiModN.attributions`: attributions inside a modality."""

    _metadata = AttributedFrame._metadata

    def picture(
        self,
        *,
        patient: object | None = None,
        task: str | None = None,
        output: str | None = None,
        modality: str | None = None,
        as_text: bool = False,
    ) -> Picture:
        """Returns the largest attributions in ``modality`` (default: the first); of a text, ``as_text``, its words."""
        figure = word_strip if as_text else attribution_bars
        return figure(self, task, output, modality=modality, patient=patient)

    def plot(  # type: ignore[override]
        self,
        *,
        patient: object | None = None,
        task: str | None = None,
        output: str | None = None,
        theme: ThemeName = "light",
        modality: str | None = None,
        as_text: bool = False,
    ) -> Figure:
        """Draws `picture`, with title and caption; see `ResultFrame.plot`."""
        picture = self.picture(patient=patient, task=task, output=output, modality=modality, as_text=as_text)
        return draw(picture, theme)


def draw(picture: Picture, theme: str = "light") -> Figure:
    """Draws a picture with its title and caption in the theme ``light`` or ``dark``."""
    themes = {"light": LIGHT, "dark": DARK}
    if theme not in themes:
        raise StudyError(f"Unknown theme '{theme}'.{did_you_mean(theme, themes)}")
    return picture.figure(themes[theme], is_titled=True)
