"""Measures `fit`, `predict` and `contributions` against bare PyTorch loops over the same modules.

Prints one JSON object. Each ratio is the best of several alternating runs, so that a busy machine harms both sides.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simulated import N_COLUMNS, simulate

from multimodn import Cohort, MultiModN, Study
from multimodn.base.batches import PatientTensors
from multimodn.data.splits import Split
from multimodn.fusion import Ensemble, SequentialFusion
from multimodn.study.study import TrainingSpec
from multimodn.training.build import build_model, prepare
from multimodn.training.fit import MemberFit, TrainerFlags, fit_member

TASKS = ("linear", "two", "interaction")


def make_study(n_modalities: int = 4, *, update: str, **encoder: Any) -> Study:
    modalities = [{"name": f"m{m}", "kind": "table", "source": f"m{m}", **encoder} for m in range(n_modalities)]
    return Study.from_dict(
        {
            "name": "throughput",
            "cohort": {
                "patient": "patient",
                "sources": {name: f"{name}.csv" for name in [*(m["name"] for m in modalities), "y"]},
            },
            "modalities": modalities,
            "tasks": [{"name": t, "kind": "binary", "source": "y", "target": t} for t in TASKS],
            "split": {"validation": 0.0, "test": 0.0},
            "training": {"state_size": 64, "update": update},
        },
        Path("."),
    )


def bare_epoch(model: SequentialFusion, patients: PatientTensors, batch_size: int) -> float:
    """Trains one epoch on complete patients by hand: encode, update, decode every state, Adam. Returns seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    n_modalities = len(model.modalities)
    values = [patients.values[name][patients.position[:, m]] for m, name in enumerate(model.modalities)]
    model.train()
    started = time.perf_counter()
    for rows in torch.randperm(len(patients)).split(batch_size):
        state = model.initial_state.expand(len(rows), -1)
        states = [state]
        for m, name in enumerate(model.modalities):
            evidence = model.update.project(m, model.encoders[name](values[m][rows]))
            state = model.update(state, evidence, [len(rows) if k == m else 0 for k in range(n_modalities)])
            states.append(state)
        stacked = torch.stack(states)[..., : model.update.state_size]
        losses = [
            model.tasks[name](decoder(stacked), patients.targets[name][rows]).mean()
            for name, decoder in model.decoders.items()
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    return time.perf_counter() - started


def fit_epochs(study: Study, model: SequentialFusion, patients: PatientTensors, batch_size: int, epochs: int) -> float:
    """Trains by `fit`'s own trainer: Lightning, checkpoints, logging and all. Returns seconds an epoch."""
    spec = study.training.model_copy(update={"epochs": epochs, "batch_size": batch_size})
    rows, nobody = torch.arange(len(patients)), torch.empty(0, dtype=torch.long)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fit_member(model, MemberFit(patients, rows, nobody, spec, 0, Path(folder), True, TrainerFlags("cpu")))
        return (time.perf_counter() - started) / epochs


def compare(first: Callable[[], float], second: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Runs both in turn and returns the shortest time of each."""
    times = [(first(), second()) for _ in range(repeats)]
    return min(a for a, _ in times), min(b for _, b in times)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure_training(n_patients: int, epochs: int, repeats: int, update: str) -> dict[str, float]:
    study = make_study(update=update)
    cohorts = {rate: simulate(n_patients, rate) for rate in (0.0, 0.3)}
    model = build_model(study, cohorts[0.0], seed=0)
    patients = {rate: prepare(model, cohort, labelled=True) for rate, cohort in cohorts.items()}
    result = {}
    for batch_size in (1024, 256):
        fit, bare = compare(
            lambda b=batch_size: fit_epochs(study, model, patients[0.0], b, epochs),
            lambda b=batch_size: bare_epoch(model, patients[0.0], b),
            repeats,
        )
        result[f"fit_over_bare_{batch_size}"] = bare / fit
        result[f"fit_samples_per_s_{batch_size}"] = n_patients / fit
        result[f"bare_samples_per_s_{batch_size}"] = n_patients / bare
    missing, complete = compare(
        lambda: fit_epochs(study, model, patients[0.3], 1024, epochs),
        lambda: fit_epochs(study, model, patients[0.0], 1024, epochs),
        repeats,
    )
    return result | {"missing30_over_complete": missing / complete}


def measure_neutrality(n_patients: int, epochs: int, repeats: int, update: str) -> dict[str, float]:
    """The default mode against plain skipping: whole fits, calibration included, and predictions."""
    cohort = simulate(n_patients, 0.3)
    ids = cohort.patients.to_numpy(dtype=object)
    split = Split(*np.split(ids, [int(0.8 * n_patients)]), ids[:0])
    base = make_study(update=update)
    spec = base.training.model_copy(update={"epochs": epochs, "batch_size": 1024})
    models = {
        mode: MultiModN(base.model_copy(update={"missingness": mode, "training": spec})) for mode in ("neutral", "off")
    }

    def fit(mode: str) -> float:
        flags = TrainerFlags("cpu", progress=False)
        return timed(lambda: models[mode].fit(cohort, split=split, flags=flags))

    def predict(mode: str) -> float:
        return timed(lambda: models[mode].predict(patients))

    fits = compare(lambda: fit("neutral"), lambda: fit("off"), repeats)
    patients = models["off"].prepare(cohort)
    predictions = compare(lambda: predict("neutral"), lambda: predict("off"), 3 * repeats)
    return {"neutral_over_off_fit": fits[0] / fits[1], "neutral_over_off_predict": predictions[0] / predictions[1]}


def measure_ensemble(n_patients: int, epochs: int, repeats: int, update: str) -> dict[str, float]:
    """Processor seconds of whole fits of five members and of one, without calibration and early stopping."""
    cohort = simulate(n_patients, 0.3)
    ids = cohort.patients.to_numpy(dtype=object)
    split = Split(*np.split(ids, [int(0.8 * n_patients)]), ids[:0])
    base = make_study(update=update)
    settings = {"epochs": epochs, "patience": epochs, "calibrate": False}

    def fit(members: int) -> float:
        spec = base.training.model_copy(update={**settings, "members": members})
        model = MultiModN(base.model_copy(update={"training": spec}))
        started = time.process_time()
        model.fit(cohort, split=split, flags=TrainerFlags("cpu", progress=False))
        return time.process_time() - started

    five, one = compare(lambda: fit(5), lambda: fit(1), repeats)
    return {"fit_5_members_over_1": five / one, "fit_1_member_cpu_s": one, "fit_5_members_cpu_s": five}


def measure_prediction(n_patients: int, repeats: int, update: str) -> dict[str, float]:
    study = make_study(update=update)
    fitted, patients = fitted_model(study, simulate(n_patients))
    network = fitted.trained.ensemble.first
    values = [patients.values[name][patients.position[:, m]] for m, name in enumerate(network.modalities)]

    def bare() -> None:
        with torch.inference_mode():
            for rows in torch.arange(n_patients).split(5_000):
                state = network.initial_state.expand(len(rows), -1)
                for m, name in enumerate(network.modalities):
                    evidence = network.update.project(m, network.encoders[name](values[m][rows]))
                    state = network.update(state, evidence, [len(rows) if k == m else 0 for k in range(len(values))])
                network.decode(state)

    ours, forward = compare(lambda: timed(lambda: fitted.predict(patients)), lambda: timed(bare), 3 * repeats)
    return {"predict_over_forward_5000": forward / ours, "predict_samples_per_s": n_patients / ours}


def measure_contributions(n_patients: int, repeats: int, update: str) -> dict[str, float]:
    """Six modalities, encoders of two layers of 512."""
    whole = simulate(n_patients)
    modalities = {f"m{m}": whole.modalities[f"m{m % len(N_COLUMNS)}"] for m in range(6)}
    cohort = Cohort.from_frames(modalities, whole.targets)
    study = make_study(6, update=update, hidden_size=512, n_layers=2, embedding_size=512)
    fitted, patients = fitted_model(study, cohort)
    ours, predict = compare(
        lambda: timed(lambda: fitted.contributions(patients)), lambda: timed(lambda: fitted.predict(patients)), repeats
    )
    return {"contributions_over_predict": ours / predict, "contributions_patients_per_s": n_patients / ours}


def fitted_model(study: Study, cohort: Cohort) -> tuple[MultiModN, PatientTensors]:
    fitted = MultiModN(study)
    fitted.trained.ensemble = Ensemble([build_model(study, cohort, seed=0)]).eval()
    return fitted, fitted.prepare(cohort)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--update", default=None, help="State update; default: the package's.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    update = arguments.update or TrainingSpec().update
    result = measure_training(arguments.patients, arguments.epochs, arguments.repeats, update)
    result |= measure_neutrality(arguments.patients, 3 * arguments.epochs, arguments.repeats, update)
    result |= measure_ensemble(700, 10 * arguments.epochs, arguments.repeats, update)
    result |= measure_prediction(arguments.patients, arguments.repeats, update)
    result |= measure_contributions(10_000, arguments.repeats, update)
    print(json.dumps({name: round(value, 3) for name, value in result.items()} | {"update": update}))


if __name__ == "__main__":
    main()
