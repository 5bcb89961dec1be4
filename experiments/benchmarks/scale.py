"""Measures time and peak memory of loading a table of 100,000 patients x 200 columns and training one epoch on it.

Prints one JSON object. Memory is given in all, and above what the imports alone take; ``float32_mib`` is the size of
the table's numbers. Run it under ``/usr/bin/time -v`` to check the peak from outside.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Each step imports what it needs: the process that measures must not inherit the memory of the one that wrote.


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_table(folder: Path, n_patients: int, n_columns: int, suffix: str) -> Path:
    """Writes the table and its study; a tenth of the cells is empty, the label follows from two columns."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv, parquet

    from multimodn import Study

    generator = np.random.default_rng(0)
    values = generator.normal(size=(n_patients, n_columns)).astype(np.float32)
    chance = 1 / (1 + np.exp(-values[:, 0] - values[:, 1]))
    death = (generator.random(n_patients) < chance).astype(int)
    values[generator.random(values.shape) < 0.1] = np.nan
    frame = pd.DataFrame(values, columns=[f"c{i}" for i in range(n_columns)])
    frame.insert(0, "patient", [f"p{i:06d}" for i in range(n_patients)])
    table = pa.Table.from_pandas(frame.assign(death=death), preserve_index=False)
    path = folder / f"table.{suffix}"
    parquet.write_table(table, path) if suffix == "parquet" else csv.write_csv(table, path)
    study = Study.from_dict(
        {
            "name": "scale",
            "cohort": {"patient": "patient", "sources": {"labs": path.name}},
            "modalities": [{"name": "labs", "kind": "table", "source": "labs", "columns": {"all_but": ["death"]}}],
            "tasks": [{"name": "death", "kind": "binary", "source": "labs", "target": "death"}],
            "split": {"validation": 0.1, "test": 0.1},
            "training": {"epochs": 1, "batch_size": 1024},
        }
    )
    (folder / "study.yaml").write_text(study.to_yaml())
    return folder / "study.yaml"


def measure(study_file: Path, float32_mib: float) -> dict[str, float]:
    import pytorch_lightning  # noqa: F401 - part of what the imports take
    import torch

    from multimodn import Cohort, MultiModN, Study
    from multimodn.training.fit import TrainerFlags

    torch.set_num_threads(1)
    imported = peak_mib()
    started = time.perf_counter()
    study = Study.load(study_file)
    cohort = Cohort.load(study)
    loaded, load_peak = time.perf_counter(), peak_mib()
    model = MultiModN(study).fit(cohort, flags=TrainerFlags("cpu"))
    trained, peak = time.perf_counter(), peak_mib()
    scores = model.evaluate(cohort.subset(model.split.test))
    return {
        "float32_mib": float32_mib,
        "imports_mib": imported,
        "load_s": loaded - started,
        "fit_s": trained - loaded,
        "load_peak_over_float32": (load_peak - imported) / float32_mib,
        "peak_mib": peak,
        "peak_over_float32": peak / float32_mib,
        "peak_above_imports_over_float32": (peak - imported) / float32_mib,
        "auroc": float(scores.loc[scores["metric"] == "auroc", "value"].iloc[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--write", type=Path, help="Only write the table and its study to this folder.")
    parser.add_argument("--measure", type=Path, help="Only measure a study that --write wrote.")
    arguments = parser.parse_args()
    if arguments.write:
        write_table(arguments.write, arguments.patients, arguments.columns, arguments.format)
    elif arguments.measure:
        result = measure(arguments.measure, arguments.patients * arguments.columns * 4 / 2**20)
        print(json.dumps({name: round(value, 2) for name, value in result.items()}))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for step in (["--write", folder], ["--measure", f"{folder}/study.yaml"]):
                subprocess.run([sys.executable, *sys.argv, *step], check=True)


if __name__ == "__main__":
    main()
