"""HANCOCK, 763 patients: ours beside simple strong models, repeated stratified cross-validation, the same folds.

    python experiments/hancock/run.py --data FOLDER

writes results.csv, run.json and RESULTS.md beside this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from prepare import load_tables
from rich.console import Console

from multimodn import Cohort, Study
from multimodn.evaluate.baselines import early_concat, late_ridge, xgboost
from multimodn.evaluate.crossval import cross_validate, ours, paired, summary
from multimodn.evaluate.results import ResultsTable, markdown
from multimodn.training.provenance import versions

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "hancock"
# The tables that a clinic has without a tissue microarray; late fusion of these three is the reference in the field.
ROUTINE = ("clinical", "pathological", "blood")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with the structured data and image features.")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    console = Console()
    study = Study.load(HERE / "study.yaml")
    cohort = Cohort.load(study, sources=load_tables(arguments.data))
    table = ResultsTable(arguments.out, study.name)

    def show(arm: str, repeat: int, fold: int) -> None:
        console.print(f"repeat {repeat + 1}, fold {fold + 1}: {arm}")

    arms = [ours, late_ridge, late_ridge_routine, early_concat, xgboost]
    scores = cross_validate(study, cohort, arms, arguments.folds, arguments.repeats, arguments.seed, on_cell=show)
    table.add(scores)
    provenance = {"seed": arguments.seed, "data_hash": cohort.hash(), "versions": versions()}
    table.write({**provenance, "n_folds": arguments.folds, "repeats": arguments.repeats})
    text = report(scores, len(cohort), arguments.folds, arguments.repeats, arguments.seed)
    (arguments.out / "RESULTS.md").write_text(text)
    console.print(text)


def late_ridge_routine(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, dict[str, object]]:
    """Returns ``late_ridge_3``: late ridge fusion of the three routine tables."""
    specs = [spec for spec in study.modalities if spec.name in ROUTINE]
    found = late_ridge(study.model_copy(update={"modalities": specs}), training, test, seed)
    return {"late_ridge_3": found["late_ridge"]}


def report(scores: pd.DataFrame, n_patients: int, n_folds: int, repeats: int, seed: int) -> str:
    """Writes the results as a page of Markdown."""
    means = summary(scores)
    wide = means.pivot(index="arm", columns="task", values="mean").reindex(columns=scores["task"].unique())
    wide = wide.loc[list(dict.fromkeys(scores["arm"]))].reset_index()
    parts = [
        "# HANCOCK: death, recurrence, RFS event, overall survival",
        "",
        f"Written by `run.py`; the numbers are in `results.csv`, what it takes to repeat them in `run.json`. "
        f"{n_patients} patients, {n_folds} folds x {repeats} repeats, stratified by death, seed {seed}; all arms on "
        f"the same folds. AUROC for the first three tasks, Harrell's c-index for survival; means over folds.",
        "",
        "`ours` is one model of all 13 modalities and 4 tasks (`study.yaml`); `late_ridge` the mean log-odds of one "
        "ridge model a modality, `late_ridge_3` of clinical, pathological and blood tables alone; `early_concat` one "
        "ridge model of all columns; `xgboost` boosted trees with NaN; `single:` the ridge model of one modality.",
        "",
        markdown(wide),
    ]
    for reference in ("late_ridge", "late_ridge_3", "xgboost"):
        parts += [
            "",
            f"## ours minus {reference}",
            "",
            "Paired by fold, 95 % bootstrap interval over folds (folds share patients: somewhat too narrow).",
            "",
            markdown(paired(scores, "ours", reference)),
        ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
