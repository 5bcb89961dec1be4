"""Does anything of a test patient reach the model? Where labels mean nothing, no arm may do better than chance.

Labels are permuted within a cohort and folds are stratified by them. Given who is tested and all labels of training
patients, the labels of a fold's test patients are then in random order, so that the AUROC within the fold is .5 on
average, exactly, for any arm that looks at its training patients alone. (Pooled over folds it would lie below: where
one fold has more deaths, those who predict it were trained on fewer.) Intervals are those of the mean over
permutations; the interval of a single one takes the trained models as they are, and is too narrow for this.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t

from multimodn import Cohort, MultiModN, Study
from multimodn.data.splits import Split
from multimodn.evaluate.baselines import ridge
from multimodn.evaluate.baselines.ridge import fit_late_ridge, late_ridge
from multimodn.evaluate.crossval.arms import as_arm, fit_ours, ours
from multimodn.evaluate.crossval.crossval import cross_predict
from multimodn.evaluate.crossval.nested import nested
from multimodn.training.fit import TrainerFlags

WIDTHS = (30, 150)  # columns of noise of each modality, so that some agree with any labels


def make_study(**training):
    return Study(
        name="noise",
        cohort={"patient": "id", "sources": {"a": "a.csv", "b": "b.csv", "y": "y.csv"}},
        modalities=[
            {"name": "a", "kind": "table", "source": "a", "n_components": 5, "categorical": ["ward"]},
            {"name": "b", "kind": "embedding", "source": "b", "n_components": "auto"},
        ],
        tasks=[{"name": "death", "kind": "binary", "source": "y", "target": "died"}],
        split={"stratify": "death"},
        training={"epochs": 5, "batch_size": 16, "state_size": 8, "learning_rate": 0.04, **training},
    )


def make_cohort(n=70, widths=WIDTHS, seed=0, signal=0.0):
    generator = np.random.default_rng(seed)
    ids = [f"p{i:04d}" for i in range(n)]
    a = pd.DataFrame(generator.normal(size=(n, widths[0])), ids, [f"a{k}" for k in range(widths[0])])
    score = a["a0"].to_numpy().copy()
    a = a.mask(generator.random(a.shape) < 0.1)
    a["ward"] = generator.choice(list("uvwx"), n)
    b = pd.DataFrame(generator.normal(size=(n, widths[1])), ids, [f"b{k}" for k in range(widths[1])]).iloc[n // 6 :]
    died = score * signal + generator.normal(size=n) > 0.3
    return Cohort.from_frames({"a": a, "b": b}, {"death": pd.DataFrame({"died": died * 1}, ids)})


def permutations(n_permutations, **cohort):
    made = make_cohort(**cohort)
    died = made.targets["death"]["died"].to_numpy()
    shuffled = (np.random.default_rng(seed).permutation(died) for seed in range(n_permutations))
    return [replace(made, targets={"death": pd.DataFrame({"died": each}, made.patients)}) for each in shuffled]


def values(cohorts, arms, n_folds=2, metric="auroc", **training):
    """The mean over folds, a row for each cohort and a column for each arm."""
    tables = [cross_predict(make_study(**training), each, arms, n_folds, 1).scores for each in cohorts]
    found = [table[table["metric"] == metric].groupby("arm")["value"].mean() for table in tables]
    return pd.DataFrame([{arm: x for arm, x in one.items() if not arm.startswith("single")} for one in found])


def intervals(found):
    """99 % of the mean over cohorts."""
    wide = found.sem() * t.ppf(0.995, len(found) - 1)
    return {arm: (low, high) for arm, low, high in zip(found, found.mean() - wide, found.mean() + wide, strict=True)}


def missing_chance(found):
    return {arm: (low, high) for arm, (low, high) in intervals(found).items() if not low <= 0.5 <= high}


def with_selected_columns(cohort, n_columns=5):
    # the classic leak: columns chosen by all labels, before anybody is held out
    died = cohort.targets["death"]["died"]
    numbers = {name: frame.select_dtypes("number") for name, frame in cohort.modalities.items()}
    best = {
        name: frame.corrwith(died.loc[frame.index]).abs().nlargest(n_columns).index for name, frame in numbers.items()
    }
    frames = {name: numbers[name][columns] for name, columns in best.items()}
    frames["a"] = frames["a"].assign(ward=cohort.modalities["a"]["ward"])
    return replace(cohort, modalities=frames)


def selected_inside(trainer):
    # chooses its columns as the leak does, but among its training patients
    def fit(study, training, seed):
        chosen = with_selected_columns(training)
        fitted = trainer(study, chosen, seed)
        keep = {name: list(frame) for name, frame in chosen.modalities.items()}

        def predict(cohort):
            kept = {name: cohort.modalities[name][columns] for name, columns in keep.items()}
            return next(iter(fitted.values()))(replace(cohort, modalities=kept))

        return {"selected_inside": predict}

    return fit


@pytest.fixture(autouse=True)
def _few_penalties(monkeypatch):
    monkeypatch.setattr(ridge, "PENALTIES", (1e-2, 1.0))


def test_labels_that_mean_nothing_are_not_predicted():
    found = values(permutations(6), [ours, late_ridge])
    assert {"ours", "late_ridge"} == set(found)
    assert missing_chance(found) == {}


def test_a_selection_on_all_patients_is_caught():
    found = intervals(values(map(with_selected_columns, permutations(6)), [ours, late_ridge]))
    assert set(found) == {"ours", "late_ridge"}
    assert min(low for low, _ in found.values()) > 0.6


def nearest(study, training, test, seed):
    # says what befell whoever is most alike
    near, far = (cohort.modalities["a"].drop(columns="ward").fillna(0).to_numpy() for cohort in (training, test))
    died = training.targets["death"]["died"].to_numpy(dtype=float)
    alike = np.square(far[:, None] - near[None]).sum(2).argmin(1)
    return {"nearest": {"death": died[alike][:, None]}}


def test_who_is_there_twice_is_caught_unless_the_two_are_a_group():
    def twice(cohort):
        again = {p: f"{p}again" for p in cohort.patients}
        tables = {name: pd.concat([f, f.rename(index=again)]) for name, f in cohort.modalities.items()}
        targets = {name: pd.concat([f, f.rename(index=again)]) for name, f in cohort.targets.items()}
        return Cohort.from_frames(tables, targets)

    alone = [twice(cohort) for cohort in permutations(5, n=60, widths=(10, 2))]
    person = pd.Series([p[:5] for p in alone[0].patients], alone[0].patients)
    assert intervals(values(alone, [nearest], 3))["nearest"][0] > 0.65
    assert missing_chance(values([replace(cohort, groups=person) for cohort in alone], [nearest], 3)) == {}


def test_a_real_signal_is_not_taken_for_noise():
    found = values([make_cohort(n=100, signal=3.0, widths=(5, 5), seed=seed) for seed in range(2)], [late_ridge])
    assert found["late_ridge"].min() > 0.75


def test_a_model_that_was_trained_on_the_test_patients_is_caught():
    def cheating_on(cohort):
        return lambda study, training, test, seed: {"cheats": fit_late_ridge(study, cohort, seed)["late_ridge"](test)}

    cohort = permutations(1)[0]
    scores = cross_predict(make_study(), cohort, [cheating_on(cohort)], 2, 1).scores
    assert scores.loc[scores["metric"] == "auroc", "value"].min() > 0.6


def altered(cohort, ids, seed):
    """Other values, categories, absences and labels of some patients."""
    generator = np.random.default_rng(seed)
    frames = {name: frame.copy() for name, frame in cohort.modalities.items()}
    for frame in frames.values():
        rows = frame.index.isin(ids)
        numbers = frame.select_dtypes("number").columns
        frame.loc[rows, numbers] = generator.normal(5, 10.0 ** generator.integers(0, 5), (rows.sum(), len(numbers)))
    rows = frames["a"].index.isin(ids)
    frames["a"].loc[rows, "ward"] = generator.choice(["new", "u", "never seen"], rows.sum())
    frames["b"] = frames["b"].drop(generator.permutation(frames["b"].index.intersection(ids))[:3])
    labels = cohort.targets["death"].astype(float)
    labels.loc[list(ids), "died"] = generator.choice([0.0, 1.0, np.nan], len(ids))
    return replace(cohort, modalities=frames, targets={"death": labels})


def fitted(cohort, split, **training):
    model = MultiModN(make_study(**training)).fit(cohort, split=split, flags=TrainerFlags(progress=False))
    model.conformal.fit(cohort)
    return model


@pytest.mark.parametrize("training", [{"members": 1}, {"members": 2}], ids=["single", "ensemble"])
@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_nothing_of_the_test_patients_reaches_weights_calibration_or_conformal_scores(training):
    cohort = make_cohort(n=120, widths=(12, 12), signal=1.0)
    ids = cohort.patients.to_numpy(dtype=object)
    split = Split(ids[20:70], ids[70:], ids[:20])
    model = fitted(cohort, split, **training)
    assert not model.trained.ensemble.calibration.is_identity
    assert all(len(scores.score) for scores in model.trained.conformal_scores.scores)
    encoders = {name: encoder.config() for name, encoder in model.trained.ensemble.first.encoders.items()}
    other = fitted(altered(cohort, split.test, 0), split, **training)
    for mine, theirs in (
        (model.trained.ensemble.state_dict(), other.trained.ensemble.state_dict()),
        (model.trained.conformal_scores.tensors(), other.trained.conformal_scores.tensors()),
    ):
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert {name: encoder.config() for name, encoder in other.trained.ensemble.first.encoders.items()} == encoders
    assert other.trained.ensemble.first.tasks["death"].config() == model.trained.ensemble.first.tasks["death"].config()


@pytest.mark.parametrize("arm", [ours, late_ridge])
@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_what_other_test_patients_are_like_changes_nobodys_prediction(arm):
    cohort = make_cohort(widths=(12, 12))
    ids = cohort.patients.to_numpy(dtype=object)
    training, test, changed = ids[:30], ids[30:], ids[45:]
    found = [
        arm(make_study(), each.subset(training), replace(each.subset(test), targets={}), 0)
        for each in (cohort, altered(cohort, changed, 1))
    ]
    for name, predictions in found[0].items():
        one, other = predictions["death"], found[1][name]["death"]
        np.testing.assert_allclose(one[:15], other[:15], rtol=1e-5, atol=1e-6, err_msg=name)
        assert np.abs(one[15:] - other[15:]).max() > 1e-3 or name.startswith("single")


CHOSEN = nested(
    "chosen",
    {
        "ridge": lambda *given: {"x": fit_late_ridge(*given)["late_ridge"]},
        "selected": selected_inside(fit_late_ridge),
        "ours": fit_ours,
        "ours_selected": selected_inside(fit_ours),
    },
    n_folds=2,
)
LARGE = {"epochs": 12, "state_size": 16, "batch_size": 32}


@pytest.mark.slow
def test_labels_that_mean_nothing_are_not_predicted_by_whole_pipelines_of_more_patients():
    arms = [as_arm(CHOSEN), late_ridge, as_arm(selected_inside(fit_ours))]
    cohorts = permutations(6, n=160)
    found = values(cohorts, arms, 3, members=2, calibrate=True, **LARGE)
    assert set(found) == {"chosen", "late_ridge", "selected_inside"}
    assert missing_chance(found) == {}


@pytest.mark.slow
def test_a_selection_on_all_patients_is_caught_in_whole_pipelines_too():
    cohorts = map(with_selected_columns, permutations(6, n=160, widths=(60, 300)))
    found = values(cohorts, [as_arm(CHOSEN), ours, late_ridge], 3, members=2, calibrate=True, **LARGE)
    assert min(low for low, _ in intervals(found).values()) > 0.6
