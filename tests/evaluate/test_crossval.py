"""Cross-validation, baselines and the table of results."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t

from multimodn import Cohort, Study
from multimodn.errors import StudyError
from multimodn.evaluate.baselines.cox import cox_coefficients
from multimodn.evaluate.baselines.ridge import early_concat, late_ridge, xgboost
from multimodn.evaluate.crossval.arms import ours
from multimodn.evaluate.crossval.crossval import cross_predict, cross_validate, paired, summary
from multimodn.evaluate.results import COLUMNS, ResultsTable, markdown
from multimodn.study.split import ColumnSplit

N = 120


def make_study(tasks=("death", "size", "survival"), **training):
    every = [
        {"name": "death", "kind": "binary", "source": "y", "target": "died"},
        {"name": "size", "kind": "regression", "source": "y", "target": "cm"},
        {"name": "survival", "kind": "survival", "source": "y", "time": "days", "event": "event"},
    ]
    return Study(
        name="toy",
        cohort={"patient": "id", "sources": {"a": "a.csv", "b": "b.csv", "y": "y.csv"}},
        modalities=[
            {"name": "a", "kind": "table", "source": "a", "n_layers": 0},
            {"name": "b", "kind": "table", "source": "b", "n_layers": 0, "categorical": ["site"]},
        ],
        tasks=[task for task in every if task["name"] in tasks],
        split={"stratify": "death"},
        training={"epochs": 2, **training},
    )


def make_cohort(signal: float = 3.0, seed: int = 0):
    generator = np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(N)]
    x = generator.normal(size=(N, 3))
    a = pd.DataFrame(x[:, :2], ids, ["a1", "a2"])
    b = pd.DataFrame({"b1": x[:, 2], "site": generator.integers(0, 3, N)}, ids)
    score = signal * (x[:, 0] + x[:, 2])
    died = (generator.random(N) < 1 / (1 + np.exp(-score))).astype(int)
    days = generator.exponential(np.exp(-score / 2)) * 100 + 1
    targets = {
        "death": pd.DataFrame({"died": died}, ids),
        "size": pd.DataFrame({"cm": score + generator.normal(size=N)}, ids),
        "survival": pd.DataFrame({"days": days, "event": (generator.random(N) < 0.7).astype(int)}, ids),
    }
    return Cohort.from_frames({"a": a.iloc[: N - 20], "b": b.iloc[20:]}, targets)


def halves(cohort):
    return cohort.subset(cohort.patients[::2]), cohort.subset(cohort.patients[1::2])


@pytest.mark.parametrize("arms", [late_ridge, early_concat, xgboost, ours])
def test_an_arm_answers_every_task_for_every_patient(arms):
    for predictions in arms(make_study(), *halves(make_cohort()), 0).values():
        assert {name: link.shape for name, link in predictions.items()} == {
            "death": (N // 2, 1),
            "size": (N // 2, 1),
            "survival": (N // 2, 1),
        }
        assert all(np.isfinite(link).all() for link in predictions.values())


def test_late_fusion_is_the_mean_over_the_modalities_that_a_patient_has():
    train, test = halves(make_cohort())
    found = late_ridge(make_study(), train, test, 0)
    has_a, has_b = test.presence.to_numpy().T
    both, only_a = has_a & has_b, has_a & ~has_b
    a, b, fused = (found[arm]["death"] for arm in ("single:a", "single:b", "late_ridge"))
    np.testing.assert_allclose(fused[both], (a[both] + b[both]) / 2)
    np.testing.assert_allclose(fused[only_a], a[only_a])
    assert np.ptp(a[~has_a]) == 0


def test_baselines_do_not_see_the_labels_of_test_patients():
    train, test = halves(make_cohort())
    hidden = Cohort(
        test.patients, test.modalities, {n: t.iloc[::-1].set_axis(t.index) for n, t in test.targets.items()}
    )
    for arms in (late_ridge, early_concat, xgboost):
        one, other = arms(make_study(), train, test, 0), arms(make_study(), train, hidden, 0)
        for arm, predictions in one.items():
            for name, link in predictions.items():
                np.testing.assert_array_equal(link, other[arm][name])


def test_strong_signal_is_found_and_permuted_labels_are_not():
    def mean_auroc(cohort):
        scores = cross_validate(make_study(["death"]), cohort, [late_ridge, xgboost], n_folds=3, repeats=1)
        return scores[scores["metric"] == "auroc"].groupby("arm")["value"].mean()

    cohort = make_cohort()
    assert (mean_auroc(cohort)[["late_ridge", "xgboost"]] > 0.8).all()
    shuffled = cohort.targets["death"].sample(frac=1, random_state=0).set_axis(cohort.patients)
    permuted = Cohort(cohort.patients, cohort.modalities, cohort.targets | {"death": shuffled})
    assert (abs(mean_auroc(permuted)[["late_ridge", "xgboost"]] - 0.5) < 0.15).all()


def test_ridge_cox_maximises_the_penalised_partial_likelihood():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchsurv compiles a function on import
        from torchsurv.loss.cox import neg_partial_log_likelihood
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 3)), np.stack([generator.permutation(60) + 1.0, np.arange(60) % 2], axis=1)
    direction = torch.from_numpy(cox_coefficients(x, y, penalty=0.1))

    def loss(scale):
        weights = direction * scale
        likelihood = neg_partial_log_likelihood(
            (torch.from_numpy(x) @ weights).unsqueeze(1), torch.from_numpy(y[:, 1] > 0), torch.from_numpy(y[:, 0])
        )
        return float(likelihood + 0.1 * weights.square().sum() / 2)

    scales = np.linspace(0.05, 1.5, 30)
    best = scales[np.argmin([loss(s) for s in scales])]
    weights = (direction * best).requires_grad_()
    total = neg_partial_log_likelihood(
        (torch.from_numpy(x) @ weights).unsqueeze(1), torch.from_numpy(y[:, 1] > 0), torch.from_numpy(y[:, 0])
    )
    (total + 0.1 * weights.square().sum() / 2).backward()
    assert weights.grad.abs().max() < 0.02


def test_arms_share_their_folds_and_differences_are_paired():
    rows = [
        (arm, "death", "auroc", 0, fold, value)
        for arm, values in {"x": [0.7, 0.8, 0.9], "y": [0.6, 0.7, 0.8]}.items()
        for fold, value in enumerate(values)
    ]
    scores = pd.DataFrame(rows, columns=["arm", "task", "metric", "repeat", "fold", "value"])
    difference = paired(scores, "x", "y").iloc[0]
    np.testing.assert_allclose(difference[["difference", "low", "high"]].astype(float), 0.1)
    scores.loc[0, "value"] = 0.76
    difference = paired(scores, "x", "y").iloc[0]
    apart = np.array([0.16, 0.1, 0.1])
    reach = t.ppf(0.975, 2) * np.sqrt(apart.var(ddof=1) * (1 / 3 + 1 / 2))
    np.testing.assert_allclose(list(difference[["low", "high"]]), [apart.mean() - reach, apart.mean() + reach])
    means = summary(scores.assign(value=[0.7, 0.8, 0.9, 0.6, 0.7, 0.8])).set_index("arm")
    np.testing.assert_allclose(means["mean"], [0.8, 0.7])
    assert (means["low"] < means["mean"]).all()
    assert (means["mean"] < means["high"]).all()


def test_results_are_one_long_table_with_what_repeats_them(tmp_path):
    scores = cross_validate(make_study(), make_cohort(), [ours], n_folds=2, repeats=1)
    table = ResultsTable(tmp_path, "toy")
    table.add(scores)
    table.write({"seed": 0})
    assert tuple(pd.read_csv(tmp_path / "results.csv").columns) == COLUMNS
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["seed"] == 0
    assert run["wall_time_s"] >= 0
    assert not list(tmp_path.glob(".*"))
    assert markdown(summary(scores)).startswith("| arm | task |")


def knows_nothing(study, training, test, seed):
    assert not set(training.patients) & set(test.patients)
    return {"prior": {task.name: np.zeros((len(test), 1)) for task in study.tasks}}


def test_published_folds_are_each_tested_once(tmp_path):
    fold = pd.Series([f"fold {i % 4}" for i in range(N)], make_cohort().patients)
    cohort = replace(make_cohort(), split=fold)
    study = make_study().model_copy(update={"split": ColumnSplit(column="fold")})
    found = cross_predict(study, cohort, [knows_nothing], folder=tmp_path).predictions
    tested = found[found["task"] == "death"].groupby(["repeat", "fold"])["patient"].agg(set)
    assert list(tested.index) == [(repeat, k) for repeat in range(2) for k in range(4)]
    for (_, k), patients in tested.items():
        assert patients == set(fold.index[fold == f"fold {k}"])
    assert json.loads((tmp_path / "crossval.json").read_text())["by"] == "split"
    assert len(cross_predict(study, cohort, [knows_nothing], 3, 1, by="random").scores["fold"].unique()) == 3
    with pytest.raises(StudyError, match="names 4 folds, and n_folds is 5"):
        cross_predict(study, cohort, [knows_nothing], 5)
    with pytest.raises(StudyError, match="the study's split names no folds"):
        cross_predict(make_study(), cohort, [knows_nothing], by="split")
    with pytest.raises(StudyError, match="no column is asked for"):
        cross_predict(study, cohort, [knows_nothing], by="split", column="b.site")
