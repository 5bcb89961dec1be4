"""The result of a search, in words and files: the best study, all trials, and a record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.splits import group_numbers
from multimodn.files import write_text
from multimodn.statistics.permutation import sign_flip_p
from multimodn.study.study import Study
from multimodn.training.provenance import versions
from multimodn.tune.history import INTERRUPTED, History, read_folds
from multimodn.tune.objective import CheckScore, metrics, patient_gains, skill, skills, summed
from multimodn.tune.relocate import relocated, unfollowed
from multimodn.tune.space import KEEP, Setting, Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST, TRIALS, RECORD = "best.yaml", "trials.csv", "search.json"
OBJECTIVE = "mean over tasks of 1 - loss / loss of the prior, of held-out patients"
CHECK_LEVEL = 0.1  # the share of searches in which a best trial that is no better may replace the study's own settings


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
    """A search in numbers; for skills see `multimodn.tune.objective.skill`."""

    objective: str  # what was maximised
    seed: int  # of folds and proposals
    n_folds: int  # folds of the search
    members: int  # networks per trial
    versions: dict[str, str]  # of Python and the packages that results depend on
    data_hash: str  # of the cohort
    split_hash: str  # of the study's split, whose test patients the search did not use
    n_complete: int  # trials that were scored on all folds, the study's own settings among them
    n_pruned: int  # trials that were stopped early
    n_failed: int  # trials that were interrupted or failed with an error
    time_s: float  # seconds used, over all calls
    time_limit_s: float | None  # seconds allowed
    best_trial: int | None  # number of the trial with the highest skill on the folds; None = none complete
    default_skill: float | None  # of the study's own settings on the folds
    best_skill: float | None  # of the best trial on the folds, by which it was chosen: optimistic
    n_searched: int  # patients of the folds
    n_checked: int  # patients kept for the check, whom no trial saw
    default_checked: float | None  # skill of the study's own settings on them
    best_checked: float | None  # skill of the best trial on them
    check_p: float | None  # one-sided p-value of their difference, see `check_p`
    is_better: bool  # whether it is at most `CHECK_LEVEL`, so that the best trial replaces the study's own settings
    settings: dict[str, Setting]  # its settings, or the study's own
    verdict: str  # the conclusion in one or two sentences


@dataclass(frozen=True)
class Tuned:
    """The result of a search.

    Attributes:
        study: The best study, with the study's own folder and number of members; the study itself if nothing is better.
        trials: A row for each trial: ``trial, state, skill, folds, seconds``, its settings, then for each task
            ``skill: task`` and ``metric: task`` (its main metric, averaged over folds).
        comparison: The best trial and the study's own settings by fold: ``part`` (``search``: the fold's held-out
            patients; ``check``: the patients kept for that, by the models of the fold's training patients), ``fold,
            default, best, difference``. Empty if they are the same.
        record: Numbers and a verdict.
    """

    study: Study
    trials: pd.DataFrame
    comparison: pd.DataFrame
    record: Record


@dataclass(frozen=True, eq=False)
class Checked:
    """The patients kept for the check."""

    groups: NDArray[np.int64]  # number of each one's group ``(n,)``
    n_searched: int  # patients on whom the search ran

    @classmethod
    def of(cls, checked: Cohort, searched: Cohort) -> Checked:
        """Describes them."""
        return cls(group_numbers(checked), len(searched))


def check_p(best: Sequence[CheckScore], default: Sequence[CheckScore], checked: Checked) -> float:
    """Returns the one-sided p-value that the best trial's loss on the patients kept for the check is lower by chance.

    Signs of the differences are flipped at random, those of a group together. As the models were trained once each, the
    flipped differences are made larger by Nadeau and Bengio's factor for one test set: the square root of 1 + patients
    tested / patients trained on.

    References:
        Nadeau and Bengio (2003), https://doi.org/10.1023/A:1024068626366
    """
    by_group = np.bincount(checked.groups, weights=patient_gains(best, default)).astype(np.float64)
    return sign_flip_p(by_group, float(np.sqrt(1 + len(checked.groups) / checked.n_searched)))


def conclude(study: Study, protocol: Protocol, history: History, checked: Checked, used: float, folder: Path) -> Tuned:
    """Decides whether the best trial is better than the study's own settings, and writes the result."""
    import optuna

    default, best = history.finalists()
    compared = _comparison(history, default, best)
    best_number, best_skill = (None, None) if best is None else (best.number, best.value)
    default_skill = None if default is None else default.value
    own, other = ([] if trial is None else history.checks(trial.number) for trial in (default, best))
    default_checked = best_checked = p_value = None
    if len(own) == len(other) == protocol.n_folds and best is not default:
        default_checked, best_checked = (skill([summed(score) for score in scores]) for scores in (own, other))
        p_value = check_p(other, own, checked)
    is_better = p_value is not None and p_value <= CHECK_LEVEL
    settings = dict(best.params) if is_better and best is not None else dict(protocol.space.default)
    counts = Counter(trial.state.name for trial in history.trials)
    record = Record(
        OBJECTIVE, protocol.seed, protocol.n_folds, protocol.members,
        versions() | {"optuna": str(optuna.__version__)}, protocol.data_hash, protocol.split_hash,
        counts["COMPLETE"], counts["PRUNED"], counts["FAIL"], round(used, 1), protocol.time_s,
        best_number, default_skill, best_skill, checked.n_searched, len(checked.groups), default_checked, best_checked,
        p_value, is_better, settings, "",
    )  # fmt: skip
    record = replace(record, verdict=_verdict(record, default, best))
    best_study = protocol.space.apply(study, settings) if is_better else study
    tuned = Tuned(best_study, _trials_frame(history, protocol.space), compared, record)
    _write(study, tuned, folder)
    return tuned


def _trials_frame(history: History, space: Space) -> pd.DataFrame:
    """Tabulates the trials; see `Tuned`."""
    rows = []
    for trial in history.trials:
        folds, stored = read_folds(trial.user_attrs.get("folds", "[]")), trial.user_attrs
        state = "failed" if trial.state.name == "FAIL" else trial.state.name.lower()
        row = {"trial": trial.number, "state": "interrupted" if INTERRUPTED in stored else state}
        row |= {"skill": skill(folds) if folds else np.nan, "folds": len(folds)}
        row |= {"seconds": round(float(stored.get("seconds", np.nan)), 2)}
        row |= {one.name: trial.params.get(one.name) for one in space.dimensions}
        row |= {f"skill: {name}": value for name, value in skills(folds).items()}
        row |= {f"metric: {name}": value for name, value in metrics(folds).items()}
        rows.append(row | {"error": stored.get("error", "")})
    frame = pd.DataFrame(rows)
    return frame[[*frame.columns.drop("error"), "error"]] if len(frame) else frame


def _comparison(history: History, default: FrozenTrial | None, best: FrozenTrial | None) -> pd.DataFrame:
    rows: list[tuple[object, ...]] = []
    if default is not None and best is not None and default.number != best.number:
        first = [read_folds(trial.user_attrs["folds"]) for trial in (default, best)]
        second = [[summed(score) for score in history.checks(trial.number)] for trial in (default, best)]
        for part, scores in (("search", first), ("check", second)):
            pairs = enumerate(zip(*scores, strict=False))
            rows += [(part, fold, skill([one]), skill([two])) for fold, (one, two) in pairs]
    frame = pd.DataFrame(rows, columns=["part", "fold", "default", "best"])
    return frame.assign(difference=frame["best"] - frame["default"])


def _verdict(record: Record, default: FrozenTrial | None, best: FrozenTrial | None) -> str:
    more_time = "best.yaml is the unchanged study. Run the same command with more time to continue."
    if default is None or best is None:
        return f"There was no time to score the study's own settings; {more_time}"
    others = record.n_complete + record.n_pruned - 1
    if not others:
        pace = f"one trial takes about {default.user_attrs['seconds']:.0f} s, and twice that is kept to check the best"
        return f"There was no time to try other settings: {pace}; {more_time}"
    if best.number == default.number:
        who = f"None of {others} other trials was" if others > 1 else "The other trial was not"
        return f"{who} better than the study's own settings; best.yaml is the unchanged study."
    first = f"{record.best_skill:.4f} against {record.default_skill:.4f} of the study's own settings"
    first += " on the folds by which it was chosen"
    if record.best_checked is None or record.check_p is None:
        untested = f"There was no time to check it on patients whom no trial saw; {more_time}"
        return f"Trial {best.number} scored {first}, which is optimistic. {untested}"
    check = (
        f"{record.best_checked:.4f} against {record.default_checked:.4f} on the {record.n_checked} patients whom no "
    )
    check += f"trial saw (p = {record.check_p:.3f}, one-sided"
    if not record.is_better:
        why = f"trial {best.number} scored {first}, but {check}; at most {CHECK_LEVEL:g} is asked for)"
        return (
            f"No trial was shown to be better than the study's own settings: {why}. best.yaml is the unchanged study."
        )
    return (
        f"Trial {best.number} is better: {first}, which is optimistic, and {check}; settings that are no better pass "
        f"in about {CHECK_LEVEL:.0%} of searches). The test patients, whom the search did not use, give its score."
    )


def _write(study: Study, tuned: Tuned, folder: Path) -> None:
    record, compared = tuned.record, tuned.comparison
    text = "".join(f"# {line}\n" for line in _heading(study, record))
    write_text(folder / BEST, text + relocated(tuned.study, folder.absolute()).to_yaml())
    write_text(folder / TRIALS, tuned.trials.to_csv(index=False))
    gains = {str(name): float(part["difference"].mean()) for name, part in compared.groupby("part", sort=False)}
    content = {**asdict(record), "mean_difference": gains, "comparison": compared.to_dict("records")}
    write_text(folder / RECORD, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _heading(study: Study, record: Record) -> list[str]:
    """The comments at the top of the best study."""
    changed = {name: value for name, value in record.settings.items() if record.is_better and value != KEEP}
    cells, start = unfollowed(study), study.folder.absolute()
    moves = [f"Paths in the cells of {', '.join(cells)} are relative to {start}: move this file there."]
    return [
        f"Written by `multimodn tune` for study '{study.name}': seed {record.seed}, {record.n_folds} folds of "
        f"{record.n_searched} patients, {record.n_checked} more kept to check the best.",
        f"Trials: {record.n_complete} complete, {record.n_pruned} pruned, {record.n_failed} interrupted or failed, of "
        f"{record.members} network(s) each, in {record.time_s:.0f} s.",
        f"Score: {record.objective}.",
        record.verdict,
        *(f"  {name}: {value}" for name, value in changed.items()),
        *(moves if cells else []),
    ]
