"""Heart disease in four hospitals: ours beside tuned baselines, on random folds and on hospitals that none trained on.

    python experiments/heart/run.py --data FOLDER [--arms ours baselines] [--folds 5] [--repeats 2]

FOLDER holds the processed files of the UCI data set. Writes results.csv, run.json and RESULTS.md beside this file.
What is finished is kept in the folders below ``cells``: the same command goes on after an interruption, and arms that
were finished earlier are on the page again, also if they are not asked for. After a change of the package remove the
cells of what changed, such as ``cells/*/ours_*``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch
from hospitals import hospital_of, load_tables
from rich.console import Console

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "icu"))
from arms import chosen_arms, tabular_arms  # noqa: E402  # both studies have the same arms
from command import parser_of  # noqa: E402
from page import ARMS, DIFFERENCES, EMPTINESS, METRICS, comparisons, how, tables  # noqa: E402
from scores import fold_scores  # noqa: E402

from multimodn import Cohort, Study  # noqa: E402
from multimodn.evaluate.crossval.crossval import cross_predict  # noqa: E402
from multimodn.evaluate.crossval.out_of_fold import OutOfFold  # noqa: E402
from multimodn.evaluate.results import ResultsTable, markdown  # noqa: E402
from multimodn.files import write_text  # noqa: E402
from multimodn.training.provenance import versions  # noqa: E402

DATA = HERE.parents[2] / "shared" / "data" / "heart"
TASKS = (
    "`disease` is a vessel narrowed by half or more. Modalities: history (age, sex, chest pain), resting tests, "
    "exercise test, imaging (fluoroscopy, thallium scan). Hospitals lack columns: fluoroscopy is known for 5, 3 and 2 "
    "patients of Switzerland, Hungary and VA, cholesterol for nobody of Switzerland; a cholesterol or blood pressure "
    "of 0 is empty. Disease is found in 36 % (Hungary) to 93 % (Switzerland)."
)
ACROSS = (
    "Each hospital is predicted by models of the other three. What is empty, and how frequent disease is, differ "
    "between hospitals: a model that learned which hospital lacks which test is wrong here. `challenge` has the "
    "threshold of the other three hospitals' predictions. Four hospitals say little of what a fifth would change: the "
    "interval over folds, which are hospitals here, is wide."
)


def main() -> None:
    parser = parser_of(__doc__, DATA, "Folder of the four processed files.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    console = Console()
    study = Study.load(HERE / "study.yaml")
    cohort, hospitals = Cohort.load(study, sources=load_tables(arguments.data)), hospital_of(arguments.data)
    n_hospitals, every = hospitals.nunique(), tabular_arms()
    found: dict[str, OutOfFold] = {}
    used: dict[str, list[str]] = {}
    for name, n_folds, repeats in (("pooled", arguments.folds, arguments.repeats), ("hospitals", n_hospitals, 1)):
        try:
            arms = chosen_arms(arguments.arms, every, HERE / "cells" / name, n_folds * repeats)
        except ValueError as error:
            parser.error(str(error))

        def show(arm: str, repeat: int, fold: int, name: str = name) -> None:
            if not arm.startswith("single:"):
                console.print(f"{name}, repeat {repeat + 1}, fold {fold + 1}: {arm}")

        found[name] = cross_predict(
            study, cohort, list(arms.values()), n_folds, repeats, arguments.seed, show,
            by="random" if name == "pooled" else "site", column=None if name == "pooled" else hospitals,
            folder=HERE / "cells" / name, n_jobs=arguments.jobs,
        )  # fmt: skip
        used[name] = list(arms)
    protocol = {"n_folds": arguments.folds, "repeats": arguments.repeats, "seed": arguments.seed}
    scores = {name: fold_scores(each) for name, each in found.items()}
    table = ResultsTable(HERE, study.name)
    for name, each in scores.items():
        table.add(each, name)
    table.write({**protocol, "arms": used, "data_hash": cohort.hash(), "versions": versions()})
    parts = [
        "# Heart disease in four hospitals",
        how({**protocol, "n_patients": len(cohort)}, "disease"),
        *(TASKS, ARMS, EMPTINESS, METRICS, DIFFERENCES, "## Pooled", *tables(found["pooled"], scores["pooled"])),
        *comparisons(found["pooled"], scores["pooled"]),
        *("## Hospitals that no model was trained on", ACROSS, *tables(found["hospitals"], scores["hospitals"])),
        *("### AUROC of each hospital", markdown(by_hospital(found["hospitals"], scores["hospitals"], hospitals))),
        *comparisons(found["hospitals"], scores["hospitals"]),
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(HERE / "RESULTS.md", text)
    console.print(text)


def by_hospital(found: OutOfFold, scores: pd.DataFrame, hospitals: pd.Series[str]) -> pd.DataFrame:
    """Returns a row an arm and a column a hospital: the AUROC of its patients by models of the other hospitals."""
    held_out = found.predictions.drop_duplicates("fold").set_index("fold")["patient"].map(hospitals)
    area = scores[scores["metric"] == "auroc"]
    wide = area.assign(hospital=area["fold"].map(held_out)).pivot(index="arm", columns="hospital", values="value")
    return wide.loc[found.arms].reset_index()


if __name__ == "__main__":
    main()
