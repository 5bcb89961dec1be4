"""ReportContent of a made-up model with as many modalities, tasks and patients as wanted."""

from itertools import product

import numpy as np
import pandas as pd

from multimodn.findings.frames import DescribedFrame, PerformanceFrame
from multimodn.report.content import ChosenPatient, ModalityInfo, ReportContent, RunInfo, TaskInfo


def make_findings(n_modalities=40, n_tasks=10, n_patients=400, n_shown_alone=5, seed=0):
    rng = np.random.default_rng(seed)
    modalities = [f"modality_number_{k:02d}" for k in range(n_modalities)]
    tasks = [f"task_{k}" for k in range(n_tasks)]
    alone = [chr(ord("A") + k) for k in range(n_shown_alone)]
    patients = [*alone, *(f"other {k}" for k in range(n_patients - n_shown_alone))]
    presence = pd.DataFrame(rng.random((n_patients, n_modalities)) < 0.7, patients, modalities)
    presence[modalities[0]] = True

    def described(frame):
        return DescribedFrame.of(frame, link_scales=dict.fromkeys(tasks, "log-odds"), modalities=modalities)

    def framed(rows, columns):
        return described(pd.DataFrame(rows, columns=["patient", *columns]).set_index("patient"))

    shares = pd.MultiIndex.from_product([patients, tasks, modalities]).to_frame(index=False)
    shares.columns = ["patient", "task", "modality"]
    shares = shares[presence.stack().reindex(pd.MultiIndex.from_frame(shares[["patient", "modality"]])).to_numpy()]
    shares = shares.assign(output=shares["task"], contribution=rng.normal(size=len(shares)), standard_error=0.01)
    shares = described(shares.assign(prior=-1.0, prediction=0.5).set_index("patient"))
    steps = pd.MultiIndex.from_product([patients, tasks, range(n_modalities + 1)]).to_frame(index=False)
    steps.columns = ["patient", "task", "step"]
    steps["modality"] = np.array(["", *modalities])[steps["step"]]
    steps = described(steps.assign(output="probability", value=rng.random(len(steps))).set_index("patient"))
    summary = pd.DataFrame(product(tasks, ["no", "yes"], modalities), columns=["task", "group", "modality"])
    size = rng.random(len(summary))
    summary = summary.assign(output=summary["task"], n=90, mean_abs=size, mean_abs_low=size - 0.1)
    summary = summary.assign(mean_abs_high=size + 0.1, mean=size, mean_low=-size, mean_high=size)
    answers = {
        "performance": _performance(tasks, modalities, rng),
        "calibration": _curve(tasks),
        "predicted": pd.DataFrame({"task": np.repeat(tasks, 200), "output": np.repeat(tasks, 200), "value": 0.4}),
        "trajectory": steps,
        "contributions": shares,
        "summary": summary[summary["group"] == "no"].assign(group="all"),
        "by_class": summary,
        "orders": framed(
            [(who, task, task, 24, 0.1, -1.0, 1.0, 0.2) for who in patients for task in tasks],
            ["task", "output", "n_orders", "spread", "low", "high", "prediction"],
        ),
        "value": _value(tasks, modalities, rng),
        "next": framed(
            [(who, task, name, 0.1, 1.0, k + 1) for who in patients[:50] for task in tasks
             for k, name in enumerate(modalities[:9])],
            ["task", "modality", "gain", "cost", "rank"],
        ),
        "training": pd.DataFrame(
            [(m, epoch, 1 / (epoch + 1), 0.9 / (epoch + 1)) for m in range(5) for epoch in range(200)],
            columns=["member", "epoch", "validation_loss", "training_loss"],
        ),
        "patient_trajectory": steps.loc[alone],
        "patient_contributions": shares.loc[alone],
        "patient_outputs": framed(
            [(who, task, "probability", 0.2, 0.4, modalities[0], "yes") for who in alone for task in tasks],
            ["task", "output", "before", "prediction", "moved_by", "observed"],
        ),
    }  # fmt: skip
    return ReportContent(
        RunInfo("big", "name: big", "1 May", {"torch": "2"}, "0" * 64, "1" * 64, 0, 5, "neutral", {"labs": "l.csv"}),
        [TaskInfo(task, "binary", "log-odds", (task,), "auroc") for task in tasks],
        [ModalityInfo(name, "table", 9, ()) for name in modalities],
        "test patients",
        n_patients,
        n_patients,
        False,
        False,
        presence,
        pd.DataFrame({"part": ["train", "test"], "patients": [900, n_patients]}),
        pd.DataFrame([(task, o, n_patients // 2) for task in tasks for o in ("no", "yes")],
                     columns=["task", "outcome", "patients"]),
        answers,
        {"interactions": "There are too many modalities."},
        [ChosenPatient(who, "by a rule", "test", tuple(modalities), (), tasks[0], "") for who in alone],
        "They were drawn.",
    )  # fmt: skip


def _performance(tasks, modalities, rng):
    parts = [("overall", "all", -1), ("step", "(none)", 0), ("subgroup", "labs.sex = f", -1)]
    sets = [*(tuple(modalities[: k + 1]) for k in range(len(modalities))), *(tuple(modalities[k:]) for k in range(6))]
    parts += [("step", "+".join(one), len(one)) for one in sets[: len(modalities)]]
    parts += [("pattern", "+".join(one), -1) for one in sets[len(modalities) :]]
    rows = [
        (task, metric, *part, value, value - 0.1, value + 0.1, 200)
        for task in tasks
        for metric in ("auroc", "brier")
        for part, value in zip(parts, rng.uniform(0.5, 0.9, len(parts)), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["task", "metric", "by", "group", "step", "value", "low", "high", "n"])
    return PerformanceFrame.of(frame, patterns={"(none)": (), **{"+".join(one): one for one in sets}})


def _curve(tasks):
    rows = [(task, task, p, p, p - 0.1, p + 0.1, 20) for task in tasks for p in np.linspace(0.1, 0.8, 10)]
    return pd.DataFrame(rows, columns=["task", "output", "predicted", "observed", "low", "high", "n"])


def _value(tasks, modalities, rng):
    rows = [
        (task, "auroc", name, 200, 150.0, 0.7 + gain, 0.7, gain, gain - 0.1, gain + 0.1, gain)
        for task in tasks
        for name, gain in zip(modalities, rng.normal(size=len(modalities)) / 9, strict=True)
    ]
    columns = ["task", "metric", "modality", "n", "n_effective", "with_it", "without_it", "value", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "unweighted"])
