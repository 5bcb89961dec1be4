import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from multimodn import Cohort, MultiModN
from multimodn.card import CARD, CHECKLIST, write_card
from multimodn.card.facts import read_facts
from multimodn.card.sections.patients import flow_section
from multimodn.data.checks import Note, class_notes, orphan_notes
from multimodn.errors import DataError, NotFittedError
from multimodn.evaluate.performance.performance import calibration_summary, performance
from multimodn.findings.names import output_words
from tests.card._cards import N, cohort_of, fit, frames, section, study, tables, written
from tests.encoders._slide_cases import slides

WORDS = {
    "intended_use": "Shown | to *nobody* <script>alert(1)</script>\n# a heading",
    "outcomes": {"death": "Death | within a year"},
    "limitations": ["Only | one _hospital_."],
}


@pytest.fixture(scope="module")
def cohort():
    return cohort_of(*frames())


@pytest.fixture(scope="module")
def model(cohort):
    return fit(cohort, card=WORDS)


@pytest.fixture(scope="module")
def texts(model, cohort, tmp_path_factory):
    return written(model, cohort, tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def card(texts):
    return texts[0]


@pytest.fixture
def unaudited(monkeypatch):
    """Leaves the audit out, which takes longest."""
    monkeypatch.setattr("multimodn.card.scores.audit", lambda study, cohort, split: None)


def column(table, name):
    k = table[0].index(name)
    return {row[0]: row[k] for row in table[1:]}


def known(cohort, task, rows):
    return int(cohort.targets[task].loc[list(rows)].notna().all(axis=1).sum())


def test_the_flow_counts_patients_labels_and_modalities(card, model, cohort):
    (flow,) = tables(section(card, 3))
    parts = {"Train": model.split.train, "Validation": model.split.validation, "Test": model.split.test}
    parts["All"] = cohort.patients
    for name, ids in parts.items():
        found = column(flow, name)
        assert found["Patients"] == str(len(ids))
        for task in cohort.targets:
            assert found[f"with a label of {task}"] == str(known(cohort, task, ids))
        for modality, frame in cohort.modalities.items():
            assert found[f"with {modality}"] == str(int(pd.Index(ids).isin(frame.index).sum()))


def test_the_model_section_says_how_much_network_and_experts_count(card, model):
    weights = model.provenance["experts"]["weights"]["death"]
    assert f"death {weights['network']:.2f} and {weights['experts']:.2f}" in section(card, 1)


def test_the_parts_of_the_flow_add_up(card):
    (flow,) = tables(section(card, 3))
    for row in flow[1:]:
        assert int(row[1]) == sum(map(int, row[2:]))


@pytest.mark.usefixtures("unaudited")
def test_patients_in_no_part_are_counted(model, cohort, tmp_path):
    split = replace(model.split, validation=model.split.validation[:-7])
    other = MultiModN.of(replace(model.trained, split=split))
    (flow,) = tables(section(written(other, cohort, tmp_path)[0], 3))
    assert column(flow, "In no part")["Patients"] == "7"
    for row in flow[1:]:
        assert re.fullmatch(r"\d+", row[-1]) is None or int(row[1]) == sum(map(int, row[2:]))


def test_characteristics_are_those_of_the_parts(card, model, cohort):
    rows = tables(section(card, 4))[0]
    found = {row[0]: row[1:] for row in rows[1:]}
    assert rows[0] == ["", f"Training (n = {len(model.split.train)})", f"Test (n = {len(model.split.test)})"]
    labs = cohort.modalities["labs"]
    for k, ids in enumerate((model.split.train, model.split.test)):
        part = labs.loc[list(ids)]
        share = (part["sex"] == "f").sum()
        assert found["f"][k] == f"{share} ({share / len(part):.0%})"
        events = int(cohort.targets["survival"].loc[list(ids), "event"].sum())
        assert found["events"][k].startswith(f"{events} of {len(ids)}")
        low, middle, high = np.quantile(part["age"], [0.25, 0.5, 0.75])
        ages = next(row for row in rows if row[0].startswith("median (quartiles)"))
        assert ages[1 + k] == f"{middle:.4g} ({low:.4g} to {high:.4g})"


def test_outcomes_of_a_task_add_up_to_its_labelled_patients(card, model, cohort):
    rows = tables(section(card, 4))[0]
    names = [row[0] for row in rows]
    labelled = int(rows[names.index("death")][1].split()[0])
    assert labelled == known(cohort, "death", model.split.train)
    classes = [int(rows[names.index(name)][1].split()[0]) for name in ("alive", "dead")]
    assert sum(classes) == labelled


def test_values_of_few_patients_are_not_named(card):
    assert "Bigcity" in card
    assert "Smallville" not in card
    assert "Tinytown" not in card


def test_nobody_is_named(texts, cohort):
    for text in texts:
        assert not any(str(patient) in text for patient in cohort.patients)


@pytest.mark.usefixtures("unaudited")
def test_notes_on_the_data_are_listed_without_their_patients(cohort, model, tmp_path):
    ids = list(cohort.patients[:6])
    outcomes, frames = cohort.patients.drop(ids), {"image": cohort.targets["death"]}
    notes = [
        *orphan_notes(outcomes, frames),
        *class_notes("stage", pd.DataFrame({"stage": ["common"] * 30 + ["very rare"]})),
        Note(f"something new about {ids[0]}"),
    ]
    text = section(written(model, replace(cohort, notes=notes), tmp_path)[0], 3)
    assert "of modality image, 6 patients have no row" in text
    assert "1 more" in text
    assert "very rare" not in text
    assert not any(patient in text for patient in ids)


def test_predictors_tell_who_has_them_and_what_is_empty(card, model, cohort):
    found = {row[0]: row[1:] for row in tables(section(card, 5))[0][1:]}
    train = list(model.split.train)
    labs, image = cohort.modalities["labs"].loc[train], cohort.modalities["image"]
    columns = model.trained.ensemble.first.encoders["labs"].columns
    assert found["labs"][:2] == ["table", str(len(columns))]
    assert found["labs"][3] == str(len(train))
    assert found["labs"][4] == f"{labs.isna().to_numpy().mean():.1%}"
    assert found["image"][3] == str(int(pd.Index(train).isin(image.index).sum()))
    assert found["image"][4] == "none"


def test_inputs_are_those_that_the_encoders_prepare(card, model, cohort):
    values = model.prepare(cohort).values
    found = {row[0]: row[3] for row in tables(section(card, 5))[0][1:]}
    assert found == {name: str(each.shape[1]) for name, each in values.items()}


def test_events_per_input_are_counted_in_training(card, model, cohort):
    found = {row[0]: row[1:] for row in tables(section(card, 8))[0][1:]}
    inputs = sum(each.shape[1] for each in model.prepare(cohort).values.values())
    train = list(model.split.train)
    labels = cohort.targets["death"].loc[train, "status"].value_counts()
    assert found["death"][:3] == [str(int(labels.sum())), str(int(labels.min())), str(inputs)]
    assert found["death"][3] == f"{labels.min() / inputs:.2g}"
    events = int(cohort.targets["survival"].loc[train, "event"].sum())
    assert found["survival"][1] == str(events)
    assert found["size"][1] == str(len(train))


def test_scores_are_those_of_the_test_patients(card, model, cohort):
    test = cohort.subset(model.split.test)
    labels = test.targets["death"]["status"].dropna()
    link = pd.Series(model.link(test)["death"][:, 0].numpy(), test.patients)
    auroc = roc_auc_score(labels == "dead", link[labels.index])
    found = {(row[0], row[1]): row[2:] for row in tables(section(card, 9))[0][1:]}
    value, n = found["death", "AUROC"]
    assert value.startswith(f"{auroc:.2f} (")
    assert n == str(len(labels))


def test_every_row_of_scores_and_calibration_equals_what_is_measured(card, model, cohort):
    patients = model.prepare(cohort.subset(model.split.test), labelled=True)
    frame = performance(model, patients, cohort, n_resamples=20)
    main = frame[frame["metric"] == frame["task"].map(frame.main_metric)]
    groups = main[(main["by"] == "subgroup") & main["low"].notna()]
    rows = tables(section(card, 9))[1][1:]
    assert [row[:2] for row in rows] == groups[["task", "group"]].to_numpy().tolist()
    for row, (value, low, high) in zip(rows, groups[["value", "low", "high"]].to_numpy(), strict=True):
        told = [float(number) for number in re.findall(r"-?\d+\.\d\d", row[2].replace("\u2212", "-"))]
        np.testing.assert_allclose(told, [value, low, high], atol=0.00501)
    slopes = calibration_summary(model, patients)
    told = tables(section(card, 10))[0][1:]
    assert [row[:2] for row in told] == slopes.assign(output=slopes["output"].map(output_words))[
        ["task", "output"]
    ].to_numpy().tolist()
    for row, slope in zip(told, slopes["slope"], strict=True):
        assert row[2].replace("\u2212", "-").startswith("too few" if np.isnan(slope) else f"{slope:.2f} (")


def test_contributions_are_means_over_test_patients_who_have_the_modality(card, model, cohort):
    test = cohort.subset(model.split.test)
    shares = model.contributions(test)
    sizes = shares.assign(size=shares["contribution"].abs()).groupby(["task", "modality"])["size"].agg(["mean", "size"])
    found = {(row[0], row[1]): row[2:] for row in tables(section(card, 11))[0][1:]}
    for key in (("death", "labs"), ("death", "image"), ("size", "labs")):
        mean, n = sizes.loc[key]
        assert found[key] == [f"{mean:.3f}", str(int(n))]


def test_words_of_the_user_stand_as_they_are_and_break_nothing(card):
    assert "Shown \\| to \\*nobody\\* \\<script>alert(1)\\</script> # a heading" in card
    assert "Death \\| within a year" in card
    assert "Only \\| one \\_hospital\\_. (the user's words)" in card
    assert card.count("\n## ") == 16


def test_what_only_people_know_is_said_to_be_missing_with_its_key(card):
    for key in ("ethics", "funding", "setting", "sample_size", "outcomes.stage", "predictors.labs"):
        assert f"*not provided by the user* (`card.{key}`)" in card
    assert "`card.intended_use`" not in card
    assert "`card.outcomes.death`" not in card


def test_all_tables_are_well_formed(texts):
    for text in texts:
        found = tables(text)
        n_rows = sum(len(table) for table in found)
        assert n_rows == sum(line.startswith("|") for line in text.splitlines()) - len(found)
        assert all(len({len(row) for row in table}) == 1 for table in found)


def test_the_checklist_has_every_item_once(texts):
    numbers = [row[0] for table in tables(texts[1]) if table[0][0] == "Item" for row in table[1:]]
    letters = {
        3: "abc",
        5: "ab",
        6: "abc",
        8: "abc",
        9: "abc",
        12: "abcdefg",
        18: "abcdef",
        20: "abc",
        23: "ab",
        27: "abc",
    }
    assert numbers == [f"{k}{letter}" for k in range(1, 28) for letter in letters.get(k, [""])]
    assert len(numbers) == 52


def test_the_risk_of_bias_tool_asks_16_and_18_questions_and_leaves_judgement_to_people(texts):
    development, evaluation = texts[1].split("### Evaluation of the model")
    counts = [sum(len(t) - 1 for t in tables(part) if t[0][0] == "No.") for part in (development, evaluation)]
    assert counts == [16, 18]
    for table in tables(evaluation):
        assert all("for a person to judge" in row[3] or row[3].startswith("fact: ") for row in table[1:])


def test_it_says_that_test_patients_were_not_trained_on(texts, model):
    assert (
        f"fact: {len(model.split.test)} test patients, 0 of them among those whom weights were learned from" in texts[1]
    )


def test_limitations_follow_from_the_numbers(card, model, cohort):
    text = section(card, 14)
    events = int(cohort.targets["survival"].loc[list(model.split.test), "event"].sum())
    assert f"survival: {events}" in text
    assert "this is no external validation" in text
    assert "The model was not compared with simple models in this run." in text
    assert "`missingness: off`" in text
    assert "2 of 3 possible combinations" in text


def test_the_audit_is_told_for_each_task(card):
    text = section(card, 7)
    for task in ("death", "stage", "size", "survival"):
        assert re.search(rf"\*\*{task}:( alarm\.)?\*\*", text)
    assert text.count("Which cells are empty raises no alarm.") == 4
    assert "self-masking" in text


def test_a_column_that_is_empty_for_a_reason_is_a_limitation(model, cohort, card, tmp_path):
    labs, dead = cohort.modalities["labs"], cohort.targets["death"]["status"] == "dead"
    blanked = labs.assign(crp=labs["crp"].mask(dead.reindex(labs.index)))
    text = written(model, replace(cohort, modalities={**cohort.modalities, "labs": blanked}), tmp_path)[0]
    assert "Alarm: whether the cell of 'crp' of labs is empty depends on the outcome." in section(text, 7)
    limitation = "Which cells of a modality are empty depends on the outcome of death (section 7)."
    assert limitation in section(text, 14)
    assert limitation not in section(card, 14)


def test_the_same_model_gives_the_same_card(model, cohort, texts, tmp_path):
    assert written(model, cohort, tmp_path) == texts
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CARD, CHECKLIST])


def test_the_card_says_who_chose_the_epoch(model, cohort):
    trained = model.trained
    given = study(split={"column": "part"})
    facts = {"validation": "drawn from the training patients of the given split"}
    drawn = replace(trained, study=given, provenance=trained.provenance | facts)
    said = " ".join(flow_section(read_facts(MultiModN.of(drawn), cohort)))
    assert "those that column `part` names, but for the validation patients, who were drawn from its training" in said
    assert "validation patients choose the epoch" in said
    everyone = [*trained.split.train, *trained.split.validation]
    alone = replace(trained, study=given, split=replace(trained.split, train=everyone, validation=[]))
    said = " ".join(flow_section(read_facts(MultiModN.of(alone), cohort)))
    assert "all epochs are run" in said
    assert "validation patients choose" not in said
    fold = replace(trained, study=study(split={"column": "fold", "test": 2}))
    assert "Tested is fold 2 of column `fold`" in " ".join(flow_section(read_facts(MultiModN.of(fold), cohort)))


@pytest.mark.usefixtures("unaudited")
def test_without_test_patients_there_are_no_scores(tmp_path):
    cohort = cohort_of(*frames(60))
    text, checklist = written(fit(cohort, split={"validation": 0.2, "test": 0.0}), cohort, tmp_path)
    assert "There are no test patients" in section(text, 14)
    for number in (9, 10, 11):
        assert not tables(section(text, number))
    assert "AUROC" not in text.split("## 1. ")[0]
    assert "the model was not evaluated" in checklist


@pytest.mark.usefixtures("unaudited")
def test_fewer_than_five_test_patients_are_not_scored(model, cohort, tmp_path):
    other = MultiModN.of(replace(model.trained, split=replace(model.split, test=model.split.test[:3])))
    text = written(other, cohort, tmp_path)[0]
    assert "fewer than 5 test patients" in section(text, 9)
    assert not tables(section(text, 9))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.usefixtures("unaudited")
def test_a_study_of_one_modality_and_one_task_has_a_card(members, tmp_path):
    tables_, targets = frames(60)
    cohort = cohort_of({"labs": tables_["labs"]}, {"size": targets["size"]})
    whole = study().to_dict()
    changes = {"modalities": whole["modalities"][:1], "tasks": whole["tasks"][2:3], "subgroups": [], "split": {}}
    model = fit(cohort, **changes, training=whole["training"] | {"members": members})
    text, checklist = written(model, cohort, tmp_path)
    assert "from up to 1 modality (labs)" in text
    assert "no column" in section(text, 4).lower()
    n = len(model.split.train) + (len(model.split.validation) if members > 1 else 0)
    assert f"Training (n = {n})" in section(text, 4)
    assert tables(text)
    assert tables(checklist)


@pytest.mark.usefixtures("unaudited")
def test_conformal_sets_are_checked_if_there_are_any(model, cohort, tmp_path):
    from multimodn.evaluate.performance.conformal_coverage import coverage

    other = MultiModN.of(replace(model.trained))
    other.conformal.fit(cohort)
    found = {row[0]: row[1:] for row in tables(section(written(other, cohort, tmp_path)[0], 12))[0][1:]}
    real = coverage(other, cohort.subset(other.split.test)).query("pattern == 'all'").set_index("task")
    for task, row in real.iterrows():
        assert found[task][0].startswith(f"{row['coverage']:.2f} (")


@pytest.mark.usefixtures("unaudited")
def test_simple_models_are_told_if_they_were_compared_with(model, cohort, tmp_path):
    about = {"task": "death", "metric": "auroc", "by": "overall", "group": "all", "low": 0.5, "high": 0.9, "n": 40}
    nothing = dict.fromkeys(["difference", "difference_low", "difference_high", "p_value", "p_adjusted"], np.nan)
    compared = {"difference": -0.05, "difference_low": -0.1, "difference_high": 0.0, "p_value": 0.04, "p_adjusted": 0.1}
    rows = [about | nothing | {"arm": "ours", "value": 0.7}, about | compared | {"arm": "late_ridge", "value": 0.75}]
    text = written(model, cohort, tmp_path, baselines=pd.DataFrame(rows), sentences=["Ridge | does as well."])[0]
    found = tables(section(text, 13))[0]
    assert found[2][1:] == [
        "late ridge fusion",
        "AUROC",
        "0.75 (0.50 to 0.90)",
        "\u22120.05 (\u22120.10 to 0.00)",
        "40",
    ]
    assert "Ridge \\| does as well." in text
    assert "not compared with simple models" not in text


def test_a_model_that_is_not_trained_has_no_card(cohort, tmp_path):
    with pytest.raises(NotFittedError, match="not trained"):
        write_card(MultiModN(study()), cohort, tmp_path)


def test_a_part_of_the_cohort_is_refused(model, cohort, tmp_path):
    with pytest.raises(DataError, match=rf"{N - 20} patient\(s\) of the split are not in the cohort"):
        write_card(model, cohort.subset(cohort.patients[:20]), tmp_path)
    with pytest.raises(DataError, match="the cohort has no targets for it"):
        write_card(model, Cohort.from_frames(cohort.modalities, patients=cohort.patients), tmp_path)


@pytest.mark.usefixtures("unaudited")
@pytest.mark.parametrize("second", [0.0, 0.5])
def test_slides_have_a_card_without_the_names_of_their_files(second, tmp_path):
    (tmp_path / "features").mkdir()
    frame = slides(30, folder=tmp_path / "features", second=second)
    labels = pd.DataFrame({"grade": ["low", "high"] * 15}, frame.index.unique())
    cohort = cohort_of({"slides": frame}, {"grade": labels}, several_rows={"slides"}, files={"slides": ["file"]})
    changes = {
        "cohort": {"patient": "id", "sources": {"slides": {"files": "features/*.h5"}, "out": "out.csv"}},
        "modalities": [{"name": "slides", "kind": "slide", "source": "slides"}],
        "tasks": [{"name": "grade", "kind": "binary", "source": "out", "target": "grade", "positive": "high"}],
        "split": {"test": 0.4, "validation": 0.0},
        "subgroups": ["slides.file"],
    }
    text, _ = written(fit(cohort, **changes), cohort, tmp_path / "run")
    assert "(embedding)" in section(text, 5)
    assert ("could not be read for each patient" in section(text, 9)) == (second > 0)
    assert ("cannot be read" in section(text, 4)) == (second > 0)
    assert ".h5" not in text


@pytest.mark.usefixtures("unaudited")
def test_labels_that_are_set_together_are_counted_apart(cohort, tmp_path):
    rng = np.random.default_rng(0)
    found = pd.DataFrame(rng.integers(0, 2, (N, 2)), cohort.patients, ["lung", "bone"])
    both = replace(cohort, targets={"spread": found})
    task = {"name": "spread", "kind": "multilabel", "source": "out", "targets": ["lung", "bone"]}
    model = fit(both, tasks=[task], split={"test": 0.4, "validation": 0.2})
    rows = {row[0]: row[1:] for row in tables(section(written(model, both, tmp_path)[0], 4))[0][1:]}
    train = found.loc[list(model.split.train)]
    for name in ("lung", "bone"):
        assert rows[name][0].startswith(f"{train[name].sum()} of {len(train)}")
