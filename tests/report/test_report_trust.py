"""What a report says of trust: simple models, calibration, decisions, sets, tasks together."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from multimodn.evaluate.baselines.stored_comparison import COMPARISON, cached_comparison, keep_comparison
from multimodn.evaluate.performance.conformal_coverage import COLUMNS
from multimodn.findings import sentences
from multimodn.findings.frames import ComparisonFrame, CoverageFrame
from multimodn.report.content import TaskInfo
from multimodn.report.sections.all_sections import page_of
from multimodn.report.sections.appendix import appendix_section
from multimodn.report.sections.baselines import baselines_section
from multimodn.report.sections.brief import brief_section, cautions
from multimodn.report.sections.calibration import calibration_section
from multimodn.report.sections.patients import patients_section
from multimodn.report.sections.sets import set_words, sets_part
from multimodn.report.sections.tasks import tasks_section
from multimodn.report.sections.words import few_rows, more_rows
from tests.evaluate._verdicts import made
from tests.report._findings import make_findings
from tests.report.test_figures_decision import curve

SMALL = make_findings(3, 2, 60)


def having(lacking=None, **answers):
    reasons = SMALL.lacking if lacking is None else lacking
    return replace(SMALL, answers={**SMALL.answers, **answers}, lacking=reasons)


def said(section):
    texts = []
    for block in section.blocks:
        texts += [said(block)] if hasattr(block, "blocks") else [str(getattr(block, "text", ""))]
        texts += [*getattr(block, "items", [])]
        frame = getattr(block, "frame", None)
        texts += [] if frame is None else [frame.to_csv()]
    return "\n".join(texts)


def pictures(section):
    for block in section.blocks:
        yield from pictures(block) if hasattr(block, "blocks") else ()
        yield from [block.picture.name] if hasattr(block, "picture") else ()


def compared(*tasks):
    frame = pd.concat([one.assign(task=f"task_{k}") for k, one in enumerate(tasks)], ignore_index=True)
    return ComparisonFrame.of(frame, patterns=made().patterns)


HELPED = {"best": (0.1, 0.02, 0.2), "adjusted": 0.01}
LOST = {"best": (0.1, 0.02, 0.2), "adjusted": 0.3}
SAME = {"best": (0.0, -0.1, 0.1), "adjusted": 1.0}
HURT = {"best": (-0.1, -0.2, -0.02), "adjusted": 0.01}
UNKNOWN = {"best": (0.1, np.nan, np.nan), "late": (0.1, np.nan, np.nan), "adjusted": np.nan}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (HELPED, "compared with the best single modality it is better for task_0;"),
        (LOST, "it is better for task_0 (no longer so after adjustment for all comparisons);"),
        (SAME, "compared with the best single modality it is not clearly different for task_0;"),
        (HURT, "compared with the best single modality it is worse for task_0;"),
        (UNKNOWN, "it is not comparable for task_0, where patients or outcomes are too few;"),
    ],
)
def test_the_verdict_says_what_the_interval_says(case, words):
    (text,) = sentences.fusion(having(baselines=compared(made(**case))).findings)
    assert words in text
    assert ("patients do not show that multimodal fusion helped" in text) == (case is not HELPED)


def test_tasks_with_the_same_verdict_are_named_together():
    (text,) = sentences.fusion(having(baselines=compared(made(**SAME), made(**SAME))).findings)
    assert "late ridge fusion it is not clearly different for task_0 and task_1." in text


def test_the_box_on_top_has_the_verdict_and_calibration():
    slopes = pd.DataFrame({"task": ["task_0"], "slope_low": [0.8], "slope_high": [1.2]})
    found = having(baselines=compared(made(**SAME)), slopes=slopes)
    text = said(brief_section(found))
    assert sentences.fusion(found.findings)[0] in text
    assert sentences.calibration(found.findings)[0] in text


def test_simple_models_have_a_sentence_for_each_task_figures_and_groups():
    groups = [("late_ridge", "pattern", "modality_number_00+modality_number_01", -0.1, 0.1, 1.0)]
    section = baselines_section(having(baselines=compared(made(groups=groups), made(**HURT))))
    text = said(section)
    assert "task_0: AUROC 0.80 in 100 test patients; multimodal fusion helped" in text
    assert "task_1: AUROC 0.80 in 100 test patients; multimodal fusion did not help" in text
    assert "all but modality_number_02,late ridge fusion,0.00 (\N{MINUS SIGN}0.10 to 0.10)" in text
    assert list(pictures(section)) == ["baselines", "baselines-differences"]


def test_what_simple_models_had_not_and_which_failed_is_a_caution():
    frame = ComparisonFrame.of(compared(made()), left_out=["slides"], failed={"lightgbm": "p07 is broken"})
    text = said(baselines_section(having(baselines=frame)))
    assert "they lacked slides, which this model had" in text
    assert "There were too few data to train boosted trees (LightGBM)." in text
    assert "p07" not in text


@pytest.mark.parametrize(
    ("section", "name"),
    [(baselines_section, "baselines"), (tasks_section, "conflicts"), (tasks_section, "gains"), (sets_part, "coverage")],
)
def test_an_answer_that_is_not_there_has_its_reason(section, name):
    assert "It was not to be had." in said(section(having(lacking={name: "It was not to be had."})))


def slopes(**ends):
    known = {"slope_low": 0.8, "slope_high": 1.2, "intercept_low": -0.1, "intercept_high": 0.1, **ends}
    numbers = {"slope": 1.0, "intercept": 0.0, "ece": 0.02, "ece_chance": 0.03, "n": 60}
    return pd.DataFrame([{"task": "task_0", "output": "task_0", **numbers, **known}])


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({}, "predictions of task_0 do not differ from what was observed"),
        ({"slope_high": 0.9}, "predictions of task_0 are overconfident"),
        ({"slope_low": 1.1}, "predictions of task_0 are underconfident"),
        ({"intercept_low": 0.05}, "predictions of task_0 are too low on average"),
        ({"intercept_high": -0.05}, "predictions of task_0 are too high on average"),
        (dict.fromkeys(["slope_low", "slope_high", "intercept_low", "intercept_high"], np.nan), "too few outcomes"),
    ],
)
def test_calibration_in_words_says_what_slopes_and_intercepts_say(ends, words):
    (text,) = sentences.calibration(having(slopes=slopes(**ends)).findings)
    assert words in text
    assert text.startswith("Calibration: ")


def test_calibration_in_words_gives_the_slopes():
    both = pd.concat([slopes().assign(slope=0.7), slopes().assign(slope=1.05, task="task_1")])
    assert sentences.calibration(having(slopes=both).findings)[0].endswith("Slopes (1 is ideal): 0.70 to 1.05.")
    assert sentences.calibration(having(slopes=slopes()).findings)[0].endswith("ideal): 1.00.")


def test_of_a_task_whose_outputs_are_not_all_known_it_is_said_how_many_are():
    unknown = slopes(**dict.fromkeys(["slope_low", "slope_high", "intercept_low", "intercept_high"], np.nan))
    (text,) = sentences.calibration(having(slopes=pd.concat([slopes(), unknown])).findings)
    assert "predictions of task_0 (1 of 2 outputs) do not differ" in text


def test_calibration_tells_its_error_by_chance_and_patterns():
    rows = slopes().assign(pattern="modality_number_00+modality_number_01")
    text = said(calibration_section(having(slopes=slopes(), calibration_by_pattern=rows)))
    assert "calibration error,by chance alone,n" in text
    assert "all but modality_number_02,1.00 (0.80 to 1.20)" in text


def test_a_slope_that_is_not_known_says_why():
    found = slopes().assign(slope=np.nan)
    assert "predictions alike,0.00" in said(calibration_section(having(slopes=found)))
    assert "too few outcomes,too few" in said(calibration_section(having(slopes=found.assign(intercept=np.nan))))


def test_each_task_of_classes_has_a_decision_curve():
    both = pd.concat([curve(["task_0"], task="task_0"), curve(["task_1"], task="task_1")])
    names = [name for name in pictures(calibration_section(having(decision=both))) if name.startswith("decision-")]
    assert [name.startswith(f"decision-task-{k}") for k, name in enumerate(names)] == [True, True]


def test_without_tasks_of_classes_there_is_no_decision_to_be_made():
    facts = [TaskInfo("size", "regression", "units", ("size",), "r2")]
    assert "No task predicts probabilities of classes" in said(calibration_section(replace(SMALL, tasks=facts)))


def test_long_tables_keep_the_first_rows_of_each_task_and_say_how_many_are_left_out():
    rows = pd.DataFrame({"task": np.repeat(["a", "b", "c"], [50, 5, 30]), "row": range(85)})
    kept = few_rows(rows)
    assert kept["task"].value_counts().to_dict() == {"a": 20, "b": 5, "c": 20}
    assert more_rows(rows, kept)[0].text.startswith("40 more rows are not shown")
    assert more_rows(kept, kept) == []


def covered(reached=True, source="held-out", n_members=4):
    row = dict.fromkeys(COLUMNS, "") | {"task": "task_0", "pattern": "all", "n": 60, "coverage": 0.8, "low": 0.7}
    row |= {"high": 0.95 if reached else 0.85, "within": reached, "reached": reached, "size": 1.4, "abstained": 0.25}
    row |= {"n_calibration": np.nan, "level": 0.9}
    of_pattern = {"pattern": "modality_number_00", "method": "nested", "n_calibration": 70.0, "n": 12}
    return CoverageFrame.of(pd.DataFrame([row, row | of_pattern], columns=COLUMNS), source=source, n_members=n_members)


def test_sets_are_counted_overall_and_by_pattern_with_what_is_promised_and_what_not():
    text = said(sets_part(having(coverage=covered())))
    assert "task_0,all,60,0.80 (0.70 to 0.95),within chance,1.4 classes,25%" in text
    assert "task_0,modality_number_00,12,0.80 (0.70 to 0.95),within chance,1.4 classes,25%,nested,70" in text
    assert "missing not at random" in text
    assert "In 0 of 2 rows" in text


@pytest.mark.parametrize("is_reached", [True, False])
def test_sets_that_held_the_truth_too_seldom_are_a_caution(is_reached):
    found = having(coverage=covered(is_reached), baselines=compared(made()))
    text = "Conformal prediction sets of task_0 covered fewer patients than their level (see Calibration)."
    assert (text in cautions(found)) is not is_reached
    assert (",below," in said(sets_part(found))) is not is_reached


@pytest.mark.parametrize(
    ("source", "n_members", "words", "others"),
    [
        ("held-out", 4, "80% coverage is proven", "slightly too small"),
        ("held-out", 1, "slightly too small", "held out in training"),
        ("cohort", 4, "patients whom the model was not trained on", "level is 90%"),
    ],
)
def test_what_is_proven_depends_on_how_sets_were_calibrated(source, n_members, words, others):
    text = said(sets_part(having(coverage=covered(source=source, n_members=n_members))))
    assert words in text
    assert others in text
    assert ("proven" in text) == (source == "held-out" and n_members > 1)


CLASSES = TaskInfo("t", "multiclass", "log-odds", ("a", "b"), "auroc")
LABELS = TaskInfo("t", "multilabel", "log-odds", ("x", "y"), "auroc")
NUMBER = TaskInfo("t", "regression", "units", ("t",), "r2")
TIME = TaskInfo("t", "survival", "log-risk", ("t",), "cindex")


def of_set(outputs, in_set, low=np.nan, high=np.nan, abstain=False):
    flags = pd.array(in_set, dtype="boolean")
    return pd.DataFrame({"output": outputs, "in_set": flags, "low": low, "high": high, "abstain": abstain})


@pytest.mark.parametrize(
    ("task", "rows", "words"),
    [
        (CLASSES, of_set(["a", "b", "c"], [True, False, True]), "a or c"),
        (CLASSES, of_set(["a", "b"], [True, True], abstain=True), "abstains, every class is in the set"),
        (CLASSES, of_set(["a", "b"], [False, False], abstain=True), "abstains, no class fits"),
        (
            LABELS,
            of_set(["x=0", "x=1", "y=0", "y=1"], [True, False, True, True], abstain=[False, False, True, True]),
            "x=0 and y: abstains, every class is in the set",
        ),
        (NUMBER, of_set(["t"], [pd.NA], -1.5, 3.0), "\N{MINUS SIGN}1.5 to 3"),
        (
            NUMBER,
            of_set(["t"], [pd.NA], -1.5, 3.0, abstain=True),
            "abstains: \N{MINUS SIGN}1.5 to 3, no narrower than without any",
        ),
        (TIME, of_set(["survival"], [pd.NA], 120.0), "no event before 120"),
        (TIME, of_set(["survival"], [pd.NA], 0.0, abstain=True), "abstains: no time can be given"),
    ],
)
def test_a_set_in_words(task, rows, words):
    assert set_words(rows, task).startswith(words)


def test_many_classes_of_a_set_are_counted():
    names = [f"c{k}" for k in range(9)]
    assert set_words(of_set([*names, "d"], [*[True] * 9, False]), CLASSES) == "c0, c1, c2, c3, c4, c5 or 3 more"


def test_a_patients_set_stands_beside_the_prediction_of_that_patient_and_task():
    rows = [(who, task, name, who == "A", False) for who in "AB" for task in ("task_0", "task_1") for name in "xy"]
    sets = pd.DataFrame(rows, columns=["patient", "task", "output", "in_set", "abstain"]).set_index("patient")
    sets = sets.assign(in_set=sets["in_set"].astype("boolean"), low=np.nan, high=np.nan, level=0.9)
    sets["in_set"] &= sets["output"] == "x"
    sets["abstain"] = sets.index == "B"
    parts = [block for block in patients_section(having(patient_sets=sets)).blocks if hasattr(block, "blocks")]
    tables = [next(block.frame for block in part.blocks if hasattr(block, "frame")) for part in parts]
    assert list(tables[0]["90% set"]) == ["x", "x"]
    assert list(tables[1]["90% set"]) == ["abstains, no class fits"] * 2
    assert "No conformal sets." in said(patients_section(having(lacking={"patient_sets": "No conformal sets."})))


def pulls(*shares):
    lines = [("task_0", f"task_{k + 1}", 0.1, share, 30) for k, share in enumerate(shares)]
    return pd.DataFrame(lines, columns=["task", "other", "cosine", "conflict", "n"])


def test_tasks_that_pull_apart_more_often_than_not_are_named():
    text = said(tasks_section(having(conflicts=pulls(0.2, 0.8))))
    assert "On average two tasks conflict in 50% of batches; in more than half: task_0 and task_2 (80%)." in text
    assert "no two do in more than half" in said(tasks_section(having(conflicts=pulls(0.2, 0.3))))


def test_tasks_without_a_patient_in_common_do_not_meet():
    text = said(tasks_section(having(conflicts=pulls(np.nan).assign(n=0))))
    assert "No patient has labels of two tasks" in text


def test_gains_are_told_with_their_side():
    rows = [("task_0", 0.1, 0.02, 0.2), ("task_1", -0.1, -0.2, -0.02), ("task_2", 0.0, -0.1, 0.1)]
    gains = pd.DataFrame(rows, columns=["task", "gain", "low", "high"])
    gains = gains.assign(metric="auroc", joint=0.8, single=0.7, n=60)
    section = tasks_section(having(gains=gains))
    text = said(section)
    assert "gains: task_0 0.10 (0.02 to 0.20); loses: task_1 \N{MINUS SIGN}0.10" in text
    assert "no clear difference: task_2" in text
    assert "task-gains" in list(pictures(section))


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_tasks_together_need_two(n_tasks):
    names = [section.name for section in page_of(make_findings(2, n_tasks, 20), "").sections]
    assert ("tasks" in names) == (n_tasks == 2)


def test_the_model_card_is_named_where_there_is_one():
    run = replace(SMALL.run, documents=["MODEL_CARD.md", "CHECKLIST.md"])
    assert "MODEL_CARD.md (the model card) and CHECKLIST.md" in said(appendix_section(replace(SMALL, run=run)))
    assert "MODEL_CARD" not in said(appendix_section(SMALL))


def model(**provenance):
    known = {"data_hash": "d", "split_hash": "s", "seed": 0, **provenance}
    return SimpleNamespace(provenance=known, study=SimpleNamespace(tasks=[SimpleNamespace(name="death")]))


def test_a_kept_comparison_is_read_as_it_was(tmp_path):
    frame = made(groups=[("late_ridge", "pattern", "labs", -0.1, 0.1, 1.0)], **UNKNOWN)
    keep_comparison(tmp_path, model(), frame)
    found = cached_comparison(tmp_path, model())
    pd.testing.assert_frame_equal(found, frame)
    assert all(getattr(found, name) == getattr(frame, name) for name in ComparisonFrame.FIELDS)


@pytest.mark.parametrize("other", [{"data_hash": "x"}, {"split_hash": "x"}, {"seed": 1}])
def test_a_comparison_of_another_model_is_not_used(tmp_path, other):
    keep_comparison(tmp_path, model(), made())
    assert cached_comparison(tmp_path, model(**other)) is None


@pytest.mark.parametrize("text", [None, "", "{}", "[]", json.dumps({"of": 1}), "\udcff"])
def test_what_is_no_comparison_is_not_used(tmp_path, text):
    if text is not None:
        (tmp_path / COMPARISON).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert cached_comparison(tmp_path, model()) is None
