"""The trials of a search, in an SQLite file of Optuna that stays valid when a search is killed."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from multimodn.files import make_folder
from multimodn.study.folder import check_unchanged, check_unused
from multimodn.tune.objective import CheckScore, FoldScore, PatientLosses, TaskScore
from multimodn.tune.space import Setting, Space

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

FILE = "search.db"
N_RANDOM = 8  # trials drawn at random, the study's own settings among them, before TPE proposes
N_UNPRUNED = 4  # complete trials before a trial may be stopped early
INTERRUPTED = "interrupted"


@dataclass
class Clock:
    """The time used by a search, over all its calls, in seconds."""

    limit: float  # infinite = none
    before: float = 0.0  # what earlier calls used
    started: float = field(default_factory=time.monotonic)

    def used(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self.started

    def has(self, reserve: float = 0.0) -> bool:
        """Whether there is time left beside ``reserve`` seconds."""
        return self.used() + reserve < self.limit


class History:
    """The trials of a new or resumed search in a folder.

    Proposals depend on the seed and on the trials that ended by themselves, so that a search that was killed and
    resumed makes the same proposals. ``fingerprint``: what must not change between calls, by name.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str], space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed = space, seed
        if not (folder / FILE).exists():
            check_unused(folder, "search")
        make_folder(folder)
        self._states = optuna.trial.TrialState
        self._storage = _open(folder / FILE)
        try:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=N_UNPRUNED, n_warmup_steps=1)
            to_maximise: dict[str, Any] = {"direction": "maximize", "load_if_exists": True, "pruner": pruner}
            self._study = optuna.create_study(storage=self._storage, study_name="tune", **to_maximise)
            stored = self._study.user_attrs.get("fingerprint")
            if stored is None:
                self._study.set_user_attr("fingerprint", dict(fingerprint))
            else:
                check_unchanged(folder, "search", stored, fingerprint)
            for trial in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
                self.interrupt(trial)  # left running by a killed process
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        from optuna.storages import RDBStorage

        self._storage.remove_session()
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that have started."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state != self._states.WAITING]

    @property
    def ended(self) -> list[FrozenTrial]:
        """Trials that ended by themselves: complete, stopped early, or failed with an error."""
        return [trial for trial in self.trials if trial.state.is_finished() and INTERRUPTED not in trial.user_attrs]

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials that were scored on all folds."""
        return [trial for trial in self.trials if trial.state == self._states.COMPLETE]

    def finalists(self) -> tuple[FrozenTrial | None, FrozenTrial | None]:
        """The trial of the study's own settings and the best trial; None if there is none yet."""
        complete = sorted(self.complete, key=lambda trial: trial.number)
        best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
        return (complete[0] if complete else None), best

    def default_folds(self) -> list[dict[str, TaskScore]] | None:
        """The scores of the study's own settings; None before that trial is complete."""
        default, _ = self.finalists()
        return None if default is None else read_folds(default.user_attrs["folds"])

    @property
    def seconds(self) -> float:
        """Time used so far, as last written."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def write_seconds(self, used: float) -> None:
        """Stores the time used."""
        self._study.set_user_attr("seconds", used)

    def ask(self) -> tuple[Trial, dict[str, Setting]]:
        """Starts a trial, the study's own settings first."""
        import optuna

        n_ended = len(self.ended)
        seed = int(np.random.SeedSequence([self.seed, n_ended]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_RANDOM)
        if n_ended == 0 and not self._study.get_trials(deepcopy=False, states=(self._states.WAITING,)):
            self._study.enqueue_trial(dict(self.space.default))
        trial = self._study.ask()
        return trial, self.space.suggest(trial)

    def complete_trial(self, trial: Trial, value: float) -> None:
        """Ends a trial that was scored on all folds."""
        self._study.tell(trial, value)

    def prune(self, trial: Trial) -> None:
        """Ends a trial that the pruner stopped."""
        self._study.tell(trial, state=self._states.PRUNED)

    def refuse(self, trial: Trial, error: str) -> None:
        """Ends a trial whose settings cannot be trained; they are not tried again."""
        trial.set_user_attr("error", error)
        self._study.tell(trial, state=self._states.FAIL)

    def interrupt(self, trial: Trial | FrozenTrial) -> None:
        """Ends a trial for which there was no time; the next call tries the same settings."""
        self._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        self._study.tell(trial.number, state=self._states.FAIL)

    def checks(self, number: int) -> list[CheckScore]:
        """The losses of the patients kept for the check, after each training of a trial's settings so far."""
        stored = json.loads(self._study.user_attrs.get(f"check {number}", "[]"))
        return [{name: PatientLosses(**losses) for name, losses in score.items()} for score in stored]

    def write_checks(self, number: int, scores: Sequence[CheckScore]) -> None:
        """Stores the losses of the patients kept for the check."""
        content = [{name: asdict(losses) for name, losses in score.items()} for score in scores]
        self._study.set_user_attr(f"check {number}", json.dumps(content))


def write_folds(folds: Sequence[FoldScore]) -> str:
    """Writes the scores of folds as JSON."""
    return json.dumps([{name: asdict(score) for name, score in fold.items()} for fold in folds])


def read_folds(text: str) -> list[dict[str, TaskScore]]:
    """Reads what `write_folds` wrote."""
    return [{name: TaskScore(**score) for name, score in fold.items()} for fold in json.loads(text)]


def _open(file: Path) -> BaseStorage:
    """Opens the file with a write-ahead log, which survives a kill."""
    from optuna.storages import RDBStorage

    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return RDBStorage(f"sqlite:///{file.absolute()}")
