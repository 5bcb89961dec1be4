"""What a search found, in words and files: the best study, all trials, and a record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.files import write_text
from multimodn.study.study import Study
from multimodn.tune.history import INTERRUPTED, History, read_folds
from multimodn.tune.objective import metrics, skill, skills
from multimodn.tune.relocate import relocated, unfollowed
from multimodn.tune.space import KEEP, Setting, Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST, TRIALS, RECORD = "best.yaml", "trials.csv", "search.json"
OBJECTIVE = "mean over tasks of 1 - loss / loss of the prior, of held-out patients"


@dataclass(frozen=True)
class Protocol:
    """How trials are proposed and scored, and until when."""

    seed: int
    n_folds: int
    members: int
    space: Space
    data_hash: str
    split_hash: str
    time_s: float | None
    n_trials: int | None


@dataclass(frozen=True)
class Record:
    """A search in numbers; skills are those of `multimodn.tune.objective.skill`.

    Attributes:
        objective: What was maximised.
        seed: Of folds and proposals.
        n_folds: Parts of a deal.
        members: Networks that a trial trained.
        versions: Of Python and the packages that numbers depend on.
        data_hash: Of the cohort.
        split_hash: Of the study's split, whose test patients nothing saw.
        n_complete: Trials that saw all folds, the study's own settings among them.
        n_pruned: Trials that were stopped early.
        n_failed: Trials that were interrupted or refused by an error.
        time_s: Seconds used, over all calls.
        time_limit_s: Seconds that were allowed.
        best_trial: Number of the trial with the highest skill on the first deal; None = none is complete.
        default_skill: Of the study's own settings on the first deal.
        best_skill: Of the best trial on the first deal, by which it was chosen: optimistic.
        default_second: Of the study's own settings on the second deal.
        best_second: Of the best trial on the second deal, which had no part in the choice.
        is_better: Whether the best trial takes the place of the study's own settings.
        settings: Its settings, or the study's own.
        verdict: All this in a sentence or two.
    """

    objective: str
    seed: int
    n_folds: int
    members: int
    versions: dict[str, str]
    data_hash: str
    split_hash: str
    n_complete: int
    n_pruned: int
    n_failed: int
    time_s: float
    time_limit_s: float | None
    best_trial: int | None
    default_skill: float | None
    best_skill: float | None
    default_second: float | None
    best_second: float | None
    is_better: bool
    settings: dict[str, Setting]
    verdict: str


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        study: The best study, with the study's own folder and number of members; the study itself if nothing is better.
        trials: A row for each trial: ``trial, state, skill, folds, seconds``, its settings, then for each task
            ``skill: task`` and ``metric: task`` (its main metric, averaged over folds).
        comparison: The best trial and the study's own settings, fold by fold: ``deal`` (1 or 2), ``fold, default,
            best, difference``. Empty if they are the same.
        record: Numbers and a verdict.
    """

    study: Study
    trials: pd.DataFrame
    comparison: pd.DataFrame
    record: Record


def conclude(study: Study, protocol: Protocol, history: History, used: float, folder: Path) -> Tuned:
    """Decides whether anything is better than the study as it stands, and writes what was found."""
    from multimodn.training.provenance import versions

    default, best = history.finalists()
    compared = _comparison(history, default, best, protocol.n_folds)
    seconds = {}
    for name, trial in (("default", default), ("best", best)):
        scores = [] if trial is None else history.second_folds(trial.number)
        seconds[name] = skill(scores) if len(scores) == protocol.n_folds else None
    is_better = _is_better(default, best, seconds["default"], seconds["best"])
    settings = dict(best.params) if is_better and best is not None else dict(protocol.space.default)
    states = [str(trial.state.name) for trial in history.trials]
    record = Record(
        OBJECTIVE, protocol.seed, protocol.n_folds, protocol.members,
        versions() | _optuna_version(), protocol.data_hash, protocol.split_hash,
        states.count("COMPLETE"), states.count("PRUNED"), states.count("FAIL"),
        round(used, 1), protocol.time_s,
        None if best is None else best.number,
        None if default is None else default.value,
        None if best is None else best.value,
        seconds["default"], seconds["best"], is_better, settings, "",
    )  # fmt: skip
    record = replace(record, verdict=_verdict(record, default, best))
    found = Tuned(
        protocol.space.apply(study, settings) if is_better else study,
        trials_frame(history, protocol.space),
        compared,
        record,
    )
    _write(study, found, folder)
    return found


def trials_frame(history: History, space: Space) -> pd.DataFrame:
    """Tabulates the trials; see `Tuned`."""
    rows = []
    for trial in history.trials:
        folds = read_folds(trial.user_attrs.get("folds", "[]"))
        state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        rows.append(
            {
                "trial": trial.number,
                "state": "interrupted" if INTERRUPTED in trial.user_attrs else state,
                "skill": skill(folds) if folds else np.nan,
                "folds": len(folds),
                "seconds": round(float(trial.user_attrs.get("seconds", np.nan)), 2),
                **{one.name: trial.params.get(one.name) for one in space.dimensions},
                **{f"skill: {name}": value for name, value in skills(folds).items()},
                **{f"metric: {name}": value for name, value in metrics(folds).items()},
                "error": trial.user_attrs.get("error", ""),
            }
        )
    frame = pd.DataFrame(rows)
    return frame[[*frame.columns.drop("error"), "error"]] if len(frame) else frame


def _comparison(history: History, default: FrozenTrial | None, best: FrozenTrial | None, n_folds: int) -> pd.DataFrame:
    rows = []
    if default is not None and best is not None and default.number != best.number:
        deals: list[tuple[list[Any], list[Any]]] = [
            (read_folds(default.user_attrs["folds"]), read_folds(best.user_attrs["folds"])),
            (history.second_folds(default.number), history.second_folds(best.number)),
        ]
        for deal, (own, other) in enumerate(deals, 1):
            for fold, (one, two) in enumerate(zip(own, other, strict=False)):
                rows.append((deal, fold, skill([one]), skill([two])))
    frame = pd.DataFrame(rows, columns=["deal", "fold", "default", "best"])
    return frame.assign(difference=frame["best"] - frame["default"])


def _is_better(
    default: FrozenTrial | None, best: FrozenTrial | None, default_second: float | None, best_second: float | None
) -> bool:
    if default is None or best is None or default.value is None or best.value is None:
        return False
    if default_second is None or best_second is None:
        return False
    return best.value > default.value and best_second > default_second


def _verdict(record: Record, default: FrozenTrial | None, best: FrozenTrial | None) -> str:
    if default is None or best is None:
        return (
            "There was no time to score the study as it stands; best.yaml is the study as it stands. Run the same "
            "command with more time to go on."
        )
    others = record.n_complete + record.n_pruned - 1
    if not others:
        took = default.user_attrs["seconds"]
        return (
            f"There was no time to try other settings: one trial takes about {took:.0f} s, and twice that is kept to "
            f"check the best. best.yaml is the study as it stands. Run the same command with more time to go on."
        )
    if best.number == default.number:
        who = f"None of {others} other trials" if others > 1 else "The other trial did not"
        return f"{who} beat the study as it stands, which best.yaml is."
    first = f"{record.best_skill:.4f} against {record.default_skill:.4f} of the study as it stands"
    if record.best_second is None or record.default_second is None:
        return (
            f"Trial {best.number} scored {first} on the folds by which it was chosen, which is optimistic. There was "
            f"no time to check it on other folds, so best.yaml is the study as it stands. Run the same command with "
            f"more time to go on."
        )
    second = f"{record.best_second:.4f} against {record.default_second:.4f} on folds that had no part in the choice"
    if not record.is_better:
        return (
            f"Nothing beat the study as it stands, which best.yaml is: trial {best.number} scored {first} on the folds "
            f"by which it was chosen, but {second}."
        )
    return (
        f"Trial {best.number} is better: {first} on the folds by which it was chosen, which is optimistic, and "
        f"{second}. The same patients stand in both; only the test patients, whom nothing here saw, tell what it is "
        f"worth."
    )


def _optuna_version() -> dict[str, str]:
    import optuna

    return {"optuna": str(optuna.__version__)}


def _write(study: Study, found: Tuned, folder: Path) -> None:
    record, compared = found.record, found.comparison
    text = "".join(f"# {line}\n" for line in _heading(study, record))
    write_text(folder / BEST, text + relocated(found.study, folder.absolute()).to_yaml())
    write_text(folder / TRIALS, found.trials.to_csv(index=False))
    gains = {f"deal {deal}": float(part["difference"].mean()) for deal, part in compared.groupby("deal")}
    content = {**asdict(record), "mean_difference": gains, "comparison": compared.to_dict("records")}
    write_text(folder / RECORD, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _heading(study: Study, record: Record) -> list[str]:
    """The comments at the top of the best study."""
    changed = {name: value for name, value in record.settings.items() if record.is_better and value != KEEP}
    lines = [
        f"Written by `multimodn tune` for study '{study.name}': seed {record.seed}, {record.n_folds} folds.",
        f"Trials: {record.n_complete} complete, {record.n_pruned} pruned, {record.n_failed} interrupted or refused, of "
        f"{record.members} network(s) each, in {record.time_s:.0f} s.",
        f"Score: {record.objective}.",
        record.verdict,
        *(f"  {name}: {value}" for name, value in changed.items()),
    ]
    cells = unfollowed(study)
    if cells:
        start = study.folder.absolute()
        lines.append(f"Paths in the cells of {', '.join(cells)} start in {start}: move this file there.")
    return lines
