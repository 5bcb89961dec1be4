"""Performance and calibration: the metrics of the tasks, their bootstrap, and groups that nobody falls out of."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, MultiModN
from multimodn.base.batches import PatientTensors
from multimodn.base.task import main_metric
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.performance.patient_groups import PatientGroup
from multimodn.evaluate.performance.performance import (
    FEWEST_EACH,
    _interval,
    _scored,
    calibration_curve,
    calibration_of,
    calibration_summary,
    is_enough,
    performance,
)
from multimodn.evaluate.performance.subgroups import read_subgroups
from multimodn.metrics.tasks import field_metrics, weighted_metrics
from multimodn.model.trained import TrainedModel
from multimodn.statistics.bootstrap import draws
from tests._cohorts import make_frames, make_study
from tests._inputs import make_task

N = 120
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "y": RNG.integers(0, 2, N),
        "c": RNG.choice(list("abc"), N),
        "o": RNG.integers(1, 5, N),
        "r": RNG.normal(5, 2, N),
        "t": RNG.exponential(10, N).round(1) + 0.1,
        "e": RNG.integers(0, 2, N),
        "z": RNG.choice([0.0, 1.0, np.nan], N),
    }
)
KINDS = {
    "binary": {"target": "y"},
    "multiclass": {"target": "c"},
    "ordinal": {"target": "o"},
    "multilabel": {"targets": ("y", "z")},
    "regression": {"target": "r"},
    "survival": {"time": "t", "event": "e"},
}


def case(kind, seed=0):
    task = make_task(kind, kind, FRAME, **KINDS[kind])
    outputs = task.prior() + torch.randn(N, task.output_size, generator=torch.Generator().manual_seed(seed))
    return task, outputs.round(decimals=1), task.prepare(FRAME)[0]


@pytest.fixture(scope="module")
def trained():
    tables, targets = make_frames(n=150, seed=3)
    tables["labs"]["sex"] = np.where(np.arange(150) % 3 > 0, "f", "m")
    tables["labs"].loc[tables["labs"].index[:20], "sex"] = None
    cohort = Cohort.from_frames(tables, targets)
    study = make_study(
        subgroups=["labs.sex", "labs.hb"],
        split={"validation": 0.2, "test": 0.4, "seed": 1},
        modalities=[
            {"name": "labs", "kind": "table", "source": "labs", "hidden_size": 8, "embedding_size": 8},
            {"name": "image", "kind": "embedding", "source": "image", "embedding_size": 8, "exclude_for": ["size"]},
        ],
        training={"epochs": 4},
    )
    model = MultiModN(study).fit(cohort)
    frame = performance(model, model.prepare(cohort, labelled=True), cohort, n_resamples=60, n_calls=20)
    return model, cohort, frame


@pytest.mark.parametrize("kind", KINDS)
def test_resampling_at_once_is_what_the_task_says_of_each_resample(kind):
    task, outputs, target = case(kind)
    found = field_metrics(task, outputs, target)
    assert set(found) > set(task.metrics(outputs, target))
    scores = weighted_metrics(task, outputs, target, found)
    assert set(scores) == set(found)
    for weights in np.random.default_rng(1).multinomial(N, np.full(N, 1 / N), 5).astype(float):
        rows = np.repeat(np.arange(N), weights.astype(int))
        again = field_metrics(task, outputs[rows], target[rows])
        for metric, score in scores.items():
            assert score(weights[None])[0] == pytest.approx(again[metric], abs=1e-6), metric


def test_a_metric_that_a_task_computes_otherwise_is_not_ours():
    task, outputs, target = case("binary")
    found = {"auroc": task.metrics(outputs, target)["auroc"], "brier": 0.77, "oddity": 0.5}
    assert set(weighted_metrics(task, outputs, target, found)) == {"auroc"}


def test_a_resample_without_a_class_is_undefined():
    task, outputs, target = case("multiclass")
    score = weighted_metrics(task, outputs, target, task.metrics(outputs, target))["auroc"]
    assert np.isnan(score((target.numpy() != 1).astype(float)[None]))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_main_metric_is_one_of_those_of_the_link_scale(kind):
    task, outputs, target = case(kind)
    assert main_metric(task) in task.link_metrics(task.link(outputs), task.link_target(target))


def test_overall_values_are_those_of_evaluate(trained):
    model, cohort, frame = trained
    scores = model.evaluate(cohort).set_index(["task", "metric"])
    overall = frame[frame["by"] == "overall"].set_index(["task", "metric"])
    assert set(overall.index) == set(scores.index)
    pd.testing.assert_frame_equal(overall.loc[scores.index, ["value", "n"]], scores, atol=1e-6)


def test_the_first_step_is_the_prior_and_the_last_is_everything(trained):
    _, _, frame = trained
    columns = ["metric", "value", "low", "high", "n"]
    for task, part in frame.groupby("task"):
        steps = part[part["by"] == "step"]
        fast = part.loc[part["low"].notna() & (part["by"] == "step"), "metric"]
        last = steps[(steps["step"] == steps["step"].max()) & steps["metric"].isin(fast)]
        overall = part[(part["by"] == "overall") & part["metric"].isin(fast)]
        pd.testing.assert_frame_equal(last[columns].reset_index(drop=True), overall[columns].reset_index(drop=True))
        prior = steps[steps["metric"].isin(["auroc", "cindex"]) & (steps["step"] == 0)]["value"]
        assert prior.sub(0.5).abs().lt(1e-3).all(), task  # log-risks of the same outputs may differ in the last bit


def test_a_step_that_a_task_must_not_see_is_no_step_of_its_own(trained):
    _, _, frame = trained
    groups = frame[frame["by"] == "step"].groupby("task")["group"].unique()
    assert list(groups["size"]) == ["(none)", "labs"]
    assert list(groups["death"]) == ["(none)", "labs", "labs+image"]


@pytest.mark.parametrize("by", ["pattern", "subgroup"])
def test_every_labelled_patient_is_in_one_group(by, trained):
    _, _, frame = trained
    for _, part in frame[frame["by"] == by].groupby("task"):
        one = part[part["metric"] == part["metric"].iloc[0]]
        column = one["group"].str.extract(r"^(labs\.\w+)", expand=False).fillna("") if by == "subgroup" else by
        n_overall = frame.loc[(frame["task"] == part["task"].iloc[0]) & (frame["by"] == "overall"), "n"].iloc[0]
        assert (
            (one.groupby(column)["n"].sum() if by == "subgroup" else one["n"].sum() + pd.Series([0]))
            .eq(n_overall)
            .all()
        )


def test_all_rows_of_a_task_see_the_same_resamples(trained):
    model, cohort, _ = trained
    everybody = Cohort.from_frames(cohort.modalities, cohort.targets).subset(cohort.patients[:100])  # all have both
    frame = performance(model, model.prepare(everybody, labelled=True), None, n_resamples=30)
    auroc = frame[(frame["task"] == "death") & (frame["metric"] == "auroc")].set_index("by")
    assert auroc.loc["pattern", "group"] == "labs+image"
    assert (
        auroc.loc["pattern", ["value", "low", "high"]].tolist()
        == auroc.loc["overall", ["value", "low", "high"]].tolist()
    )


def test_the_same_seed_gives_the_same_intervals_that_hold_the_value(trained):
    model, cohort, frame = trained
    patients = model.prepare(cohort, labelled=True)
    pd.testing.assert_frame_equal(performance(model, patients, cohort, n_resamples=60, n_calls=20), frame)
    other = performance(model, patients, cohort, n_resamples=60, n_calls=20, seed=1)
    assert not np.allclose(other["low"], frame["low"], equal_nan=True)
    known = frame[frame["low"].notna() & (frame["by"] == "overall")]
    assert len(known) >= 9
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()


def test_few_patients_have_a_value_and_no_interval(trained):
    model, cohort, _ = trained
    few = cohort.subset(cohort.patients[1:9])
    frame = performance(model, model.prepare(few, labelled=True), few, n_resamples=20)
    assert frame["value"].notna().any()
    assert frame[["low", "high"]].isna().all().all()
    assert set(frame.loc[frame["by"] == "pattern", "group"]) == {"other patterns (1)"}


@pytest.mark.parametrize(("n_rare", "enough"), [(FEWEST_EACH - 1, False), (FEWEST_EACH, True)])
def test_an_interval_takes_both_outcomes(n_rare, enough):
    task = case("binary")[0]
    assert is_enough(task, torch.arange(40).lt(n_rare).float()) is enough
    assert is_enough(task, torch.arange(40).ge(n_rare).float()) is enough
    survival = case("survival")[0]
    assert is_enough(survival, torch.stack([torch.ones(40), torch.arange(40).lt(n_rare).float()], 1)) is enough


def test_patients_without_targets_cannot_be_scored(trained):
    model, cohort, _ = trained
    for ask in (performance, calibration_curve):
        with pytest.raises(DataError, match="labelled=True"):
            ask(model, model.prepare(cohort))
    labelled = model.prepare(cohort, labelled=True)
    with pytest.raises(DataError, match=r"1 patient.* not in the cohort"):
        performance(model, labelled, cohort.subset(cohort.patients[1:]))


def test_numbers_are_cut_at_the_tertiles_of_the_training_patients(trained):
    model, cohort, frame = trained
    cuts = np.quantile(cohort.modalities["labs"]["hb"][list(model.split.train)], [1 / 3, 2 / 3], method="inverted_cdf")
    low, high = (f"{cut:.4g}" for cut in cuts)
    named = [f"labs.hb up to {low}", f"labs.hb {low} to {high}", f"labs.hb over {high}"]
    assert [group for group in frame["group"].unique() if "hb" in group] == named
    assert frame.tertiles == "training patients"
    groups = read_subgroups(cohort, ["labs.hb"], pd.Index(model.split.train))["labs.hb"]
    assert (groups == named[0]).equals(cohort.modalities["labs"]["hb"].reindex(cohort.patients) <= cuts[0])


def test_an_empty_cell_or_an_absent_modality_is_a_group_of_its_own(trained):
    _, cohort, frame = trained
    groups = read_subgroups(cohort, ["labs.sex", "image.f0"])
    assert (groups["labs.sex"] == "labs.sex not known").sum() == 20
    assert set(groups.index[groups["image.f0"] == "image.f0 not known"]) == set(cohort.patients[-8:])
    assert [group for group in frame["group"].unique() if "sex" in group] == [
        "labs.sex = f", "labs.sex = m", "labs.sex not known",
    ]  # fmt: skip


def test_few_numbers_are_values_and_many_texts_are_pooled():
    ids = [f"p{i}" for i in range(60)]
    table = pd.DataFrame({"grade": np.arange(60) % 3 + 1.0, "code": [f"k{i % 15}" for i in range(60)]}, ids)
    table["blank"] = ["", " "] * 30
    table["flag"] = [True, False] * 30
    cohort = Cohort.from_frames({"a": table})
    groups = read_subgroups(cohort, ["a.grade", "a.code", "a.blank", "a.flag"])
    assert list(groups["a.grade"].cat.categories[:3]) == ["a.grade = 1", "a.grade = 2", "a.grade = 3"]
    assert groups["a.code"].nunique() == 10
    assert (groups["a.code"] == "a.code: 6 rarer values").sum() == 24
    assert set(groups["a.blank"]) == {"a.blank not known"}
    assert set(groups["a.flag"]) == {"a.flag = yes", "a.flag = no"}


def test_all_wrong_subgroups_are_named_at_once(trained):
    cohort = trained[1]
    twice = replace(cohort, modalities=cohort.modalities | {"slides": pd.concat([cohort.modalities["labs"]] * 2)})
    with pytest.raises(DataError, match=r"(?s)3 problems.*Did you mean 'labs'.*Did you mean 'crp'.*several rows"):
        read_subgroups(twice, ["lab.sex", "labs.cpr", "slides.crp"])


@pytest.mark.parametrize(("named", "said"), [("labs", "does not name a column"), ("lbs.sex", "Did you mean 'labs'")])
def test_a_study_refuses_subgroups_that_it_cannot_have(named, said):
    with pytest.raises(StudyError, match=said):
        make_study(subgroups=[named])


def test_subgroups_survive_yaml():
    study = make_study(subgroups=["labs.crp"], missingness="off")
    assert study.from_dict(study.to_dict()).subgroups == ["labs.crp"]


class FixedOutputs(TrainedModel):
    """Predicts what it is given."""

    def __init__(self, task, outputs):
        super().__init__(None, SimpleNamespace(tasks={task.name: task}))
        self.fixed = {task.name: outputs}

    def outputs(self, patients, order=None):
        return self.fixed


def fixed(task, outputs, target, known=None):
    """A model that says what it is told to, and its patients."""
    n = len(outputs)
    known = torch.ones(n, dtype=torch.bool) if known is None else known
    patients = PatientTensors(pd.RangeIndex(n), {}, torch.zeros(n, 0), {task.name: target}, {task.name: known})
    return SimpleNamespace(trained=FixedOutputs(task, outputs)), patients


@pytest.mark.parametrize("kind", KINDS)
def test_bins_hold_every_labelled_patient_once_and_are_in_order(kind):
    task, outputs, target = case(kind)
    curve = calibration_curve(*fixed(task, outputs, target))
    for output, part in curve.groupby("output"):
        known = (
            (~task.link_target(target).isnan())[:, task.link_names.index(output)] if kind == "multilabel" else target
        )
        assert part["n"].sum() == (int(known.sum()) if kind == "multilabel" else N)
        assert part["predicted"].is_monotonic_increasing
        assert ((part["low"] <= part["observed"]) & (part["observed"] <= part["high"]))[part["low"].notna()].all()
        assert part["n"].min() >= 5
    assert len(curve) >= 5


def simulated(kind, stretch, n=6000):
    """Patients whose log-odds, or mean, is known; predictions are ``stretch`` times that."""
    generator = torch.Generator().manual_seed(5)
    task = make_task(kind, kind, FRAME, **KINDS[kind])
    truth = torch.randn(n, 1, generator=generator)
    if kind == "binary":
        target = (torch.rand(n, generator=generator) < truth[:, 0].sigmoid()).float()
        return fixed(task, truth * stretch, target)
    target = task.mean + task.sd * (truth[:, 0] + 0.3 * torch.randn(n, generator=generator))
    return fixed(task, torch.cat([truth * stretch, torch.zeros(n, 1)], 1), target)


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("stretch", [1.0, 2.0])
def test_the_slope_tells_how_far_predictions_are_too_extreme(kind, stretch):
    row = calibration_summary(*simulated(kind, stretch)).iloc[0]
    assert row["slope_low"] < 1 / stretch < row["slope_high"]
    assert row["slope"] == pytest.approx(1 / stretch, abs=0.06)
    assert row["intercept_low"] < 0 < row["intercept_high"]
    assert (row["ece"] > 0.05) == (stretch > 1)


def test_predictions_that_are_too_low_have_a_positive_intercept():
    task = case("binary")[0]
    outcome = torch.cat([torch.ones(60), torch.zeros(60)])
    row = calibration_summary(*fixed(task, torch.full((120, 1), -1.0), outcome)).iloc[0]
    assert row["intercept"] == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(row["slope"])
    assert row["ece"] == pytest.approx(0.5 - 1 / (1 + np.e), abs=1e-6)


def test_slope_and_interval_are_those_of_a_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    task, outputs, target = case("binary")
    row = calibration_summary(*fixed(task, outputs, target)).iloc[0]
    fitted = LogisticRegression(C=np.inf, tol=1e-9).fit(outputs.numpy(), target.numpy())
    chance = fitted.predict_proba(outputs.numpy())[:, 1]
    rows = np.hstack([np.ones((N, 1)), outputs.numpy()])
    error = np.linalg.inv(rows.T @ (rows * (chance * (1 - chance))[:, None]))[1, 1] ** 0.5
    assert row["slope"] == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
    assert row["slope_high"] - row["slope"] == pytest.approx(1.96 * error, rel=1e-3)


def test_perfect_separation_has_no_slope():
    task = case("binary")[0]
    outputs = torch.linspace(-3, 3, 60).unsqueeze(1)
    assert np.isnan(calibration_summary(*fixed(task, outputs, (outputs[:, 0] > 0).float()))["slope"].iloc[0])


def test_survival_is_compared_with_kaplan_and_meier():
    task, _, target = case("survival")
    curve = calibration_curve(*fixed(task, task.prior().expand(N, -1), target)).iloc[0]
    middle = task.edges[(len(task.edges) - 1) // 2]
    order = target[:, 0].argsort()
    time, event = target[order].T
    factors = [1 - event[time == t].sum() / (time >= t).sum() for t in time.unique() if t <= middle]
    assert curve["n"] == N
    assert curve["observed"] == pytest.approx(float(torch.stack(factors).prod()), abs=1e-6)
    assert curve["low"] < curve["observed"] < curve["high"]
    assert curve["predicted"] == pytest.approx(curve["observed"], abs=0.1)
    assert curve["output"] == f"survival@{middle:g}"


def test_nobody_followed_so_long_is_not_nobody_had_the_event():
    task, outputs, _ = case("survival")
    early = torch.stack([torch.full((N,), 0.1), torch.zeros(N)], 1)
    curve = calibration_curve(*fixed(task, outputs, early))
    assert curve["observed"].isna().all()
    assert calibration_summary(*fixed(task, outputs, early))["ece"].isna().all()


def test_an_unknown_task_is_named():
    with pytest.raises(StudyError, match="Did you mean 'binary'"):
        calibration_curve(*fixed(*case("binary")), task="binry")
    with pytest.raises(StudyError, match="by 'patern'; expected overall or pattern"):
        calibration_summary(*fixed(*case("binary")), by="patern")


def test_calibration_by_pattern_has_the_patterns_of_performance(trained):
    model, cohort, frame = trained
    patients = model.prepare(cohort, labelled=True)
    for ask in (calibration_curve, calibration_summary):
        found = ask(model, patients, by="pattern")
        for task, part in found.groupby("task"):
            named = frame[(frame["by"] == "pattern") & (frame["task"] == task)].drop_duplicates("group")
            sizes = part[part["output"] == part["output"].iloc[0]].groupby("pattern", sort=False)["n"].sum()
            assert sizes.to_dict() == named.set_index("group")["n"].to_dict()
    (one,) = found.loc[(found["task"] == "size") & (found["pattern"] == "labs"), "slope"]
    assert one == pytest.approx(calibration_summary(model, patients, "size")["slope"][0])  # image is hidden from it


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "survival"])
def test_predictions_of_any_make_are_summed_up_as_those_of_a_model(kind):
    task, outputs, target = case(kind)
    expected = calibration_summary(*fixed(task, outputs, target))
    found = calibration_of(task, task.link(outputs.double()), task.link_target(target))
    pd.testing.assert_frame_equal(found, expected)


def test_of_a_log_risk_the_slope_alone_is_known():
    task, outputs, target = case("survival")
    found = calibration_of(task, task.link(outputs), task.link_target(target)).iloc[0]
    assert found[["slope", "slope_low", "slope_high"]].notna().all()
    assert found[["intercept", "ece"]].isna().all()


def test_repeats_of_the_same_patients_do_not_make_an_interval_shorter():
    task, outputs, target = case("binary")
    link, truth = task.link(outputs), task.link_target(target)
    names = ["a+b" if k % 3 else "a" for k in range(N)]
    once = calibration_of(task, link, truth, groups=names)
    twice = calibration_of(
        task, torch.cat([link, link]), torch.cat([truth, truth]), groups=2 * names, repeats=N * [0] + N * [1]
    )
    pd.testing.assert_frame_equal(once, twice)
    assert dict(zip(once["pattern"], once["n"], strict=True)) == {"a+b": 80, "a": 40}


def test_repeats_are_averaged_and_rare_patterns_pooled_in_all_of_them():
    task, outputs, target = case("binary")
    other = case("binary", seed=9)[1]
    truth, names = task.link_target(target), ["rare" if k < 3 else "odd" if k < 7 else "common" for k in range(N)]
    found = calibration_of(
        task, torch.cat([outputs, other]), torch.cat([truth, truth]), groups=2 * names, repeats=N * [0] + N * [1]
    )
    assert found["pattern"].tolist() == ["common", "other patterns (2)"]
    assert found["n"].tolist() == [N - 7, 7]
    each = [calibration_of(task, one[7:], truth[7:]).iloc[0] for one in (outputs, other)]
    for name in ("slope", "slope_low", "ece"):
        assert found[name][0] == pytest.approx((each[0][name] + each[1][name]) / 2)


def test_predictions_that_do_not_fit_are_refused():
    task, outputs, target = case("binary")
    with pytest.raises(DataError, match=r"Task 'binary'.*'link': 120, 'truth': 119"):
        calibration_of(task, outputs, task.link_target(target)[1:])


def test_chance_alone_explains_the_error_of_true_probabilities():
    task, rng = case("binary")[0], np.random.default_rng(3)
    link = rng.normal(size=(300, 1))
    drawn = rng.random((300, 400)) < 1 / (1 + np.exp(-link))
    found = [calibration_of(task, link, truth[:, None].astype(float)).iloc[0] for truth in drawn.T[:60]]
    assert np.mean([row["ece"] for row in found]) == pytest.approx(found[0]["ece_chance"], rel=0.1)


def test_the_interval_of_an_error_is_not_raised_by_resampling():
    model, patients = simulated("binary", 1.0, n=300)
    task = model.trained.tasks["binary"]
    target, outputs = patients.targets["binary"], model.trained.fixed["binary"]
    found = field_metrics(task, outputs, target)
    score = weighted_metrics(task, outputs, target, found)["ece"]
    values = np.concatenate([score(block) for block in draws(300, 400, 0)])
    assert values.mean() > found["ece"] + 0.005
    low, high = _interval(values, found["ece"])
    assert 0 <= low < found["ece"] < high
    assert high - found["ece"] == pytest.approx(np.quantile(values, 0.975) - values.mean())


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_of_many_patients_a_costly_metric_has_an_interval_overall(kind, monkeypatch):
    task, outputs, target = case(kind)
    monkeypatch.setattr("multimodn.metrics.tasks.MOST_AT_ONCE", {"calibration_slope": N - 1})
    parts = [PatientGroup(by, by, -1, outputs, np.arange(N)) for by in ("overall", "pattern")]
    lines = pd.DataFrame(_scored(task, parts, target, 20, 20, 0))
    is_costly = lines["metric"] == "calibration_slope"
    assert lines.loc[is_costly, "low"].notna().tolist() == [True, False]
    assert lines.loc[~is_costly, "low"].notna().all()
