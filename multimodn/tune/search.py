"""Searches for the settings of a study by cross-validation among its training and validation patients."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodn.data.cohort import Cohort
from multimodn.data.splits import folds, make_split, stratifying_task
from multimodn.errors import MissingExtraError, MultiModNError, StudyError
from multimodn.study.study import Study
from multimodn.tune.history import Clock, History, write_folds
from multimodn.tune.objective import FoldScore, score_fold, score_patients, skill
from multimodn.tune.outcome import Checked, Protocol, Tuned, conclude
from multimodn.tune.space import Setting, Space, build_space, places_of

if TYPE_CHECKING:
    from optuna.trial import Trial

N_PARTS = 4  # parts of the patients, one of which is kept for the check


@dataclass(frozen=True)
class Moment:
    """The progress of a search, reported before each fold."""

    trial: int
    fold: int  # the trial's fold that starts, from 0
    n_folds: int  # folds of the search, on whose training patients finalists are trained for the check
    is_check: bool  # whether finalists are compared on the patients kept for that
    used: float  # seconds
    default: float | None  # skill of the study's own settings; None = not scored yet
    best: float | None  # best skill so far; None = none yet


def tune(
    study: Study, cohort: Cohort | None = None, folder: Path = Path("tune"),
    *, time_s: float | None = 300.0, n_trials: int | None = None, seed: int = 0, n_folds: int = 3, members: int = 1,
    space: Mapping[str, Any] | None = None, on_fold: Callable[[Moment], None] | None = None,
) -> Tuned:  # fmt: skip
    """Searches for better settings of a study; the same call continues after an interruption.

    Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) proposes settings, the study's own first. All
    trials use the same folds, by group, of three quarters of the training and validation patients of the study's split;
    its test patients are not used. The objective is the mean over tasks of 1 - loss / loss of the prior on held-out
    patients (`multimodn.tune.objective.skills`). After two folds a trial may be stopped, if it gains less over the
    study's own settings than the median trial.

    As the best of many trials is partly the luckiest, it replaces the study's own settings only if it is also better on
    the last quarter of the patients (by group, stratified), whom no trial sees. For that check time is kept: models of
    both are trained on each fold's training patients, and the loss must be lower by more than chance, see
    `multimodn.tune.outcome.check_p`.

    Writes ``best.yaml`` (a study for `multimodn fit`), ``trials.csv``, ``search.json`` and ``search.db`` (of Optuna).

    Args:
        study: What to improve.
        cohort: Its patients; default: those of the study's sources.
        folder: Where to write; a search in it is continued.
        time_s: Seconds, including earlier calls, after which no fold starts; None: no limit.
        n_trials: Number of trials, including earlier calls; None: no limit.
        seed: Of folds and proposals. Without a time limit the result depends on nothing else.
        n_folds: Folds of the cross-validation.
        members: Networks per trial; the best study keeps its own number.
        space: See `multimodn.tune.space.build_space`; default: `default_space`.
        on_fold: Called before each fold.

    Raises:
        StudyError: If the space or the limits are wrong, or the folder holds another search.
        DataError: If the study's own settings cannot be trained on the folds.
        MissingExtraError: If Optuna is not installed.

    References:
        Bergstra, Bardenet, Bengio and Kegl (2011), Algorithms for hyper-parameter optimization, NeurIPS.
        Akiba et al. (2019), Optuna, https://doi.org/10.1145/3292500.3330701
        Cawley and Talbot (2010), On over-fitting in model selection, JMLR 11: why the best score is optimistic.
    """
    _check_limits(time_s, n_trials, members, n_folds)
    try:
        import_module("optuna")
    except ImportError as error:
        raise MissingExtraError("Searching for settings", "tune", error) from None
    clock = Clock(math.inf if time_s is None else time_s)
    cohort = Cohort.load(study) if cohort is None else cohort
    split = make_split(study, cohort)
    development = cohort.subset([*split.train, *split.validation])
    widths = {each.name: cohort.modalities[each.step_names[0]].shape[1] for each in study.modalities}
    dimensions = default_space(study, widths) if space is None else build_space(study, space, widths)
    protocol = Protocol(seed, n_folds, members, dimensions, cohort.hash(), split.hash(), time_s, n_trials)
    stratify = getattr(study.split, "stratify", None)
    apart = next(folds(development, N_PARTS, seed=seed, stratify=stratifying_task(study)))
    searched, checked = map(development.subset, apart)
    pairs = folds(searched, n_folds, seed=seed, stratify=stratify)
    parts = [(searched.subset(kept), searched.subset(held_out)) for kept, held_out in pairs]
    import_module("multimodn.training.module")  # now, as its time would count as that of the first trial
    with History(folder, fingerprint(study, protocol), dimensions, seed) as history:
        clock.before = history.seconds
        search = _Search(study, protocol, parts, checked, history, clock, on_fold)
        search.run()
        search.check_finalists()
        return conclude(study, protocol, history, Checked.of(checked, searched), clock.used(), folder)


def fingerprint(study: Study, protocol: Protocol) -> dict[str, str]:
    """Returns what must not change between calls of a search: study, data, space and scoring of trials."""
    return {
        "the study": hashlib.sha256(study.to_yaml().encode()).hexdigest(),
        "the data": protocol.data_hash,
        "the split": protocol.split_hash,
        "the space": hashlib.sha256(json.dumps(protocol.space.to_dict()).encode()).hexdigest(),
        "--seed": str(protocol.seed),
        "--folds": str(protocol.n_folds),
        "--members": str(protocol.members),
        "how the best is checked": f"on one of {N_PARTS} parts of the patients",
    }


class _Search:
    """The two rounds of a search: trials on the folds ``parts``, then the check on patients in none of them."""

    def __init__(
        self, study: Study, protocol: Protocol, parts: Sequence[tuple[Cohort, Cohort]], checked: Cohort,
        history: History, clock: Clock, on_fold: Callable[[Moment], None] | None,
    ) -> None:  # fmt: skip
        self.study, self.protocol, self.history, self.clock = study, protocol, history, clock
        self.parts, self.checked, self.on_fold = parts, checked, on_fold

    def run(self) -> None:
        """Tries settings until the trials or the time are used up."""
        wanted = self.protocol.n_trials
        while (wanted is None or len(self.history.ended) < wanted) and self.clock.has(self._reserve()):
            if not self._try(*self.history.ask()):
                return

    def check_finalists(self) -> None:
        """Scores the best trial and the study's own settings on the patients kept for that, while there is time."""
        default, best = self.history.finalists()
        if default is None or best is None or default.number == best.number:
            return
        for fold, (training, _) in enumerate(self.parts):
            for trial in (best, default):
                scores = self.history.checks(trial.number)
                if len(scores) > fold:
                    continue
                if not self.clock.has():
                    return
                self._report(trial.number, fold, is_check=True)
                scores.append(score_patients(self._applied(trial.params), training, self.checked))
                self.history.write_checks(trial.number, scores)
                self.history.write_seconds(self.clock.used())

    def _try(self, trial: Trial, settings: Mapping[str, Setting]) -> bool:
        """Runs a trial; returns whether there was time to end it."""
        default = self.history.default_folds()
        done: list[FoldScore] = []
        started = self.clock.used()
        for fold, part in enumerate(self.parts):
            spent = self.clock.used() - started
            if not self.clock.has(self._reserve(spent / fold if fold else 0.0)):
                self.history.interrupt(trial)
                return False
            self._report(trial.number, fold)
            try:
                done.append(score_fold(self._applied(settings), *part))
                value = skill(done)
                if not np.isfinite(value):
                    raise StudyError("with these settings the loss is not finite.")
            except MultiModNError as error:
                if not self.history.complete:  # the study itself is at fault
                    self.history.interrupt(trial)
                    raise
                self.history.refuse(trial, str(error))
                return True
            finally:
                self.history.write_seconds(self.clock.used())
            trial.set_user_attr("folds", write_folds(done))
            trial.set_user_attr("seconds", self.clock.used() - started)
            # relative to the study's own settings on the same folds, as folds differ in difficulty
            trial.report(value - (0.0 if default is None else skill(default[: fold + 1])), fold)
            if default is not None and fold + 1 < len(self.parts) and trial.should_prune():
                self.history.prune(trial)
                return True
        self.history.complete_trial(trial, value)
        return True

    def _applied(self, settings: Mapping[str, Setting]) -> Study:
        study = self.protocol.space.apply(self.study, settings)
        changes = {"members": self.protocol.members, "loggers": ["csv"]}
        return study.model_copy(update={"training": study.training.model_copy(update=changes)})

    def _reserve(self, per_fold: float = 0.0) -> float:
        """Seconds that the check of the finalists will take; ``per_fold``: seconds of the current trial."""
        complete = self.history.complete
        if not complete:
            return 0.0
        seconds = [float(trial.user_attrs["seconds"]) for trial in complete]
        return seconds[0] + max(*seconds, per_fold * self.protocol.n_folds)

    def _report(self, trial: int, fold: int, *, is_check: bool = False) -> None:
        self.history.write_seconds(self.clock.used())  # a killed search loses the time of one fold at most
        if self.on_fold is None:
            return
        default, best = self.history.finalists()
        values = [None if one is None else one.value for one in (default, best)]
        self.on_fold(Moment(trial, fold, self.protocol.n_folds, is_check, self.clock.used(), *values))


def _check_limits(time_s: float | None, n_trials: int | None, members: int, n_folds: int) -> None:
    if time_s is None and n_trials is None:
        raise StudyError("Limit the search: give a time or a number of trials.")
    if time_s is not None and not time_s > 0:
        raise StudyError(f"The time of a search must be a positive number of seconds, found {time_s}.")
    if n_trials is not None and n_trials < 1:
        raise StudyError(f"A search needs at least one trial, found {n_trials}.")
    if n_folds < 2:
        raise StudyError(f"A cross-validation needs at least two folds, found {n_folds}.")
    if not 1 <= members <= 100:
        raise StudyError(f"A trial must train 1 to 100 networks, found {members}.")


def default_space(study: Study, widths: Mapping[str, int]) -> Space:
    """Returns the default space, the study's own values in it; ``widths``: number of columns of each modality."""
    epochs, penalty = study.training.epochs, study.training.penalty
    penalties: Any = {"low": 0.01, "high": 30.0, "log": True} if penalty > 0 else [0.0, 0.03, 0.3, 3.0, 30.0]
    wanted = {
        "training.penalty": penalties,
        "training.learning_rate": {"low": 5e-4, "high": 2e-2, "log": True},
        "training.epochs": {"low": max(epochs // 2, 1), "high": 2 * epochs, "log": True},
        "training.batch_size": [16, 32, 64, 128],
        "training.state_size": [8, 16, 32, 64],
        "training.update": ["residual", "product", "gated"],
        "modalities.*.dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
        "modalities.*.n_layers": [0, 1, 2],
        "modalities.*.n_components": [4, 8, 16, 32],
    }
    given = {name: range_ for name, range_ in wanted.items() if places_of(study, name, range_, widths) is not None}
    return build_space(study, given, widths)
