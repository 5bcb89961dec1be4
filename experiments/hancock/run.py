"""HANCOCK, 763 patients: ours beside strong simple models, nested repeated cross-validation, the same folds.

    python experiments/hancock/run.py --data FOLDER

writes results.csv, run.json and RESULTS.md beside this file. What is finished is kept in the folder ``cells``: the same
command goes on after an interruption. With --updates it compares the state updates instead and writes to the folder
``updates``; with --experts it compares ours with the network alone and with stacked ridges, in the folder ``experts``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from arms import ARMS, EXPERTS, UPDATES
from page import experts_page, results_page, updates_page
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
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--updates", action="store_true", help="Compare the state updates.")
    other.add_argument("--experts", action="store_true", help="Compare with the network alone and stacked ridges.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    console = Console()
    study = Study.load(HERE / "study.yaml")
    cohort = Cohort.load(study, sources=load_tables(arguments.data))
    out = HERE / "updates" if arguments.updates else HERE / "experts" if arguments.experts else HERE
    arms = UPDATES if arguments.updates else EXPERTS if arguments.experts else ARMS
    out.mkdir(exist_ok=True)
    table = ResultsTable(out, study.name)

    def show(arm: str, repeat: int, fold: int) -> None:
        if not arm.startswith("single:"):
            console.print(f"repeat {repeat + 1}, fold {fold + 1}: {arm}")

    found = cross_predict(
        study, cohort, arms, arguments.folds, arguments.repeats, arguments.seed, show,
        folder=out / "cells", n_jobs=arguments.jobs,
    )  # fmt: skip
    table.add(found.scores)
    protocol = {"n_folds": arguments.folds, "repeats": arguments.repeats, "seed": arguments.seed}
    table.write({**protocol, "data_hash": cohort.hash(), "versions": versions()})
    if arguments.updates:
        text = updates_page(found, protocol)
    else:
        text = (experts_page if arguments.experts else results_page)(study, cohort, found, protocol)
    write_text(out / "RESULTS.md", text)
    console.print(text)


if __name__ == "__main__":
    main()
