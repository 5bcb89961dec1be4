"""The pages of this study, written from out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from multimodn import Cohort, Study
from multimodn.evaluate.crossval.comparison import averages, compare, standings
from multimodn.evaluate.crossval.crossval import paired, summary
from multimodn.evaluate.crossval.out_of_fold import OutOfFold
from multimodn.evaluate.performance.performance import calibration_of
from multimodn.evaluate.results import markdown
from multimodn.findings.sentences import standing
from multimodn.training.build import fit_tasks

REFERENCES = ("late_ridge", "late_ridge_3", "early_concat", "xgboost", "tabm", "p_fusion")
ARMS = (
    "`ours` is one model of all 13 modalities and 4 tasks (`study.yaml`), without experts (the folder `experts` has "
    "those); `late_ridge` the mean log-odds of one ridge "
    "model a modality, `late_ridge_3` of clinical, pathological and blood tables alone; `early_concat` one ridge model "
    "of all columns; `xgboost` boosted trees with NaN; `tabm` a TabM network on all columns; `p_fusion` "
    "our encoders side by side, 0 where absent; `single:` the ridge model of one modality."
)
NESTED = (
    "Nested: in every training fold each arm chooses its own settings by three inner folds of that fold's training "
    "patients (`arms.py`; penalties of ridge models by five of their own). Ours chooses its L2 penalty among 4, 12 and "
    "36, P-Fusion among 3, 12 and 36, both by single networks, for time; TabM between a narrow network with much "
    "dropout and a wide one with little, trees for each task among two depths on 32 principal components of each "
    "stain and the usual settings on all columns."
)
INTERVALS = (
    "AUROC for death, recurrence and RFS event, Harrell's c-index for survival, computed in each test fold and "
    "averaged; 95 % bootstrap intervals over patients, who are drawn with the predictions of both repeats. They say "
    "what other patients to test would change, not what other patients to train on would. Differences have an interval "
    "over folds too (`t_low`, `t_high`: Nadeau and Bengio's corrected t), which other training patients would change; "
    "an arm is called best only where both leave 0 out."
)
LIMITS = (
    "## How far this goes\n\n"
    "The form of the network and the rest of its settings (state update, gain, components, members, epochs, and 12 as "
    "the middle of the penalties) were chosen on this cohort, by held-out patients inside the training folds of "
    "another deal, some 60 settings in all. Patients held out there are test patients here: the scores of `ours` may "
    "be slightly too good. The candidates of the baselines were written down before they were tried here."
)
CALIBRATION = (
    "Out of fold, after the calibration that every fit ends with. `slope`: 1 where calibrated, below 1 too extreme; "
    "`ece` in ten bins of equally many patients, beside what calibrated predictions of as many patients would show by "
    "chance (`ece_chance`)."
)
EXPERTS = (
    "`ours` is the study as it stands, with experts; `network_alone` the same without; `stacked_ridge` one ridge model "
    "a modality, cross-fitted, and stacked with weights of at least 0; `late_ridge` their mean; `late_ridge_3` that of "
    "clinical, pathological and blood tables alone. Ours has one setting for all folds, the ridges choose their own. "
    "The stack of experts was changed after one look at the first of these folds; what it was changed to was chosen on "
    "another deal."
)
BESIDE_EXPERTS = ("network_alone", "stacked_ridge", "late_ridge", "late_ridge_3")
UPDATES_HOW = "An arm is `ours:<state update>:<penalty>`; nothing else differs."


def results_page(study: Study, cohort: Cohort, found: OutOfFold, protocol: Mapping[str, int]) -> str:
    """Writes the comparison with the baselines, and the calibration of ours."""
    means = averages(found)
    parts = [
        "# HANCOCK: death, recurrence, RFS event, overall survival",
        *("", _how(protocol), "", ARMS, "", NESTED, "", INTERVALS, ""),
        markdown(_with_intervals(means)),
        *("", "## ours minus the others", ""),
        "Paired by patient; `p_adjusted` by Holm over all rows of the table.",
        *("", *(f"- {standing(one)}" for one in standings(found)), ""),
        markdown(compare(found, "ours", REFERENCES).drop(columns=["arm", "method"])),
        *("", "## Calibration of ours", "", CALIBRATION, ""),
        markdown(_calibration(study, cohort, found)),
        *("", "By presence pattern (patterns of too few patients are pooled):", ""),
        markdown(_calibration(study, cohort, found, by_pattern=True)),
        *("", LIMITS),
    ]
    return "\n".join(parts) + "\n"


def updates_page(found: OutOfFold, protocol: Mapping[str, int]) -> str:
    """Writes the comparison of the state updates."""
    wide = summary(found.scores).pivot(index="arm", columns="task", values="mean").reindex(columns=found.tasks)
    parts = ["# HANCOCK: state updates", "", _how(protocol), "", UPDATES_HOW, ""]
    parts += [markdown(wide.loc[found.arms].reset_index())]
    for reference in ("ours:gated:0.3", "ours:gated:0.03", "ours:linear:0.3", "ours:linear:0.03"):
        how = "Paired by fold, 95 % intervals by Nadeau and Bengio's corrected t."
        table = markdown(paired(found.scores, "ours:residual:3", reference))
        parts += ["", f"## ours:residual:3 minus {reference}", "", how, "", table]
    return "\n".join(parts) + "\n"


def experts_page(study: Study, cohort: Cohort, found: OutOfFold, protocol: Mapping[str, int]) -> str:
    """Writes the comparison of ours with the network alone and with stacked ridges."""
    means = averages(found)
    of_arms = found.scores.groupby(["arm", "repeat", "fold"])["value"].mean().groupby("arm").mean()
    parts = [
        "# HANCOCK: what experts add",
        *("", _how(protocol), "", EXPERTS, "", INTERVALS, ""),
        markdown(_with_intervals(means).assign(mean=lambda table: table["arm"].map(of_arms).map("{:.3f}".format))),
        *("", "## ours minus the others", ""),
        "Paired by patient; `p_adjusted` by Holm over all rows of the table.",
        *("", *(f"- {standing(one)}" for one in standings(found)), ""),
        markdown(compare(found, "ours", BESIDE_EXPERTS).drop(columns=["arm", "method"])),
        *("", "## Calibration of ours", "", CALIBRATION, ""),
        markdown(_calibration(study, cohort, found)),
        *("", LIMITS),
    ]
    return "\n".join(parts) + "\n"


def _how(protocol: Mapping[str, int]) -> str:
    return (
        f"Written by `run.py`; the numbers are in `results.csv`, what it takes to repeat them in `run.json`. 763 "
        f"patients, {protocol['n_folds']} folds x {protocol['repeats']} repeats, stratified by death, seed "
        f"{protocol['seed']}; all arms on the same folds."
    )


def _with_intervals(means: pd.DataFrame) -> pd.DataFrame:
    texts = means.assign(text=[f"{row.mean:.3f} ({row.low:.3f} to {row.high:.3f})" for row in means.itertuples()])
    wide = texts.pivot(index="arm", columns="task", values="text")
    return wide.reindex(index=means["arm"].unique(), columns=means["task"].unique()).reset_index()


def _calibration(study: Study, cohort: Cohort, found: OutOfFold, *, by_pattern: bool = False) -> pd.DataFrame:
    names = _patterns(cohort)
    parts = []
    for task in fit_tasks(study, cohort):
        if task.link_scale != "log-odds":
            continue
        answers = found.answers("ours", task.name)
        link, truth = (np.concatenate([getattr(c, part) for c in answers.cells]) for part in ("link", "truth"))
        rows = np.concatenate([cell.patients for cell in answers.cells])
        repeats = np.concatenate([np.full(len(cell.patients), cell.repeat) for cell in answers.cells])
        groups = list(names.loc[answers.patients[rows]]) if by_pattern else None
        parts.append(calibration_of(task, link, truth, groups=groups, repeats=list(repeats)))
    return pd.concat(parts).drop(columns="output")


def _patterns(cohort: Cohort) -> pd.Series[str]:
    has = pd.DataFrame({name: cohort.patients.isin(frame.index) for name, frame in cohort.modalities.items()})
    named = [
        "without " + ", ".join(has.columns[~row]) if not row.all() else "everything" for row in has.to_numpy(dtype=bool)
    ]
    return pd.Series(named, index=cohort.patients)
