"""Metrics of censored times for many weightings of the same patients at once.

Censored patients are made up for by inverse-probability-of-censoring weights (IPCW). These come from the Kaplan-Meier
curve of the censoring times of the patients who are scored, not of training patients, and are estimated anew in each
resample; censoring is taken to be independent of everything. Everything is NaN where it is undefined.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multimodn.findings.names import middle
from multimodn.metrics import classification
from multimodn.metrics.classification import CLOSE, FEWEST_EACH, LARGEST_STEP, MOST_STEPS, is_constant
from multimodn.metrics.predictions import Bools, Predicted, Score, undefined
from multimodn.metrics.ties import tied
from multimodn.statistics.bootstrap import Floats

Codes = NDArray[np.int64]


def observed(given: Predicted) -> tuple[Floats, Bools]:
    """Returns times and events of a survival task."""
    return given.truth[:, 0], given.truth[:, 1] > 0


def kaplan_meier(time: Floats, event: Bools, weights: Floats, at: Floats, side: str, *, of_censoring: bool) -> Floats:
    """Returns the chance of no event (or ``of_censoring``: of not being censored) by times ``at``, ``(R, k)``.

    At equal times events come before censoring, so who has the event is not at risk of being censored then. Times and
    events are ``(n,)``, weights ``(R, n)``; ``side`` ``right`` counts what happens at the very time, ``left`` does not.
    """
    order = np.lexsort((~event, time))
    drawn = weights[:, order]
    at_risk = drawn[:, ::-1].cumsum(1)[:, ::-1]
    leaves = drawn * (~event if of_censoring else event)[order]
    stays = 1 - np.divide(leaves, at_risk, out=np.zeros_like(drawn), where=at_risk > 0)
    curve = np.pad(stays.cumprod(1), ((0, 0), (1, 0)), constant_values=1.0)
    places: NDArray[np.int64] = np.searchsorted(time[order], at, side=side)  # type: ignore[call-overload]
    chances: Floats = curve[:, places]
    return chances


def _event_weights(time: Floats, event: Bools, weights: Floats) -> Floats:
    """Weights over the chance of not being censored before the own event, ``(R, n)``; 0 for the censored."""
    uncensored = kaplan_meier(time, event, weights, time, "left", of_censoring=True)
    counted = weights * event
    inverse: Floats = np.divide(counted, uncensored, out=np.zeros_like(weights), where=counted > 0)
    return inverse


def harrell(given: Predicted) -> Score:
    """Harrell's concordance index; NaN if no two patients can be compared.

    A pair is comparable if one patient has the event while the other is known to be free of it: its time is later, or
    the same and censored. Equal risks count a half.

    References:
        Harrell, Lee and Mark (1996),
        https://doi.org/10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4
    """
    if not len(given.link):
        return undefined
    concordance = _concordance(given)
    return lambda weights: concordance(weights, weights)


def uno(given: Predicted) -> Score:
    """Uno's concordance index of events before the last time that the task knows, as weights become large late.

    Unlike Harrell's it does not depend on who is censored when: pairs are weighted by the squared inverse of the chance
    of not being censored before the event, from the Kaplan-Meier curve of the censoring times of the same patients.

    References:
        Uno, Cai, Pencina, D'Agostino and Wei (2011), https://doi.org/10.1002/sim.4154
    """
    if not len(given.times) or not len(given.link):
        return undefined
    (time, event), concordance = observed(given), _concordance(given)

    def score(weights: Floats) -> Floats:
        squares = _event_weights(time, event, weights) ** 2
        own = np.divide(squares, weights, out=np.zeros_like(weights), where=weights > 0)
        return concordance(weights, own * (time < given.times[-1]))

    return score


def _concordance(given: Predicted) -> Callable[[Floats, Floats], Floats]:
    """Prepares a concordance index in n log n steps, as a function of weights ``(R, n)``.

    The second argument has the weights of patients as the one of a pair who has the event.
    """
    time, event = observed(given)
    order = np.lexsort((~event, time))  # at equal times the events come first
    time, event = time[order], event[order]
    ranks = np.unique(tied(given.link[:, 0]), return_inverse=True)[1][order].astype(np.int64)
    next_time, first = (np.searchsorted(time, time, side=side) for side in ("right", "left"))
    censored_before = np.concatenate([[0], np.cumsum(~event)])
    # comparable: everybody later, and who is censored at the same time
    starts = (next_time - (censored_before[next_time] - censored_before[first]))[event]

    def index(weights: Floats, own: Floats) -> Floats:
        drawn, own = weights[:, order], own[:, order[event]]
        later = np.pad(drawn[:, ::-1].cumsum(1)[:, ::-1], ((0, 0), (0, 1)))[:, starts]
        lower, up_to = (_weight_below(ranks, drawn, starts, ranks[event] + more) for more in (0, 1))
        with np.errstate(invalid="ignore"):
            result: Floats = (own * (lower + up_to)).sum(1) / (2 * (own * later).sum(1))
        return result

    return index


def _weight_below(ranks: Codes, weights: Floats, starts: Codes, limits: Codes) -> Floats:
    """Sums for each query the weights ``(R, n)`` of positions p >= start with ranks[p] < limit, by a wavelet matrix.

    From the highest bit of the ranks down: positions are stably sorted by that bit, and a query follows the bit of its
    limit; where that is 1, the positions of its range with a 0 are below the limit.
    """
    begin, end = starts.copy(), np.full_like(starts, len(ranks))
    below = np.zeros((len(weights), len(starts)))
    for bit in reversed(range(int(ranks.max() + 1).bit_length())):
        is_one = (ranks >> bit & 1).astype(bool)
        zeros_before = np.concatenate([[0], np.cumsum(~is_one)])
        up = (limits >> bit & 1).astype(bool)
        begin_zeros, end_zeros = zeros_before[begin], zeros_before[end]
        sums = np.pad((weights * ~is_one).cumsum(1), ((0, 0), (1, 0)))
        below[:, up] += sums[:, end[up]] - sums[:, begin[up]]
        begin = np.where(up, zeros_before[-1] + begin - begin_zeros, begin_zeros)
        end = np.where(up, zeros_before[-1] + end - end_zeros, end_zeros)
        moved = np.concatenate([np.flatnonzero(~is_one), np.flatnonzero(is_one)])
        ranks, weights = ranks[moved], weights[:, moved]
    return below


def aurocs_at(given: Predicted, times: Floats, weights: Floats) -> Floats:
    """Cumulative/dynamic time-dependent AUROC at some of ``given.times``, ``(R, len(times))``, for weights ``(R, n)``.

    Of those with the event by a time, and those without it until after it, the chance that the first have the lower
    predicted chance of survival up to that time; events are weighted by IPCW.

    References:
        Uno et al. (2007), https://doi.org/10.1198/016214507000000149; Hung and Chiang (2010),
        https://doi.org/10.1002/cjs.10046
    """
    time, event = observed(given)
    of_event, areas = _event_weights(time, event, weights), np.full((len(weights), len(times)), np.nan)
    for k, at in enumerate(times):
        is_case, survival = (time <= at) & event, given.survival[:, np.flatnonzero(given.times == at)[0]]
        if is_case.any() and (time > at).any():
            area = classification.auroc(log_hazard(survival), is_case)
            areas[:, k] = area(np.where(is_case, of_event, weights * (time > at)))
    return areas


def log_hazard(survival: Floats) -> Floats:
    """Turns chances of no event into logarithms of the cumulative hazard, on which scale their errors are alike."""
    logarithm: Floats = np.log(-np.log(np.clip(survival, 1e-300, 1 - 1e-16)))
    return logarithm


def auroc_over_time(given: Predicted) -> Score:
    """Mean of `aurocs_at` over the times of a task, weighted by the fall of the Kaplan-Meier curve before each.

    Times count by which somebody had the event, and after which somebody was followed.

    References:
        Lambert and Chevret (2016), https://doi.org/10.1177/0962280213515571
    """
    time, event = observed(given)
    times = given.times

    def score(weights: Floats) -> Floats:
        chance = kaplan_meier(time, event, weights, times, "right", of_censoring=False)
        areas = aurocs_at(given, times, weights)
        falls = -np.diff(chance, axis=1, prepend=1.0) * ~np.isnan(areas)
        total = falls.sum(1)
        return np.where(total > 0, (np.nan_to_num(areas) * falls).sum(1) / np.where(total > 0, total, 1.0), np.nan)

    return score if len(times) else undefined


def integrated_brier(given: Predicted) -> Score:
    """Brier score of survival curves, averaged over time by trapezoids; NaN if nothing can be scored.

    Censored patients are made up for by inverse-probability-of-censoring weights. Times after the last observed one
    cannot be scored and are left out.

    References:
        Graf, Schmoor, Sauerbrei and Schumacher (1999),
        https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5
    """
    time, event = observed(given)
    times = given.times[given.times < time.max(initial=-np.inf)]
    if not len(times):
        return undefined
    survival, widths = given.survival[:, : len(times)], np.diff(times)
    died, alive = (time[:, None] <= times) * survival**2, (time[:, None] > times) * (1 - survival) ** 2

    def score(weights: Floats) -> Floats:
        uncensored = kaplan_meier(time, event, weights, times, "right", of_censoring=True)
        is_scored = weights @ (time[:, None] > times) > 0
        later = np.divide(weights @ alive, uncensored, out=np.zeros_like(uncensored), where=is_scored)
        scores = (_event_weights(time, event, weights) @ died + later) / np.maximum(
            weights.sum(1, keepdims=True), 1e-300
        )
        widths_of = widths * is_scored[:, 1:]
        reach = widths_of.sum(1)
        area = ((scores[:, 1:] + scores[:, :-1]) / 2 * widths_of).sum(1)
        one = np.where(is_scored[:, 0], scores[:, 0], np.nan)
        return np.where(reach > 0, area / np.where(reach > 0, reach, 1), one)

    return score


def calibration_slope(given: Predicted) -> Score:
    """Slope of the event by the middle time on its predicted log-odds, see `by_time_weights`; 1 where calibrated."""
    return _at_middle(given, classification.calibration_slope)


def calibration_intercept(given: Predicted) -> Score:
    """Shift of the log-odds of the event by the middle time, see `by_time_weights`; 0 where calibrated."""
    return _at_middle(given, classification.calibration_intercept)


def _at_middle(given: Predicted, make: Callable[[Floats, Bools], Score]) -> Score:
    time, event = observed(given)
    if not len(given.times):
        return undefined
    k = middle(len(given.times))
    at, chance = float(given.times[k]), given.survival[:, k]
    if not enough_by(time, event, at):
        return undefined
    fit = make(event_log_odds(chance), (time <= at) & event)
    return lambda weights: fit(by_time_weights(time, event, at, weights))


def enough_by(time: Floats, event: Bools, at: float) -> bool:
    """Says whether `FEWEST_EACH` had the event by a time, and as many were followed longer without it."""
    return bool(min(((time <= at) & event).sum(), (time > at).sum()) >= FEWEST_EACH)


def event_log_odds(survival: Floats) -> Floats:
    """Turns chances of no event into log-odds of the event, within what double precision tells from 0 and 1."""
    chance = np.clip(survival, 1e-15, 1 - 1e-15)
    log_odds: Floats = np.log1p(-chance) - np.log(chance)
    return log_odds


def by_time_weights(time: Floats, event: Bools, at: float, weights: Floats) -> Floats:
    """Weights under which the event by a time is an outcome like any other, ``(R, n)``.

    Who had the event before counts by one over the chance of not being censored before it, who was followed longer by
    one over the chance of not being censored up to that time, and who was censored before not at all. No
    proportionality of hazards is assumed, unlike by the slope of a Cox model.

    References:
        The weights: Graf, Schmoor, Sauerbrei and Schumacher (1999),
        https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5
    """
    uncensored = kaplan_meier(time, event, weights, np.array([at]), "right", of_censoring=True)
    later = weights * (time > at)
    without_event = np.divide(later, uncensored, out=np.zeros_like(weights), where=later > 0)
    by_time: Floats = without_event + _event_weights(time, event, weights) * (time <= at)
    return by_time


def cox_slope(risk: Floats, time: Floats, event: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Fits a Cox model with one predictor for each weighting ``(R, n)``: Newton's method, ties by Breslow.

    The coefficient of the linear predictor of a Cox model is its calibration slope. Of a prediction whose hazards are
    not proportional, such as that of `multimodn.tasks.SurvivalTask`, it need not be 1 where that is calibrated.
    Coefficients and their standard errors ``(R,)`` are NaN where the likelihood has no maximum or ``risk`` is the same
    for everybody.

    References:
        Van Houwelingen (2000), https://doi.org/10.1002/1097-0258(20001230)19:24<3401::AID-SIM554>3.0.CO;2-2; Royston
        and Altman (2013), https://doi.org/10.1186/1471-2288-13-33
    """
    nothing, spread = np.full(len(weights), np.nan), float(risk.std())
    if is_constant(risk):
        return nothing, nothing
    order = np.argsort(-time, kind="stable")
    x, happened, weights = ((risk - risk.mean()) / spread)[order], event[order], weights[:, order]
    last = np.searchsorted(-time[order], -time[order], side="right") - 1  # of those who are still at risk
    beta, error = np.zeros(len(weights)), nothing.copy()
    going = np.flatnonzero((weights * happened).sum(1) > 0)
    for _ in range(MOST_STEPS):
        if not len(going):
            break
        step, information = _cox_step(x, happened, last, weights[going], beta[going])
        is_sound = information > 1e-9
        beta[going[is_sound]] += np.clip(step[is_sound], -LARGEST_STEP, LARGEST_STEP)
        is_done = is_sound & (np.abs(step) < CLOSE)
        error[going[is_done]] = information[is_done] ** -0.5
        going = going[is_sound & ~is_done]
    return np.where(np.isnan(error), np.nan, beta) / spread, error / spread


def _cox_step(
    x: Floats, happened: Bools, last: NDArray[np.int64], weights: Floats, beta: Floats
) -> tuple[Floats, Floats]:
    """Newton's step and the information, of patients from the latest time to the earliest."""
    share = weights * np.exp(np.clip(beta[:, None] * x, -200, 200))
    at = last[happened]
    total, first, second = ((share * x**k).cumsum(1)[:, at] for k in range(3))
    counted = weights[:, happened]
    is_there = (total > 0) & (counted > 0)
    mean = np.divide(first, total, out=np.zeros_like(total), where=is_there)
    square = np.divide(second, total, out=np.zeros_like(total), where=is_there)
    information: Floats = (counted * (square - mean**2)).sum(1)
    score = (counted * (x[happened] - mean)).sum(1)
    return score / np.where(information > 1e-9, information, 1.0), information
