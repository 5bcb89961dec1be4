"""What explanations cost beside predictions, and whether contributions add up on every patient of a run.

    python experiments/benchmarks/explanations.py [RUN ...]

Writes EXPLANATIONS.md beside this file. Runs are folders that `multimodn fit` wrote, with their sources in place.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from simulated import simulate
from throughput import compare, fitted_model, make_study, timed

from multimodn import Cohort, DataWarning, MultiModN, Study
from multimodn.files import write_text
from multimodn.training.provenance import versions

HERE = Path(__file__).parent
N_MODALITIES, STATE, SUBSETS = 8, 64, 256
N_TEXTS, WORDS = 64, 200

TEXT = """# What explanations cost

Written by `python experiments/benchmarks/explanations.py`. One thread of a CPU; the best of {repeats} alternating runs,
tensors prepared beforehand except in the last line. {versions}

## {patients:,} patients, {modalities} modalities, state {state}, encoders two layers of 128

| | seconds | x predict |
|---|---|---|
| predict (outputs of all tasks) | {predict:.2f} | 1 |
| outputs at all {subsets} subsets | {lattice:.2f} | {lattice_ratio:.1f} |
| exact contributions, as a frame | {contributions:.2f} | {contributions_ratio:.1f} |
| exact contributions and pairwise interactions | {interactions:.2f} | {interactions_ratio:.1f} |
| spread over 24 orders, as a frame | {orders:.2f} | {orders_ratio:.1f} |

All subsets below 40 predictions: {cheap_verdict}

## One of the {modalities} modalities is a report of {words} words, {texts} patients, from raw text

| | seconds | x predict |
|---|---|---|
| read, encode (MiniLM), predict | {text_predict:.2f} | 1 |
| read, encode (MiniLM), exact contributions | {text_contributions:.2f} | {text_ratio:.2f} |

Below 5 predictions: {text_verdict}

## Contributions add up

Largest |sum of contributions - (prediction - prior)| over all patients, tasks and outputs, and largest distance of that
prediction from the model's own:

{additivity}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--patients", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DataWarning)
    found = measure_tables(arguments.patients, arguments.repeats) | measure_text(arguments.repeats)
    lines = ["| run | patients | sum | prediction |", "|---|---|---|---|"]
    lines += [additivity_line(run) for run in arguments.runs]
    used = ", ".join(f"{name} {version}" for name, version in versions().items() if name in ("python", "torch"))
    page = TEXT.format(
        **found,
        repeats=arguments.repeats,
        patients=arguments.patients,
        modalities=N_MODALITIES,
        state=STATE,
        subsets=SUBSETS,
        words=WORDS,
        texts=N_TEXTS,
        versions=used,
        cheap_verdict="holds." if found["lattice_ratio"] < 40 else "MISSED.",
        text_verdict="holds." if found["text_ratio"] < 5 else "MISSED.",
        additivity="\n".join(lines) if arguments.runs else "No run was given.",
    )
    write_text(HERE / "EXPLANATIONS.md", page)
    print(page)
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


def measure_tables(n_patients: int, repeats: int) -> dict[str, float]:
    whole = simulate(n_patients)
    tables = list(whole.modalities.values())
    cohort = Cohort.from_frames({f"m{m}": tables[m % len(tables)] for m in range(N_MODALITIES)}, whole.targets)
    study = make_study(N_MODALITIES, update="residual", hidden_size=128, n_layers=2, embedding_size=64)
    model, patients = fitted_model(study, cohort)
    network, batches = model.trained.ensemble, list(patients.batches(1024))

    def predict() -> None:
        with torch.inference_mode():
            for batch in batches:
                network(batch)

    def subsets() -> None:
        with torch.inference_mode():
            for batch in batches:
                network.lattice(batch)

    def both() -> None:
        model.contributions(patients)
        model.explain.interactions(patients)

    runs: dict[str, Callable[[], object]] = {
        "lattice": subsets,
        "contributions": lambda: model.contributions(patients),
        "interactions": both,
        "orders": lambda: model.explain.order_sensitivity(patients),
    }
    found: dict[str, float] = {}
    for name, run in runs.items():
        ours, base = compare(lambda r=run: timed(r), lambda: timed(predict), repeats)
        found |= {name: ours, f"{name}_ratio": ours / base}
        found["predict"] = min(base, found.get("predict", base))
    return found


def measure_text(repeats: int) -> dict[str, float]:
    """Seven tables and a report, which the frozen network reads each time."""
    whole = simulate(N_TEXTS)
    tables = list(whole.modalities.values())
    frames = {f"m{m}": tables[m % len(tables)] for m in range(N_MODALITIES - 1)}
    words = [f"{['tumour', 'margin', 'node', 'grade', 'invasion'][i % 5]} {i}" for i in range(WORDS // 2)]
    reports = pd.DataFrame({"report": [f"{p} " + " ".join(words) for p in whole.patients]}, whole.patients)
    base = make_study(N_MODALITIES - 1, update="residual")
    content = base.to_dict()
    content.pop("order", None)
    content["modalities"].append({"name": "report", "kind": "text", "source": "report", "column": "report"})
    content["cohort"]["sources"]["report"] = "report.csv"
    study = Study.from_dict(content, Path("."))
    cohort = Cohort.from_frames({**frames, "report": reports}, whole.targets)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MULTIMODN_CACHE"] = cache
        model, _ = fitted_model(study, cohort)
        numbers = iter(range(1_000_000))

        def fresh() -> Cohort:
            """The same patients with reports that no cache has seen."""
            n = next(numbers)
            return replace(cohort, modalities=cohort.modalities | {"report": reports + f" {n}"})

        ours, predict = compare(
            lambda: timed(lambda: model.contributions(model.prepare(fresh()))),
            lambda: timed(lambda: model.predict(model.prepare(fresh()))),
            repeats,
        )
    return {"text_contributions": ours, "text_predict": predict, "text_ratio": ours / predict}


def additivity_line(run: Path) -> str:
    """Compares every patient's contributions with the prediction, and that with the model's."""
    model = MultiModN.load(run)
    patients = model.prepare(Cohort.load(model.study))
    shares = model.contributions(patients)
    whole = shares.groupby([shares.index, "task", "output"], sort=False).agg(
        {"contribution": "sum", "prior": "first", "prediction": "first"}
    )
    gap = (whole["contribution"] - (whole["prediction"] - whole["prior"])).abs().max()
    return f"| {model.study.name} | {len(patients)} | {gap:.1e} | {_distance(model, patients, whole):.1e} |"


def _distance(model: MultiModN, patients: object, whole: pd.DataFrame) -> float:
    links = model.link(patients)  # type: ignore[arg-type]
    own = {
        (patient, task, output): links[task][i, j].item()
        for task in links
        for j, output in enumerate(model.trained.ensemble.tasks[task].link_names)
        for i, patient in enumerate(patients.patients)  # type: ignore[attr-defined]
    }
    return float((whole["prediction"] - pd.Series(own).reindex(whole.index)).abs().max())


if __name__ == "__main__":
    main()
