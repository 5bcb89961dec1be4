"""Do conformal sets at 90 % hold the truth 90 % of the time, overall and for every presence pattern?

    python experiments/conformal/run.py [--data HANCOCK_FOLDER] [--only simulated | hancock] [--seeds N]

writes results.csv, run.json and RESULTS.md beside this file. Finished cells are kept in ``cells``, and a later call
goes on from them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from page import page
from rich.console import Console
from simulated import LOST, draw, study

from multimodn import Cohort, MultiModN, Study
from multimodn.conformal.calibrate import FEWEST, calibrate_sets
from multimodn.conformal.calibration_scores import Conformal
from multimodn.data.splits import folds
from multimodn.errors import DataWarning
from multimodn.evaluate.crossval.arms import with_seed
from multimodn.evaluate.crossval.contracts import development_split
from multimodn.evaluate.performance.conformal_coverage import coverage, covered, summary, tabulate
from multimodn.evaluate.stress.mechanisms import Mechanism, high_outcome
from multimodn.files import write_text
from multimodn.training.fit import TrainerFlags, member_rows
from multimodn.training.provenance import versions

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "hancock"
LEVEL = 0.9
N_TRAINING, N_CALIBRATION, N_TEST = 1_500, 750, 2_000
MEMBERS = 2
FIRST_SEED = 200
AUGMENTED = FEWEST | {"own": float("inf")}
"""Without ``own``: calibration patients are always blanked, as in Zaffran et al. (2023)."""
TRAINING = {
    "mcar": Mechanism("mcar", 0.3, LOST),
    "mar": Mechanism("mar", 0.6, LOST),  # by m0_0, the first number that stays
    "mnar": Mechanism("mnar", 0.6, ("m1", "m2")),
}
FLIPS = {
    "mnar, test flipped": Mechanism("flipped", 0.6, ("m1", "m2")),
    "mnar, test at random": Mechanism("mcar", 0.3, ("m1", "m2")),
}
HANCOCK_LOST = ("pathological", "blood")
FLAGS = TrainerFlags(accelerator="cpu", progress=False)


def calibrated(model: MultiModN, training: Cohort, other: Cohort | None) -> Iterator[tuple[str, MultiModN]]:
    """Calibrates a model in each of the ways that are compared, one after another."""
    patients = model.prepare(training, labelled=True)
    assert model.split is not None
    rows = [out for _, out in member_rows(model.study, training, model.split)]
    sources = {"held out": (patients, rows)}
    if other is not None:
        sources["cohort"] = (model.prepare(other, labelled=True), None)
    for source, (whom, held_out) in sources.items():
        model.trained.conformal_scores = calibrate_sets(model.trained.ensemble, whom, held_out)
        yield source, model
    model.trained.conformal_scores = calibrate_sets(model.trained.ensemble, patients, rows, fewest=AUGMENTED)
    yield "held out, blanked only", model


def bounds_of(model: MultiModN) -> Conformal:
    """The calibration of survival bounds alone."""
    every = model.trained.conformal_scores
    assert every is not None
    kept = [u for u, unit in enumerate(every.units) if unit.kind == "survival"]
    return replace(every, units=[every.units[u] for u in kept], scores=[every.scores[u] for u in kept])


def simulate(seed: int, mechanism: str) -> pd.DataFrame:
    """Trains once, and counts coverage of every arm under every condition."""
    given = TRAINING[mechanism]
    training, other, test = (draw(n, 3 * seed + k) for k, n in enumerate((N_TRAINING, N_CALIBRATION, N_TEST)))
    cohort = training.missing(given, seed)
    spec = with_seed(study(MEMBERS), seed)
    model = MultiModN(spec).fit(cohort, split=development_split(spec, cohort), flags=FLAGS)
    conditions: dict[str, Mechanism] = {mechanism: given} | (FLIPS if mechanism == "mnar" else {})
    parts = []
    for arm, ready in calibrated(model, cohort, other.missing(given, seed + 10_000)):
        for condition, how in conditions.items():
            patients = test.missing(how, seed + 20_000)
            found = coverage(ready, patients, LEVEL)
            months = pd.DataFrame({"months": test.survival, "dead": 1}, test.survival.index)
            known = replace(patients, targets=patients.targets | {"survival": months})
            bounded = MultiModN.of(replace(ready.trained, conformal_scores=bounds_of(ready)))
            real = coverage(bounded, known, LEVEL).assign(task="survival, true times")  # nobody censored
            parts.append(pd.concat([found, real]).assign(condition=condition, arm=arm, repeat=seed))
    return pd.concat(parts)


def hancock(data: Path, fold: int) -> pd.DataFrame:
    """Trains on four fifths of HANCOCK; says for each other patient whether the sets held the truth."""
    sys.path.insert(0, str(HERE.parent / "hancock"))
    from prepare import load_tables

    whole = Study.load(HERE.parent / "hancock" / "study.yaml")
    cohort = Cohort.load(whole, sources=load_tables(data))
    kept, left_out = list(folds(cohort, 5, 1, 0, "death"))[fold]
    training, test = cohort.subset(kept), cohort.subset(left_out)
    network = whole.model_copy(update={"training": whole.training.model_copy(update={"experts": []})})
    spec = with_seed(network, fold)
    model = MultiModN(spec).fit(training, split=development_split(spec, training), flags=FLAGS)
    outcome = high_outcome(model.trained.tasks["death"], cohort.targets["death"])
    conditions = {"hancock": test}
    for kind in ("mnar", "flipped"):
        lost = Mechanism(kind, 0.6, HANCOCK_LOST)  # type: ignore[arg-type]
        conditions[f"hancock, test {kind}"] = lost.apply(test, outcome, fold)
    parts = [
        covered(ready, patients, LEVEL).reset_index(drop=True).assign(condition=condition, arm=arm)
        for arm, ready in calibrated(model, training, None)
        for condition, patients in conditions.items()
    ]
    return pd.concat(parts)


def kept(name: str, make: Callable[[], pd.DataFrame], console: Console) -> pd.DataFrame:
    """Reads a finished cell, or makes it."""
    file = HERE / "cells" / f"{name}.csv"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        started = time.monotonic()
        write_text(file, make().to_csv(index=False))
        console.print(f"{name}: {time.monotonic() - started:.0f} s")
    found = pd.read_csv(file, dtype={"output": str, "method": str})
    return found.assign(output=found["output"].fillna(""), method=found["method"].fillna(""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with the structured data and image features.")
    parser.add_argument("--only", choices=["simulated", "hancock"], help="Make these cells and write no page.")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    warnings.simplefilter("ignore", DataWarning)
    console = Console()
    repeats: list[pd.DataFrame] = []
    patients: list[pd.DataFrame] = []
    if arguments.only != "hancock":
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            repeats += [kept(f"{name}-{seed}", partial(simulate, seed, name), console) for name in TRAINING]
    if arguments.only != "simulated":
        cells = [partial(hancock, arguments.data, fold) for fold in range(5)]
        patients += [kept(f"hancock-{fold}", cell, console) for fold, cell in enumerate(cells)]
    if arguments.only:
        return
    simulated = _simulated(pd.concat(repeats))
    real = _hancock(pd.concat(patients))
    pd.concat([simulated, real]).to_csv(HERE / ".results.partial", index=False, float_format="%.5g")
    (HERE / ".results.partial").replace(HERE / "results.csv")
    log = {
        "command": "python experiments/conformal/run.py",
        "level": LEVEL,
        "seeds": [FIRST_SEED, FIRST_SEED + arguments.seeds - 1],
        "patients": {"training": N_TRAINING, "calibration cohort": N_CALIBRATION, "test": N_TEST},
        "versions": versions(),
    }
    write_text(HERE / "run.json", json.dumps(log, indent=1) + "\n")
    text = page(simulated, real, arguments.seeds, N_CALIBRATION)
    write_text(HERE / "RESULTS.md", text)
    console.print(text)


def _simulated(found: pd.DataFrame) -> pd.DataFrame:
    """Sums repeats up by condition, arm, task and pattern."""
    parts = [
        summary([part for _, part in each.groupby("repeat")]).assign(condition=condition, arm=arm)
        for (condition, arm), each in found.groupby(["condition", "arm"], sort=False)
    ]
    return pd.concat(parts)


def _hancock(found: pd.DataFrame) -> pd.DataFrame:
    """Counts the patients of all folds together, by condition and arm."""
    parts = [
        tabulate(each, LEVEL).assign(condition=condition, arm=arm)
        for (condition, arm), each in found.groupby(["condition", "arm"], sort=False)
    ]
    return pd.concat(parts)


if __name__ == "__main__":
    main()
