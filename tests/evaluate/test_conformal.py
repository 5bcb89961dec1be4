import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from multimodn import MultiModN
from multimodn.conformal.calibrate import FEWEST, calibrate_sets, sets_frame
from multimodn.conformal.calibration_scores import METHODS
from multimodn.conformal.predict import ROUNDING, conformal_sets
from multimodn.conformal.scores import hazard_at, nonconformity_scores, read_outputs, time_at, truth, units_of
from multimodn.data.splits import Split
from multimodn.errors import DataError, NotFittedError
from multimodn.evaluate.performance.conformal_coverage import (
    COLUMNS,
    coverage,
    covered,
    expected,
    interval,
    summary,
    tabulate,
)
from multimodn.metrics.survival import kaplan_meier
from multimodn.model.trained import TrainedModel
from tests._cohorts import make_cohort, make_study
from tests.evaluate._conformal_cases import blanked, make_ensemble, make_patients

AUGMENTED = FEWEST | {"own": np.inf}
NESTED = {"own": np.inf, "exact": np.inf}


def halves(n, k=2):
    return list(torch.arange(n).chunk(k))


def member_reads(ensemble, unit, patients, k):
    """What a member alone makes of patients, by the batch and the network's own call."""
    batch = next(patients.batches(len(patients)))
    with torch.no_grad():
        outputs = ensemble.networks[k](batch)[unit.task]
        return read_outputs(unit, ensemble.tasks[unit.task], outputs)


def by_definition(ensemble, unit, calibration, held_out, test, rows_for, strange):
    """How many calibration rows are at least as strange as each candidate, in plain loops over rows.

    ``rows_for(has)``: the calibration rows for a test patient; each is blanked to what both have, and so is the
    patient. ``strange(read, i)``: scores of the candidates of test patient i.
    """
    task = ensemble.tasks[unit.task]
    real = truth(unit, task, calibration.targets[unit.task], calibration.labelled[unit.task])
    member = torch.cat([torch.full((len(rows),), k) for k, rows in enumerate(held_out)])
    every = []
    for i in range(len(test)):
        count, n = torch.zeros(len(unit.names), dtype=torch.long), 0
        for j in torch.cat(held_out).tolist():
            if not real.known[j] or not rows_for(test.presence[i], calibration.presence[j]):
                continue
            keep = test.presence[i] & calibration.presence[j]
            k = int(member[torch.cat(held_out) == j])
            theirs = member_reads(ensemble, unit, blanked(calibration, keep), k)
            own = nonconformity_scores(unit, task, theirs, real.value)[j]
            mine = member_reads(ensemble, unit, blanked(test, keep), k)[i]
            count, n = count + (own >= strange(mine, i)).long(), n + 1
        every.append((count + 1) / (n + 1))
    return torch.stack(every)


@pytest.mark.parametrize(
    ("name", "options"),
    [("exact", {"own": np.inf, "exact": 1}), ("nested", NESTED), ("own", {"own": 1, "exact": np.inf})],
)
@pytest.mark.parametrize("task", ["kind", "both"])
@pytest.mark.parametrize("informative", [False, True])
def test_sets_are_those_of_the_definition(name, options, task, informative):
    ensemble = make_ensemble(2, names=(task,), informative=informative)
    calibration, test = make_patients(14, 1, ensemble=ensemble), make_patients(5, 2, ensemble=ensemble)
    held_out = halves(14)
    rows_for = {
        "exact": lambda has, theirs: bool((has & ~theirs).sum() == 0),
        "nested": lambda has, theirs: True,
        "own": lambda has, theirs: bool((has == theirs).all()),
    }[name]
    conformal = calibrate_sets(ensemble, calibration, held_out, fewest=options)
    found = conformal_sets(ensemble, conformal, test, 0.8)
    for u, (unit, answer) in enumerate(zip(conformal.units, found, strict=True)):
        methods = conformal.scores[u].method[answer.pattern]
        asked = methods == METHODS.index(name)  # a pattern without rows of its own is nested
        assert asked.any()
        expected_p = by_definition(
            ensemble, unit, calibration, held_out, test, rows_for, lambda mine, _: 1 - mine - ROUNDING
        )
        assert torch.allclose(answer.p_value[asked].double(), expected_p[asked].double())


@pytest.mark.parametrize(("rule", "options"), [("exact", {"own": np.inf, "exact": 1}), ("nested", NESTED)])
def test_intervals_are_those_of_the_definition(rule, options):
    ensemble = make_ensemble(2, names=("size",))
    calibration, test = make_patients(24, 1, ensemble=ensemble), make_patients(4, 2, ensemble=ensemble)
    conformal = calibrate_sets(ensemble, calibration, halves(24), fewest=options)
    [answer] = conformal_sets(ensemble, conformal, test, 0.75)
    unit, task = conformal.units[0], ensemble.tasks["size"]
    for i in range(len(test)):
        low, high = [], []
        for j in range(24):
            if rule == "exact" and (test.presence[i] & ~calibration.presence[j]).any():
                continue
            keep, k = test.presence[i] & calibration.presence[j], int(j >= 12)
            own = nonconformity_scores(
                unit,
                task,
                member_reads(ensemble, unit, blanked(calibration, keep), k),
                calibration.targets["size"].double(),
            )[j]
            mean, sd = member_reads(ensemble, unit, blanked(test, keep), k)[i]
            low.append(mean - own * sd)
            high.append(mean + own * sd)
        left_out = int(0.25 * (len(low) + 1))
        assert left_out
        assert answer.low[i].item() == pytest.approx(sorted(low)[left_out - 1].item(), rel=1e-6)
        assert answer.high[i].item() == pytest.approx(sorted(high)[-left_out].item(), rel=1e-6)


@settings(max_examples=10)
@given(n=st.integers(15, 60), level=st.floats(0.55, 0.97), seed=st.integers(0, 1000))
def test_of_one_pattern_sets_are_those_of_crepes(n, level, seed):
    # a rank that is a whole number but for rounding is one to us, and the next one to crepes
    assume(abs((n + 1) * level - round((n + 1) * level)) > 1e-6)
    crepes = pytest.importorskip("crepes")
    ensemble = make_ensemble(1, names=("kind", "size"))
    calibration, test = (make_patients(k, seed + k, rate=0.0, ensemble=ensemble) for k in (n, 9))
    conformal = calibrate_sets(ensemble, calibration, None)
    kind, size = conformal_sets(ensemble, conformal, test, level)
    chances, truths = (member_reads(ensemble, kind.unit, each, 0).numpy() for each in (calibration, test))
    target = calibration.targets["kind"].numpy()
    classifier = crepes.ConformalClassifier().fit(1 - chances[np.arange(n), target])
    p_values = classifier.predict_p(1 - truths - ROUNDING, smoothing=False)
    assert np.allclose(kind.p_value, p_values)
    assert np.array_equal(kind.in_set, p_values > 1 - level + 1e-12)
    ours, theirs = (member_reads(ensemble, size.unit, each, 0).numpy() for each in (calibration, test))
    residuals = calibration.targets["size"].double().numpy() - ours[:, 0]
    regressor = crepes.ConformalRegressor().fit(residuals, sigmas=ours[:, 1])
    if int((1 - level) * (n + 1)):
        bounds = regressor.predict_int(theirs[:, 0], sigmas=theirs[:, 1], confidence=level)
        assert np.allclose(np.stack([size.low, size.high], axis=1), bounds)


def test_a_survival_bound_without_censoring_is_the_quantile_of_the_definition():
    ensemble = make_ensemble(1, names=("survival",))
    calibration, test = (make_patients(n, n, rate=0.0, ensemble=ensemble) for n in (40, 7))
    conformal = calibrate_sets(ensemble, calibration, None)
    [answer] = conformal_sets(ensemble, conformal, test, 0.8)
    task, edge = ensemble.tasks["survival"], 9.0
    times = calibration.targets["survival"][:, 0].double()
    strange = nonconformity_scores(answer.unit, task, member_reads(ensemble, answer.unit, calibration, 0), times)[
        times <= edge
    ]
    curve = member_reads(ensemble, answer.unit, test, 0)
    grid = torch.linspace(0, edge, 20_001, dtype=torch.float64)
    for i in range(len(test)):
        hazard = hazard_at(curve[i].expand(len(grid), -1), task.edges.double(), grid)
        p_value = (1 + (strange <= hazard.unsqueeze(1) + 1e-12).sum(1)) / 41
        inside = grid[p_value > 0.2 + 1e-9]
        assert answer.low[i].item() == pytest.approx(inside.min().item() if len(inside) else edge, abs=1e-3)


def test_events_count_by_the_inverse_chance_of_being_observed():
    sksurv = pytest.importorskip("sksurv.nonparametric")
    rng = np.random.default_rng(0)
    time, event = rng.integers(1, 9, 60).astype(float), rng.random(60) < 0.6
    kept = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    curve = sksurv.CensoringDistributionEstimator().fit(kept)
    just_before = curve.predict_proba(time[event] - 0.5)
    uncensored = kaplan_meier(time, event, np.ones((1, len(time))), time, "left", of_censoring=True)[0]
    assert np.allclose(uncensored[event], just_before)


@given(seed=st.integers(0, 1000))
def test_a_time_and_its_hazard_say_the_same(seed):
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(3, 5, generator=generator, dtype=torch.float64) + 0.01
    hazard, edges = steps.cumsum(1), torch.tensor([1.0, 2.0, 4.0, 7.0, 9.0], dtype=torch.float64)
    times = 9 * torch.rand(3, generator=generator, dtype=torch.float64)
    levels = hazard_at(hazard, edges, times)
    assert torch.allclose(time_at(hazard, edges, levels).diagonal(), times)
    assert torch.isinf(time_at(hazard, edges, hazard[:, -1].max() + torch.ones(1, dtype=torch.float64))).all()


def test_coverage_is_the_level_for_every_pattern():
    ensemble = make_ensemble()
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (1500, 3000))
    conformal = calibrate_sets(ensemble, calibration, None, fewest=AUGMENTED)
    found = coverage(as_model(ensemble, conformal), test, 0.9)
    assert found.loc[found["pattern"] == "all", "coverage"].between(0.87, 0.93).all()  # sd .013 over 12 seeds
    assert len(found["pattern"].unique()) == 9
    inside = found["coverage"].between(found["expected_low"], found["expected_high"])
    assert inside[found["expected_low"].notna()].mean() > 0.75


def test_sets_from_several_members_cover_no_less():
    ensemble = make_ensemble(3)
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (1500, 3000))
    conformal = calibrate_sets(ensemble, calibration, halves(1500, 3), fewest=AUGMENTED)
    found = coverage(as_model(ensemble, conformal), test, 0.9)
    assert (found.loc[found["pattern"] == "all", "coverage"] > 0.87).all()
    assert (found["coverage"] > 0.83).all()


def test_survival_bounds_keep_their_promise_under_censoring():
    ensemble = make_ensemble(1, names=("survival",))
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (3000, 3000))
    generator = torch.Generator().manual_seed(5)
    target = calibration.targets["survival"]
    censoring = 10 * torch.rand(3000, generator=generator)
    event = (target[:, 0] <= censoring).float()
    target.copy_(torch.stack([torch.minimum(target[:, 0], censoring), event], dim=1))
    conformal = calibrate_sets(ensemble, calibration, None)
    [answer] = conformal_sets(ensemble, conformal, test, 0.9)
    held = test.targets["survival"][:, 0].double() >= answer.low
    assert 0.5 < event.mean() < 0.75
    assert abs(held.double().mean() - 0.9) < 0.015


def as_model(ensemble, conformal):
    """A model around random networks."""
    return MultiModN.of(TrainedModel(make_study(), ensemble, conformal_scores=conformal))


def test_ordered_classes_have_no_gap_and_the_others_may():
    ensemble = make_ensemble(2)
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (150, 400))
    conformal = calibrate_sets(ensemble, calibration, halves(150))
    found = {each.unit.task: each for each in conformal_sets(ensemble, conformal, test, 0.7)}
    changes = found["stage"].in_set.int().diff(dim=1).ne(0).sum(1)
    ends = found["stage"].in_set[:, 0].int() + found["stage"].in_set[:, -1].int()
    assert (changes + ends <= 2).all()
    assert found["kind"].unit.ordered is False
    assert found["stage"].unit.ordered is True


@pytest.mark.parametrize("seed", range(3))
def test_a_higher_level_gives_a_larger_set(seed):
    ensemble = make_ensemble(2)
    calibration, test = (make_patients(n, seed + n, ensemble=ensemble) for n in (40, 10))
    conformal = calibrate_sets(ensemble, calibration, halves(40))
    for small, large in zip(*(conformal_sets(ensemble, conformal, test, level) for level in (0.6, 0.85)), strict=True):
        if small.in_set is not None:
            assert not (small.in_set & ~large.in_set).any()
        else:
            assert (large.low <= small.low).all()
        if small.high is not None:
            assert (large.high >= small.high).all()


def test_the_order_of_patients_changes_nothing():
    ensemble = make_ensemble(2)
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (60, 30))
    conformal = calibrate_sets(ensemble, calibration, halves(60))
    mixed = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    rows = make_patients(30, 30, ensemble=ensemble)
    shuffled = type(test)(test.patients[mixed.numpy()], rows.values, rows.position[mixed])
    one, other = (conformal_sets(ensemble, conformal, each, 0.8) for each in (test, shuffled))
    for a, b in zip(one, other, strict=True):
        for part in ("p_value", "low", "high", "abstain", "pattern"):
            x, y = getattr(a, part), getattr(b, part)
            assert x is y is None or torch.allclose(x[mixed].double(), y.double())


def test_a_pattern_that_was_never_calibrated_is_answered_from_its_largest_calibrated_subset():
    ensemble = make_ensemble(1, n_modalities=7, names=("kind", "size"))
    calibration = make_patients(80, 1, n_modalities=7, rate=0.0, ensemble=ensemble)
    few = torch.tensor([1, 1, 0, 0, 0, 0, 0]).bool()
    keep = torch.where(torch.arange(80).unsqueeze(1) < 40, few, few.logical_not())
    conformal = calibrate_sets(ensemble, blanked(calibration, keep), None)
    new = torch.tensor([1, 1, 1, 0, 0, 0, 0]).bool()
    test = make_patients(6, 3, n_modalities=7, rate=0.0, ensemble=ensemble)
    asked, known = (blanked(test, kept) for kept in (new, few))
    one, other = (
        sets_frame(ensemble, conformal, each, conformal_sets(ensemble, conformal, each, 0.9), 0.9)
        for each in (asked, known)
    )
    assert set(one["pattern"]) == {"m0+m1+m2"}
    assert set(one["calibrated_on"]) == {"m0+m1"}
    assert one.drop(columns="pattern").equals(other.drop(columns="pattern"))


def test_without_any_modality_a_set_is_that_of_the_class_frequencies():
    ensemble = make_ensemble(2)
    calibration = make_patients(300, 300, ensemble=ensemble)
    conformal = calibrate_sets(ensemble, calibration, halves(300))
    nothing = torch.zeros(3).bool()
    for n in (1, 2, 7, 64, 255):
        found = conformal_sets(ensemble, conformal, blanked(make_patients(n, n, ensemble=ensemble), nothing), 0.8)
        for answer in found[:3]:
            assert torch.equal(answer.p_value, answer.p_value[:1].expand(n, -1))
            assert answer.p_value.max() == 1


def test_what_a_task_must_not_see_is_no_part_of_its_pattern():
    ensemble = make_ensemble(1, names=("kind", "size"), excluded={"size": ["m1"]})
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (200, 40))
    conformal = calibrate_sets(ensemble, calibration, None)
    without = blanked(test, torch.tensor([True, False, True]))
    one, other = (conformal_sets(ensemble, conformal, each, 0.9)[1] for each in (test, without))
    assert torch.allclose(one.low, other.low)
    assert torch.equal(one.pattern, other.pattern)
    assert not conformal.scores[1].pattern[:, 1].any()
    assert len(conformal.scores[1].pattern) == 4
    assert len(conformal.scores[0].pattern) == 8


def test_enough_patients_of_the_very_pattern_are_used_as_they_are():
    ensemble = make_ensemble(1, names=("kind",))
    calibration = make_patients(400, 4, ensemble=ensemble)
    whole = calibration.presence.all(1)
    conformal = calibrate_sets(ensemble, calibration, None)
    methods = {
        tuple(p): METHODS[m]
        for p, m in zip(conformal.scores[0].pattern.tolist(), conformal.scores[0].method, strict=True)
    }
    assert whole.sum() >= 50
    assert methods[True, True, True] == "own"
    assert methods[False, False, False] == "exact"
    assert conformal.scores[0].count[-1] == 400


def test_too_few_patients_promise_nothing_and_say_so():
    ensemble = make_ensemble(1)
    calibration, test = (make_patients(n, n, rate=0.0, ensemble=ensemble) for n in (8, 5))
    for answer in conformal_sets(ensemble, calibrate_sets(ensemble, calibration, None), test, 0.9):
        assert answer.abstain.all()
        if answer.in_set is not None:
            assert answer.in_set.all()
        elif answer.high is not None:
            assert torch.isinf(answer.low).all()
            assert torch.isinf(answer.high).all()
        else:
            assert (answer.low == 0).all()


def test_an_interval_as_wide_as_without_any_modality_is_no_answer():
    ensemble = make_ensemble(1, names=("size",))
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (400, 60))
    conformal = calibrate_sets(ensemble, calibration, None)
    [answer] = conformal_sets(ensemble, conformal, test, 0.9)
    [nothing] = conformal_sets(ensemble, conformal, blanked(test, torch.zeros(3).bool()), 0.9)
    width, widest = answer.high - answer.low, (nothing.high - nothing.low)[0]
    assert torch.equal(answer.abstain, width >= widest * (1 - ROUNDING))
    assert nothing.abstain.all()
    assert 0 < answer.abstain.sum() < 60


@given(k=st.integers(0, 30), n=st.integers(1, 30))
def test_an_interval_is_that_of_clopper_and_pearson(k, n):
    from scipy.stats import binomtest

    k = min(k, n)
    found = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert interval(np.repeat([1.0, 0.0], [k, n - k])) == pytest.approx((found.low, found.high), abs=1e-9)


def test_the_expected_range_is_that_of_drawn_calibrations():
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.random((4000, 60)), axis=1)[:, 60 - 6]  # of ranks only the order counts
    low, high = expected(200, 60, 0.9)
    share = rng.binomial(200, drawn) / 200
    assert 0.94 < np.mean((share >= low) & (share <= high)) < 0.98


def test_coverage_counts_the_sets_that_hold_the_truth():
    ensemble = make_ensemble(1)
    calibration, test = (make_patients(n, n, ensemble=ensemble) for n in (200, 120))
    model = as_model(ensemble, calibrate_sets(ensemble, calibration, None))
    found, sets = coverage(model, test, 0.8), model.conformal.predict(test, level=0.8)
    assert list(found.columns) == COLUMNS
    for task in ("death", "kind", "stage"):
        names = model.trained.ensemble.tasks[task].stratum_names
        truths = [names[code] for code in model.trained.ensemble.tasks[task].strata(test.targets[task]).tolist()]
        own = sets[(sets["task"] == task)].reset_index().set_index(["patient", "output"])["in_set"]
        held = own.loc[list(zip(test.patients, truths, strict=True))].to_numpy(bool)[test.labelled[task].numpy()]
        row = found[(found["task"] == task) & (found["pattern"] == "all")].iloc[0]
        assert row["coverage"] == pytest.approx(held.mean())
        assert row["n"] == len(held)
    rest = found[(found["task"] == "size") & (found["pattern"] != "all")]
    assert rest["n"].sum() == 120
    assert (rest["n"].iloc[:-1].diff().dropna() <= 0).all()


def test_repeats_are_summed_up():
    ensemble = make_ensemble(1, names=("kind",))
    model = as_model(ensemble, calibrate_sets(ensemble, make_patients(300, 1, ensemble=ensemble), None))
    parts = [coverage(model, make_patients(200, seed, ensemble=ensemble), 0.9) for seed in (2, 3, 4)]
    found = summary(parts).set_index("pattern")
    assert found.loc["all", "coverage"] == pytest.approx(np.mean([part.iloc[0]["coverage"] for part in parts]))
    assert found.loc["all", "repeats"] == 3
    assert pd.isna(found.loc["all", "expected"])
    assert 0 <= found.loc["m0+m1+m2", "expected"] <= 3


def test_models_of_several_folds_are_counted_together():
    ensemble = make_ensemble(1, names=("kind",))
    models = [
        as_model(ensemble, calibrate_sets(ensemble, make_patients(300, k, ensemble=ensemble), None)) for k in (1, 2)
    ]
    tests = [make_patients(n, n, ensemble=ensemble) for n in (80, 120)]
    parts = [coverage(model, test, 0.9).iloc[0] for model, test in zip(models, tests, strict=True)]
    both = tabulate(pd.concat([covered(m, test, 0.9) for m, test in zip(models, tests, strict=True)]), 0.9).iloc[0]
    assert both["n"] == 200
    assert both["coverage"] == pytest.approx((80 * parts[0]["coverage"] + 120 * parts[1]["coverage"]) / 200)


def test_each_label_of_several_has_sets_of_its_own():
    ensemble = make_ensemble(1)
    units = [unit for unit in units_of(ensemble.tasks) if unit.task == "both"]
    assert [unit.names for unit in units] == [("l1=0", "l1=1"), ("l2=0", "l2=1")]
    assert [unit.output for unit in units] == ["l1", "l2"]
    conformal = calibrate_sets(ensemble, make_patients(70, 1, ensemble=ensemble), None)
    counts = [
        int(scored.count[-1])
        for unit, scored in zip(conformal.units, conformal.scores, strict=True)
        if unit.task == "both"
    ]
    assert counts == [60, 70]  # every seventh lacks the first


@pytest.fixture(scope="module")
def trained():
    cohort = make_cohort()
    return cohort, MultiModN(make_study(training={"members": 2})).fit(cohort)


def test_a_trained_model_answers_for_every_patient_and_task(trained):
    cohort, model = trained
    found = model.conformal.fit(cohort).predict(cohort, level=0.8)
    assert found.index.nunique() == len(cohort)
    assert len(found) == 4 * len(cohort)
    assert set(found["output"]) == {"alive", "dead", "size", "survival"}
    assert found["in_set"].isna().sum() == 2 * len(cohort)
    assert list(found.index[:4]) == [cohort.patients[0]] * 4
    assert model.trained.conformal_scores.source == "held-out"
    held = sum(len(part) for part in (model.split.train, model.split.validation))
    assert model.trained.conformal_scores.scores[1].count.max() == held


def test_a_cohort_of_its_own_calibrates_the_ensemble(trained):
    cohort, model = trained
    model.conformal.fit(calibration=cohort.subset(model.split.test))
    assert model.trained.conformal_scores.source == "cohort"
    assert all((scored.predictor == -1).all() for scored in model.trained.conformal_scores.scores)


def test_patients_who_were_trained_on_do_not_calibrate(trained):
    cohort, model = trained
    for part in ("train", "validation"):
        with pytest.raises(DataError, match=r"calibration patient\(s\) were trained on"):
            model.conformal.fit(calibration=cohort.subset(getattr(model.split, part)))


def test_nobody_held_out_is_an_error():
    cohort = make_cohort()
    ids = cohort.patients.to_numpy()
    study = make_study(split={"validation": 0, "test": 0.2})
    model = MultiModN(study).fit(cohort, split=Split(ids[:30], [], ids[30:]))
    with pytest.raises(DataError, match="there are none: give the split a validation part"):
        model.conformal.fit(cohort)


@pytest.mark.parametrize("level", [0.0, 1.0, 90])
def test_a_level_is_a_share(trained, level):
    cohort, model = trained
    model.conformal.fit(cohort)
    with pytest.raises(DataError, match="expected a share between 0 and 1"):
        model.conformal.predict(cohort, level=level)


def test_sets_need_a_calibration(trained):
    cohort, model = trained
    model.trained.conformal_scores = None
    for ask in (model.conformal.predict, lambda each: coverage(model, each)):
        with pytest.raises(NotFittedError, match="No sets were calibrated"):
            ask(cohort)
