"""Concordance indices and the integrated Brier score of survival predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multimodn.metrics.scores import NAN, Codes, Floats

Flags = NDArray[np.bool_]


def concordance(risk: Floats, time: Floats, event: Flags, weight: Floats | None = None) -> float:
    """Returns Harrell's concordance index; NaN if no two patients can be compared.

    A pair is comparable if one patient has the event while the other is known to be free of it: its time is
    later, or the same and censored. Equal risks count a half. Takes n log n steps, so that a biobank can be
    scored.

    Args:
        risk: A number that is higher the earlier the event is expected ``(n,)``.
        time: Time of event or censoring ``(n,)``.
        event: Whether the event happened ``(n,)``.
        weight: Weight of the pairs in which a patient is the one with the event ``(n,)``; default: 1.

    References:
        Harrell, Lee and Mark (1996),
        https://doi.org/10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4
    """
    order = np.lexsort((~event, time))  # at equal times the events come first
    time, event = time[order], event[order]
    ranks = np.unique(risk, return_inverse=True)[1][order].astype(np.int64)
    next_time = np.searchsorted(time, time, side="right")
    censored_before = np.concatenate([[0], np.cumsum(~event)])
    first = np.searchsorted(time, time, side="left")
    starts = next_time - (
        censored_before[next_time] - censored_before[first]
    )  # censored at the same time are comparable
    starts, own = starts[event], ranks[event]
    each = np.ones(len(own)) if weight is None else weight[order][event]
    pairs = each @ (len(time) - starts)
    if not pairs:
        return NAN
    lower, up_to = _count_below(ranks, starts, own), _count_below(ranks, starts, own + 1)
    return float(each @ (lower + up_to) / (2 * pairs))


def uno_concordance(risk: Floats, time: Floats, event: Flags, until: float) -> float:
    """Returns Uno's concordance index; NaN if no two patients can be compared.

    Unlike Harrell's it does not depend on who is censored when: pairs are weighted by the squared inverse of the chance
    of not being censored before the event, from the Kaplan-Meier curve of the censoring times of the same rows.

    Args:
        risk: A number that is higher the earlier the event is expected ``(n,)``.
        time: Time of event or censoring ``(n,)``.
        event: Whether the event happened ``(n,)``.
        until: Events before this time count, as weights become large late.

    References:
        Uno, Cai, Pencina, D'Agostino and Wei (2011), https://doi.org/10.1002/sim.4154
    """
    uncensored = _uncensored(time, event, time, "left")
    is_counted = event & (time < until)
    weight = np.divide(1.0, uncensored**2, out=np.zeros_like(time), where=is_counted)
    return concordance(risk, time, event, weight)


def _count_below(ranks: Codes, starts: Codes, limits: Codes) -> Codes:
    """Counts for each query the positions p >= start with ranks[p] < limit, by a wavelet matrix.

    From the highest bit of the ranks down: positions are stably sorted by that bit, and a query follows the
    bit of its limit; where that is 1, the positions of its range with a 0 are below the limit.
    """
    begin, end = starts.copy(), np.full_like(starts, len(ranks))
    below = np.zeros_like(starts)
    for bit in reversed(range(int(ranks.max() + 1).bit_length())):
        is_one = (ranks >> bit & 1).astype(bool)
        zeros_before = np.concatenate([[0], np.cumsum(~is_one)])
        up = (limits >> bit & 1).astype(bool)
        begin_zeros, end_zeros = zeros_before[begin], zeros_before[end]
        below += np.where(up, end_zeros - begin_zeros, 0)
        begin = np.where(up, zeros_before[-1] + begin - begin_zeros, begin_zeros)
        end = np.where(up, zeros_before[-1] + end - end_zeros, end_zeros)
        ranks = np.concatenate([ranks[~is_one], ranks[is_one]])
    return below


def integrated_brier(survival: Floats, edges: Floats, time: Floats, event: Flags) -> float:
    """Returns the Brier score of survival curves, averaged over time; NaN if nothing can be scored.

    The average is trapezoidal. Censored patients are made up for by inverse-probability-of-censoring weights,
    from the Kaplan-Meier curve of the censoring times of the same rows. Edges after the last observed time
    cannot be scored and are left out.

    Args:
        survival: Chance of no event up to each edge ``(n, J)``.
        edges: Times, increasing ``(J,)``.
        time: Time of event or censoring ``(n,)``.
        event: Whether the event happened ``(n,)``.

    References:
        Graf, Schmoor, Sauerbrei and Schumacher (1999),
        https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5
    """
    scored = edges < time.max(initial=-np.inf)
    edges, survival = edges[scored], survival[:, scored]
    if not edges.size:
        return NAN
    at_event, at_edge = _uncensored(time, event, time, "left"), _uncensored(time, event, edges, "right")
    weight = np.divide(event, at_event, out=np.zeros_like(time), where=event)
    died = (time[:, None] <= edges) * weight[:, None] * survival**2
    alive = (time[:, None] > edges) / at_edge * (1 - survival) ** 2
    score = (died + alive).mean(0)
    if len(edges) == 1:
        return float(score[0])
    return float(np.trapezoid(score, edges) / (edges[-1] - edges[0]))


def _uncensored(time: Floats, event: Flags, at: Floats, side: str) -> Floats:
    """Returns the Kaplan-Meier chance of not being censored by the times ``at``.

    ``right`` counts censoring at the very time as censored, ``left`` does not.

    At equal times events come before censoring, so who has the event is not at risk of being censored then.
    """
    order = np.lexsort((~event, time))
    at_risk = np.arange(len(time), 0, -1)
    chance = np.concatenate([[1.0], np.cumprod(1 - ~event[order] / at_risk)])
    found: Floats = chance[np.searchsorted(time[order], at, side=side)]  # type: ignore[call-overload]
    return found
