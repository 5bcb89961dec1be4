"""Intensive care, 3,996 stays with what is naturally missing: ours beside tuned baselines, the same folds.

    python experiments/icu/run.py --data FOLDER [--arms ours baselines series] [--folds 5] [--repeats 2]

FOLDER holds set-a of the PhysioNet/CinC Challenge 2012. Writes results.csv, run.json and RESULTS.md beside this file.
What is finished is kept in the folder ``cells``: the same command goes on after an interruption, and arms that were
finished earlier are on the page again, also if they are not asked for. After a change of the package remove the cells
of what changed, such as ``cells/ours_*``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from arms import chosen_arms, series_arms, tabular_arms
from command import parser_of
from page import ARMS, DIFFERENCES, EMPTINESS, METRICS, comparisons, how, tables
from prepare import load_tables
from rich.console import Console
from scores import fold_scores

from multimodn import Cohort, Study
from multimodn.evaluate.crossval.crossval import cross_predict
from multimodn.evaluate.results import ResultsTable
from multimodn.files import write_text
from multimodn.training.provenance import versions

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data" / "icu2012"
TASKS = (
    "`death` is death in hospital; `stay` the natural logarithm of the days in hospital (a few long stays would decide "
    "over plain days), so that `mae` is in log days. Modalities: admission, vitals, blood gases, chemistry, blood "
    "count, liver, cardiac; of each variable the mean, lowest, highest, first and last value of the first 48 hours. "
    "Implausible values are empty (`prepare.py`). `series_` arms, where shown, read the measurements themselves."
)


def main() -> None:
    parser = parser_of(__doc__, DATA, "Folder of set-a.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    console = Console()
    study = Study.load(HERE / "study.yaml")
    cohort = Cohort.load(study, sources=load_tables(arguments.data))
    every = tabular_arms() | series_arms(arguments.data.resolve())
    try:
        arms = chosen_arms(arguments.arms, every, HERE / "cells", arguments.folds * arguments.repeats)
    except ValueError as error:
        parser.error(str(error))

    def show(arm: str, repeat: int, fold: int) -> None:
        if not arm.startswith("single:"):
            console.print(f"repeat {repeat + 1}, fold {fold + 1}: {arm}")

    found = cross_predict(
        study, cohort, list(arms.values()), arguments.folds, arguments.repeats, arguments.seed, show,
        folder=HERE / "cells", n_jobs=arguments.jobs,
    )  # fmt: skip
    scores = fold_scores(found)
    protocol = {"n_folds": arguments.folds, "repeats": arguments.repeats, "seed": arguments.seed}
    table = ResultsTable(HERE, study.name)
    table.add(scores)
    table.write({**protocol, "arms": list(arms), "data_hash": cohort.hash(), "versions": versions()})
    parts = [
        "# Intensive care: death in hospital and length of stay",
        how({**protocol, "n_patients": len(cohort)}, "death"),
        *(TASKS, ARMS, EMPTINESS, METRICS, "## Scores", *tables(found, scores)),
        *("## Differences", DIFFERENCES, *comparisons(found, scores)),
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(HERE / "RESULTS.md", text)
    console.print(text)


if __name__ == "__main__":
    main()
