"""The command `multimodn tune`; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodn.cli.options import console, errors

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from multimodn.tune.outcome import Tuned
    from multimodn.tune.search import Moment

SHOWN = 5  # trials in the final table


def tune(
    study: Annotated[Path, typer.Argument(help="A study file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; a search in it is continued.")] = Path(
        "tune"
    ),
    time: Annotated[float, typer.Option(help="Seconds after which nothing new starts, earlier calls included.")] = 300,
    trials: Annotated[
        int | None, typer.Option(help="Trials that end, earlier calls included; default: as time allows.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and proposals.")] = 0,
    folds: Annotated[int, typer.Option(help="Parts of the cross-validation.")] = 3,
    members: Annotated[
        int, typer.Option(help="Networks that a trial trains; the best study keeps its own number.")
    ] = 1,
    space: Annotated[
        Path | None, typer.Option(help="YAML of what is searched, such as training.penalty: {low: 0.1, high: 10}.")
    ] = None,
) -> None:
    """Search for better settings on the training and validation patients; resumes by itself."""
    from multimodn.study.study import Study
    from multimodn.tune.search import tune as search
    from multimodn.tune.space import read_space

    with _progress(time) as bar:
        task = bar.add_task("reading the data", total=time)

        def show(moment: Moment) -> None:
            bar.update(task, completed=moment.used, description=_status(moment))

        try:
            found = search(
                Study.load(study), folder=out, time_s=time, n_trials=trials, seed=seed, n_folds=folds,
                members=members, space=read_space(space) if space else None, on_fold=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            errors.print("Interrupted. The same command continues after the last finished trial.")
            raise typer.Exit(130) from None
    show_tuned(console, found)
    console.print(f"Wrote {out}. Next: multimodn fit {out / 'best.yaml'}")


def show_tuned(console: Console, found: Tuned) -> None:
    """Prints the best trials and the verdict."""
    from rich.table import Table

    record, trials = found.record, found.trials
    counts = f"{record.n_complete} complete, {record.n_pruned} pruned, {record.n_failed} interrupted or refused"
    table = Table(title=f"Trials: {counts}, {record.time_s:.0f} s", title_justify="left")
    for column in ("trial", "skill", "settings that differ from the study's"):
        table.add_column(column)
    if len(trials):
        complete = trials[trials["state"] == "complete"].sort_values("skill", ascending=False, kind="stable")
        own = complete["trial"].min()
        shown = complete[(complete["trial"] == own) | complete["trial"].isin(complete["trial"].head(SHOWN))]
        base = complete.set_index("trial")
        for trial in shown["trial"]:
            changed = [name for name in record.settings if base.loc[trial, name] != base.loc[own, name]]
            values = {name: base.loc[trial, name] for name in changed}
            differing = [f"{name} {x:.3g}" if isinstance(x, float) else f"{name} {x}" for name, x in values.items()]
            table.add_row(str(trial), f"{base.loc[trial, 'skill']:.4f}", ", ".join(differing) or "none: the study")
    console.print(table)
    console.print(f"Skill: {record.objective}; 0 = the prior.", style="dim", highlight=False)
    console.print(record.verdict, highlight=False)


def _progress(seconds: float) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    time = TextColumn("{task.completed:.0f}/{task.total:.0f} s")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), time, TimeElapsedColumn())
    return Progress(*columns, console=errors, disable=not errors.is_terminal)


def _status(moment: Moment) -> str:
    what = "checking the best, " if moment.is_check else ""
    is_scored = moment.default is not None and moment.best is not None
    scores = f"; best {moment.best:.4f}, study {moment.default:.4f}" if is_scored else ""
    return f"{what}trial {moment.trial}, fold {moment.fold + 1} of {moment.n_folds}{scores}"
