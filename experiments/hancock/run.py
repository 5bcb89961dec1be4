"""HANCOCK, 763 patients: ours beside strong simple models, nested repeated cross-validation, the same folds.

    python experiments/hancock/run.py --data FOLDER

writes results.csv, run.json and RESULTS.md beside this file. What is finished is kept in the folder ``cells``: the same
command goes on after an interruption. With --updates it compares the state updates instead and writes to the folder
``updates``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from arms import ARMS, UPDATES
from page import results_page, updates_page
from prepare import load_tables
from rich.console import Console

from multimodn import Cohort, Study
from multimodn.evaluate.crossval.crossval import cross_predict
from multimodn.evaluate.results import ResultsTable
from multimodn.files import write_text
from multimodn.training.provenance import versions

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "hancock"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with the structured data and image features.")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1, help="Processes; -1: one a core.")
    parser.add_argument("--updates", action="store_true", help="Compare the state updates.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    console = Console()
    study = Study.load(HERE / "study.yaml")
    cohort = Cohort.load(study, sources=load_tables(arguments.data))
    out = HERE / "updates" if arguments.updates else HERE
    out.mkdir(exist_ok=True)
    table = ResultsTable(out, study.name)

    def show(arm: str, repeat: int, fold: int) -> None:
        if not arm.startswith("single:"):
            console.print(f"repeat {repeat + 1}, fold {fold + 1}: {arm}")

    found = cross_predict(
        study, cohort, UPDATES if arguments.updates else ARMS, arguments.folds, arguments.repeats, arguments.seed, show,
        folder=out / "cells", n_jobs=arguments.jobs,
    )  # fmt: skip
    table.add(found.scores)
    protocol = {"n_folds": arguments.folds, "repeats": arguments.repeats, "seed": arguments.seed}
    table.write({**protocol, "data_hash": cohort.hash(), "versions": versions()})
    text = updates_page(found, protocol) if arguments.updates else results_page(study, cohort, found, protocol)
    write_text(out / "RESULTS.md", text)
    console.print(text)


if __name__ == "__main__":
    main()
