import re

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort
from multimodn.audit.audit import audit
from multimodn.audit.findings import PresenceAuroc
from multimodn.data.splits import Split, make_split
from multimodn.errors import DataError
from multimodn.evaluate.stress.mechanisms import Mechanism, high_outcome
from multimodn.training.build import fit_tasks
from tests.missingness._simulated import N, make_study, simulate, without

pytestmark = pytest.mark.filterwarnings("ignore:Mechanism:multimodn.errors.DataWarning")  # who would lose everything


def of_task(found, name):
    return next(task for task in found.tasks if task.task == name)


def test_missing_at_random_raises_at_most_one_alarm_in_twenty_cohorts(monkeypatch):
    nothing = PresenceAuroc(None, None, None, "it decides no alarm, and takes time")
    monkeypatch.setattr("multimodn.audit.audit.presence_auroc", lambda *_: nothing)
    study, alarms = make_study(), []
    for seed in range(20):
        cohort = Mechanism("mcar", 0.4).apply(simulate(seed=seed), seed=seed)
        alarms += audit(study, cohort, make_split(study, cohort), seed=seed).alarms
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("blamed", ["death", "grade", "size", "survival"])
@pytest.mark.parametrize("kind", ["mnar", "flipped"])
def test_planted_dependence_is_named_by_modality_and_task(blamed, kind):
    study, cohort = make_study(), Mechanism("mcar", 0.2).apply(simulate(seed=3))
    task = next(task for task in fit_tasks(study, cohort) if task.name == blamed)
    cohort = Mechanism(kind, 0.8, ("m1",)).apply(cohort, high_outcome(task, cohort.targets[blamed]))
    found = audit(study, cohort)
    assert [(alarm.task, alarm.modality) for alarm in found.alarms] == [(blamed, "m1")]
    alarm = found.alarms[0]
    assert (alarm.present_high < alarm.present_low) == (kind == "mnar")
    verdict = of_task(found, blamed).verdict
    assert verdict.startswith(f"Alarm: whether a patient has 'm1' depends on the outcome of '{blamed}' ('m1': ")
    assert "Keep `missingness: neutral` (the default); use `informative` only if" in verdict
    assert of_task(found, blamed).auroc.low > 0.55
    others = [task for task in found.tasks if task.task != blamed]
    assert all(task.verdict.startswith(f"No modality raises an alarm for '{task.task}'.") for task in others)


def test_a_tiny_difference_among_many_patients_is_no_alarm():
    cohort = simulate(n=20_000)
    high = cohort.targets["death"]["y"].to_numpy() == 1
    lost = np.random.default_rng(0).random(len(cohort)) < np.where(high, 0.44, 0.40)
    found = audit(make_study(tasks=("death",)), without(cohort, "m1", lost))
    m1 = of_task(found, "death").modalities[1]
    assert m1.p_corrected < 1e-4
    assert not m1.alarm


def test_dependence_that_is_not_monotone_is_seen():
    cohort = simulate(seed=1)
    middle = cohort.targets["grade"]["g"].to_numpy() == 1
    found = audit(make_study(), without(cohort, "m2", middle & (np.arange(N) % 10 > 1)))
    assert [(alarm.task, alarm.modality) for alarm in found.alarms] == [("grade", "m2")]


def test_patterns_are_counted_by_stratum():
    cohort = simulate(seed=2)
    presence = without(without(cohort, "m0", np.arange(N) % 3 == 0), "m3", np.arange(N) % 5 == 0)
    task = of_task(audit(make_study(), presence), "grade")
    names = presence.presence.apply(lambda row: "+".join(row.index[row]), axis=1)
    table = pd.crosstab(names, cohort.targets["grade"]["g"])
    assert [found.n for found in task.patterns] == sorted(names.value_counts(), reverse=True)
    for found in task.patterns:
        assert found.n == (names == found.pattern).sum()
        assert found.strata == tuple(table.loc[found.pattern])
        assert found.labelled == sum(found.strata)
        assert "+".join(found.modalities) == found.pattern
    assert task.strata == tuple(table.sum())
    assert (task.n, task.labelled, task.n_high) == (N, table.to_numpy().sum(), task.strata[2])
    m0 = task.modalities[0]
    has = presence.presence["m0"] & cohort.targets["grade"]["g"].notna()
    assert m0.present_high == pytest.approx(has[cohort.targets["grade"]["g"] == 2].sum() / task.strata[2])


def test_the_same_modalities_for_everyone_say_nothing():
    found = audit(make_study(), simulate())
    assert found.alarms == []
    for task in found.tasks:
        assert (task.auroc.value, task.auroc.note) == (0.5, "all labelled patients have the same modalities")
        assert {one.test for one in task.modalities} == {"none"}
        assert task.holes == ()
        assert "Presence alone predicts nothing (AUROC .50)" in task.verdict
        assert task.verdict.endswith("Any mode of training is fine.")


def test_few_patients_prove_little():
    found = audit(make_study(tasks=("death",)), Mechanism("mcar", 0.3).apply(simulate(n=80)))
    assert re.search(
        r"difference in presence of less than about \d+ percentage points would hardly be detected",
        found.tasks[0].verdict,
    )


def test_holes_are_subsets_without_an_outcome():
    cohort = simulate(seed=4)
    high = cohort.targets["death"]["y"].to_numpy() == 1
    cohort = without(without(cohort, "m1", high), "m3", np.arange(N) % 2 == 0)
    task = of_task(audit(make_study(), cohort), "death")
    assert {hole.stratum for hole in task.holes} == {1}
    assert {hole.subset for hole in task.holes if hole.smallest} == {"m1"}
    assert len(task.holes) == 8  # m1 with any of the three others
    assert {hole.subset for hole in task.holes if hole.is_pattern} == {"m0+m1+m2", "m0+m1+m2+m3"}
    only = next(hole for hole in task.holes if hole.subset == "m1")
    assert (only.n, only.labelled) == ((~high).sum(), (~high).sum())
    assert f"Holes: for 2 pattern(s) with {(~high).sum()} of 600 patients" in task.verdict
    assert "no patient with outcome 1)" in task.verdict
    assert of_task(audit(make_study(), cohort), "size").holes == ()


def test_outcomes_that_nobody_with_a_modality_has_are_named():
    cohort = simulate(seed=4)
    target = cohort.targets["survival"]
    event, early = target["e"] == 1, target["t"] <= target["t"][target["e"] == 1].median()
    high = cohort.targets["death"]["y"].to_numpy() == 1
    some = without(without(cohort, "m1", event & early), "m3", high)
    task = of_task(audit(make_study(), some), "survival")
    m1 = next(one for one in task.absent if one.modality == "m1")
    assert m1.labelled == (~(event & early)).sum()
    assert [task.outcomes[k] for k in m1.strata] == ["event early"]
    assert not m1.is_left_out
    sentence = f"of {m1.labelled} labelled patients with 'm1' none has event early. What these modalities say"
    assert f"Absent outcomes: {sentence}" in task.verdict
    assert "is not trained on" not in task.verdict
    assert of_task(audit(make_study(), some), "grade").absent == ()
    death = of_task(audit(make_study(), some), "death")
    assert [(one.modality, one.strata, one.is_left_out) for one in death.absent] == [("m3", (1,), False)]


def test_a_modality_without_any_event_is_said_to_be_left_out():
    cohort = simulate(seed=4)
    task = of_task(audit(make_study(), without(cohort, "m1", cohort.targets["survival"]["e"] == 1)), "survival")
    assert [(one.modality, one.is_left_out) for one in task.absent] == [("m1", True)]
    assert "none has event late or event early" in task.verdict
    assert "Under `missingness: neutral` 'survival' is not trained on 'm1': without outcomes to compare" in task.verdict


def test_holes_of_many_modalities_are_patterns():
    cohort = simulate(n=300, n_modalities=9)
    high = cohort.targets["death"]["y"].to_numpy() == 1
    task = audit(make_study(9, ("death",)), without(cohort, "m8", high)).tasks[0]
    assert [(hole.subset, hole.stratum) for hole in task.holes] == [("+".join(f"m{m}" for m in range(9)), 1)]


def test_a_pattern_without_labels_is_named():
    cohort = simulate()
    cohort = without(cohort, "m0", cohort.targets["grade"]["g"].isna())
    found = audit(make_study(), cohort)
    assert of_task(found, "grade").unlabelled == ("m1+m2+m3",)
    assert "No patient has a label in 1 pattern(s): m1+m2+m3." in of_task(found, "grade").verdict
    assert of_task(found, "size").unlabelled == ()


def test_shift_between_parts_and_sites():
    sites = np.repeat(["A", "B", "C"], N // 3)
    cohort = simulate(seed=5, groups=sites)
    lost = np.random.default_rng(0).random(N) < np.where(sites == "B", 0.7, 0.2)
    cohort = without(cohort, "m2", lost)
    ids = cohort.patients.to_numpy(dtype=object)
    mixed = Split(ids[::2], ids[1::4], ids[3::4])
    found = audit(make_study(), cohort, mixed)
    split, group = found.shifts
    assert (split.by, split.parts, split.n, split.shifted) == (
        "split",
        ("train", "validation", "test"),
        (300, 150, 150),
        False,
    )
    assert (group.parts, group.n, group.shifted) == (("A", "B", "C"), (200, 200, 200), True)
    assert dict(group.presence)["m2"] == pytest.approx([1 - lost[sites == site].mean() for site in "ABC"])
    assert np.array(group.counts).sum(axis=1).tolist() == list(group.n)
    assert re.search(r"Patterns differ between groups: 'm2' is present for \d\d% in B and \d\d% in [AC]", found.verdict)
    by_site = Split(ids[:200], ids[400:], ids[200:400])
    split = audit(make_study(), cohort, by_site).shifts[0]
    assert split.shifted
    assert audit(make_study(), simulate()).shifts == ()


def test_families_are_not_compared_and_small_sites_are_joined():
    found = audit(make_study(), Mechanism("mcar", 0.3).apply(simulate(groups=np.arange(N))))
    assert found.shifts[0].test == "none"
    assert "600 groups of 600 patients are taken for families" in found.verdict
    sites = np.where(np.arange(N) < 560, "large", "small")
    sites = np.where(np.arange(N) >= 580, "smaller", sites).astype(object)
    sites[560:590] = np.repeat(["s1", "s2", "s3"], 10)
    sites[590:] = None
    found = audit(make_study(), Mechanism("mcar", 0.3).apply(simulate(groups=sites)))
    assert found.shifts[0].parts == ("large", "(3 small groups)")
    assert found.shifts[0].n == (560, 30)


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_what_does_not_fit_is_said():
    cohort, study = simulate(), make_study()
    renamed = Cohort(cohort.patients, cohort.modalities, {"deaths": cohort.targets["death"]})
    with pytest.raises(
        DataError, match=r"(?s)4 problems.*task 'death': the cohort has no targets.*Did you mean 'deaths'"
    ):
        audit(study, renamed)
    fewer = Cohort(cohort.patients, {"m0": cohort.modalities["m0"]}, cohort.targets)
    with pytest.raises(DataError, match="modality 'm3': the cohort does not hold it"):
        audit(study, fewer)
    more = Cohort(cohort.patients, cohort.modalities | {"m9": cohort.modalities["m0"]}, cohort.targets)
    with pytest.raises(DataError, match=r"modality 'm9': the study does not name it\. Did you mean 'm"):
        audit(study, more)
    with pytest.raises(DataError, match=r"part 'test' names 1 patient\(s\) that are not in the cohort: nobody"):
        audit(study, cohort, Split(cohort.patients[:5], [], ["nobody"]))


def test_a_task_without_strata_is_not_judged(monkeypatch):
    study = make_study(tasks=("death",))
    cohort = without(simulate(), "m1", np.arange(N) % 2 == 0)
    kind = type(fit_tasks(study, cohort)[0])
    monkeypatch.setattr(kind, "strata", lambda self, target: target.long() * 0)
    task = audit(study, cohort).tasks[0]
    assert task.auroc.value is None
    assert task.verdict == "Nothing can be said about 'death': all its labels are in one outcome stratum."
