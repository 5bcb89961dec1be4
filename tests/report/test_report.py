"""From a run to a report."""

import re
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from typer.testing import CliRunner

from multimodn.cli.report import report
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.baselines.compare import sentences
from multimodn.evaluate.baselines.stored_comparison import cached_comparison, keep_comparison
from multimodn.findings.experts import ExpertUse, ExpertWeights
from multimodn.findings.frames import AttributedFrame
from multimodn.findings.numbers import interval
from multimodn.findings.sentences import fusion
from multimodn.model.explanations import Explanations
from multimodn.report.answers import comparisons
from multimodn.report.answers import model as collect_answers
from multimodn.report.answers.choose_patients import choose_patients, labels_for, relabelled
from multimodn.report.answers.collect import collect
from multimodn.report.answers.comparisons import ask_baselines
from multimodn.report.answers.run import training
from multimodn.report.content import Wishes
from multimodn.report.html.page import Drawing, Page, Prose, Section, render
from multimodn.report.sections.all_sections import page_of
from multimodn.report.sections.appendix import training_section
from multimodn.report.sections.brief import cautions
from multimodn.report.sections.explain import together_section, value_section
from multimodn.report.sections.patients import patients_section
from multimodn.report.write import Written, write_page, write_report
from multimodn.runs import fit_run
from multimodn.slides.feature_files.features import FeatureMeta, write_features
from multimodn.study.study import Study
from tests._cohorts import write_files
from tests.evaluate._verdicts import made
from tests.report._findings import make_findings
from tests.report.test_figures_decision import curve
from tests.report.test_page import picture
from tests.slides._slides import picture as slide_picture
from tests.slides._slides import write_slide

IDENTIFIER = re.compile(r"\bp\d\d\b")
FEW = {"n_resamples": 20, "arms": ()}
SIMPLE = {**FEW, "arms": ("late_ridge", "best_single")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the tiny cohort, whose study has a hostile name."""
    folder = tmp_path_factory.mktemp("report")
    torch.manual_seed(0)
    study = write_files(
        folder, name="<script>alert(1)</script>", split={"validation": 0.2, "test": 0.4}, subgroups=["labs.crp"]
    )
    return fit_run(study, folder / "run"), folder / "run"


@pytest.fixture(scope="module")
def found(run):
    return collect(*run, Wishes(**SIMPLE))


@pytest.fixture(scope="module")
def page(found):
    return page_of(found, "1 May 2024")


@pytest.fixture(scope="module")
def html(page):
    return render(page)


def text_of(section):
    """All prose of a section."""
    texts = []
    for block in section.blocks:
        texts += text_of(block) if hasattr(block, "blocks") else [str(getattr(block, "text", ""))]
        texts += [str(getattr(block, "title", "")), *getattr(block, "items", [])]
        frame = getattr(block, "frame", None)
        texts += [] if frame is None else [frame.to_csv()]
    return texts


def section_of(page, name):
    return next(section for section in page.sections if section.name == name)


def written(page):
    """All that a page says, but for its drawings."""
    said = [text for section in page.sections for text in [section.title, *text_of(section)]]
    said += [text for one in page.pictures() for text in (one.name, one.title, one.caption, one.alt)]
    return "\n".join([*said, *(one.table.to_csv() for one in page.pictures() if one.table is not None)])


def test_sections_stand_in_order_and_none_is_empty(page):
    names = [section.name for section in page.sections]
    assert names == ["brief", "cohort", "performance", "calibration", "baselines", "tasks", "steps", "contributions",
                     "together", "value", "patients", "training", "appendix"]  # fmt: skip
    assert all(section.blocks for section in page.sections)


def test_every_figure_stands_in_the_page_with_caption_numbers_and_size_of_the_cohort(page, html):
    pictures = list(page.pictures())
    assert len(pictures) > 25
    assert html.count('role="img"') == len(pictures)
    assert all("n = " in one.caption and one.table is not None for one in pictures)
    assert all("interval" in one.caption or one.name.startswith(("trajectory", "order")) for one in pictures)


def test_nobodys_identifier_is_in_a_report(page, html):
    assert not IDENTIFIER.search(html)
    assert not IDENTIFIER.search(written(page))
    assert "Patient A: highest predicted probability of death" in html
    assert "Identifiers are not shown" in html


def test_a_hostile_study_stays_text(html):
    assert html.count("<script>") == 1
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>" in html


def test_few_patients_are_a_caution(found):
    assert found.n_shown == 16
    assert any("only 16 patients" in text for text in cautions(found))


def test_scores_in_the_box_have_intervals_where_there_are_any(found, page):
    texts = " ".join(text_of(page.sections[0]))
    assert "3 outcomes (death, size and survival)" in texts
    assert "none of whom the model was trained on" in texts
    assert "mode neutral" in texts
    row = found.answers["performance"].query("task == 'size' and metric == 'r2' and by == 'overall'").iloc[0]
    assert f"size: R² {interval(row['value'], row['low'], row['high'])}, n = 16" in texts


def test_patients_asked_for_are_shown_by_name_and_no_others(run):
    asked = collect(*run, Wishes(patients=["p03", "p39"], **FEW))
    assert set(IDENTIFIER.findall(written(page_of(asked, "")))) == {"p03", "p39"}
    assert [one.label for one in asked.patients] == ["p03", "p39"]


def test_a_patient_who_was_trained_on_is_said_to_be(found):
    seen = replace(found, patients=[replace(found.patients[0], part="train"), *found.patients[1:]])
    texts = [text_of(patients_section(one)) for one in (found, seen)]
    assert [any("This is a train patient" in text for text in each) for each in texts] == [False, True]


def test_all_patients_are_a_caution_as_they_were_trained_on_and_have_names_on_demand(run):
    asked = collect(*run, Wishes(everyone=True, by_name=True, **FEW))
    assert (asked.n_shown, asked.is_trained_on) == (40, True)
    assert "prove nothing" in cautions(asked)[0]
    assert all(IDENTIFIER.fullmatch(one.label) for one in asked.patients)
    assert asked.answers["contributions"].index.str.fullmatch(r"p\d\d").all()


def test_other_patients_without_outcomes_have_no_scores_and_the_page_says_why(run):
    model, folder = run
    sources = {name: folder.parent / f"new-{name}.csv" for name in ("labs", "image")}
    for name, file in sources.items():
        rows = pd.read_csv(folder.parent / f"{name}.csv").head(12)
        rows.assign(id="new" + rows["id"]).to_csv(file, index=False)
    asked = collect(model, folder, Wishes(sources=sources, **FEW))
    assert asked.get("performance") is None
    assert asked.get("contributions") is not None
    made = page_of(asked, "")
    for name in ("performance", "calibration", "value"):
        section = next(section for section in made.sections if section.name == name)
        assert any("outcomes" in text for text in text_of(section))


def test_what_fails_or_cannot_be_computed_is_left_out_with_a_sentence(run, monkeypatch):
    def fail(*_, **__):
        raise DataError("p07 is broken.")

    monkeypatch.setattr(Explanations, "order_sensitivity", fail)
    monkeypatch.setattr(collect_answers, "MAX_MODALITIES", 1)
    problems = []
    asked = collect(*run, Wishes(**FEW), on_problem=problems.append)
    assert problems == ["orders: p07 is broken."]
    texts = " ".join(text_of(together_section(asked)))
    assert "It could not be computed" in texts
    assert "this model has 2, at most 1 can be done" in texts
    assert not IDENTIFIER.search(texts)


def test_a_run_is_put_beside_simple_models(found, page):
    comparison = found.answers["baselines"]
    assert set(comparison["arm"]) == {"ours", *SIMPLE["arms"]}
    texts = " ".join(text_of(section_of(page, "baselines")))
    assert all(text in texts for text in sentences(comparison))
    assert fusion(found.findings)[0] in " ".join(text_of(page.sections[0]))


def test_the_comparison_of_a_run_can_be_kept(run, found, tmp_path):
    keep_comparison(tmp_path, run[0], found.answers["baselines"])
    kept = cached_comparison(tmp_path, run[0])
    pd.testing.assert_frame_equal(kept, found.answers["baselines"], check_dtype=False)
    assert sentences(kept) == sentences(found.answers["baselines"])


def test_a_task_has_intervals_beside_simple_models_if_it_has_them_under_performance(found):
    scored = (
        found.answers["performance"].query("by == 'overall'").groupby("task")["low"].agg(lambda low: low.notna().any())
    )
    rows = found.answers["baselines"].query("by == 'overall'")
    assert (rows["low"].notna() <= rows["task"].map(scored)).all()


def test_a_run_has_conformal_sets_of_all_tasks_and_of_each_patient(found, page):
    assert set(found.answers["coverage"]["task"]) == {"death", "size", "survival"}
    assert ",all," in " ".join(text_of(section_of(page, "calibration")))
    parts = [block for block in section_of(page, "patients").blocks if hasattr(block, "blocks")]
    tables = [block.frame for part in parts for block in part.blocks if hasattr(block, "frame")]
    assert all((frame["90% set"].str.len() > 0).all() for frame in tables)
    assert len(tables) == len(found.patients)


def test_a_run_tells_conflicts_its_card_and_how_to_get_gains(found, page):
    assert len(found.answers["conflicts"]) == 3
    assert "--task-gains" in " ".join(text_of(section_of(page, "tasks")))
    assert "MODEL_CARD.md" in " ".join(text_of(section_of(page, "appendix")))


def test_simple_models_are_not_trained_where_they_are_not_wished_for_or_known(run, found, monkeypatch):
    model, folder = run
    asked = SimpleNamespace(wishes=Wishes(**FEW), run=folder, model=model, answers={}, lacking={}, patients=None)
    ask_baselines(asked)
    assert "--no-baselines" in asked.lacking["baselines"]
    monkeypatch.setattr(comparisons, "cached_comparison", lambda *_: found.answers["baselines"])
    asked.patients = model.prepare(model.test_cohort(), labelled=True)
    ask_baselines(asked)
    assert len(asked.answers["baselines"]) == len(found.answers["baselines"])


def test_sets_are_not_counted_on_patients_who_made_them(run):
    model = run[0]
    cohort = Cohort.load(model.study)
    asked = SimpleNamespace(
        model=model, shown=cohort, is_labelled=True, trained_on=cohort.patients, answers={}, lacking={}
    )
    comparisons.ask_sets(asked)
    assert "made from some of these patients" in asked.lacking["coverage"]


@pytest.mark.slow
def test_what_each_task_gains_is_told_on_demand(run):
    model = run[0]
    steps = []
    asked = SimpleNamespace(
        wishes=Wishes(task_gains=True), model=model, cohort=Cohort.load(model.study), on_step=steps.append, answers={}
    )
    comparisons.ask_gains(asked)
    assert list(asked.answers["gains"]["task"]) == ["death", "size", "survival"]
    assert steps[-1] == "gains of tasks: survival alone, 3 of 3"


def test_training_is_read_from_the_logs_of_a_run(run, found):
    assert training(run[1])["epoch"].tolist() == [0, 1]
    assert training(run[1]).notna().all(axis=None)
    assert training(run[1] / "bundle").empty
    reason = {"training": "There are no logs."}
    alone = replace(found, answers={**found.answers, "training": pd.DataFrame()}, lacking=reason)
    assert text_of(training_section(alone))[0] == "There are no logs."


def test_training_says_how_much_network_and_experts_count(run, found):
    weights = run[0].provenance["experts"]["weights"]
    assert [one.task for one in found.run.experts.weights] == list(weights)
    told = replace(found, run=replace(found.run, experts=ExpertUse((ExpertWeights("death", 0.2, 0.75, True),))))
    assert "Weights of network and experts: death 0.20 and 0.75." in " ".join(text_of(training_section(told)))


def test_too_many_patients_and_unknown_ones_are_refused(run):
    with pytest.raises(StudyError, match="13 patients are to be shown one by one; a page has room for 12"):
        collect(*run, Wishes(patients=[f"p{k:02d}" for k in range(13)]))
    with pytest.raises(DataError, match="p99"):
        collect(*run, Wishes(patients=["p99"]))


def test_the_same_findings_give_the_same_page(found, page):
    assert written(page_of(found, "1 May 2024")) == written(page)


def small_page(text="Nothing."):
    table = pd.DataFrame({"a": [1]})
    return Page("T", "l", [], [Section("s", "S", [Prose(text), Drawing(picture("one", table))])], "f")


def test_a_report_replaces_an_earlier_one_and_its_figures(tmp_path):
    out, folder = tmp_path / "r.html", tmp_path / "r" / "figures"
    folder.mkdir(parents=True)
    (folder / "stale.png").touch()
    write_page(small_page("Old."), out, folder)
    written = write_page(small_page("New."), out, folder)
    assert "New." in out.read_text()
    assert sorted(file.name for file in folder.iterdir()) == ["one-dark.png", "one.csv", "one.png", "one.svg"]
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file() and file.parent != folder) == ["r.html"]
    assert (written.n_figures, written.n_bytes) == (1, out.stat().st_size)


def test_what_no_report_wrote_is_not_replaced(run, tmp_path):
    (tmp_path / "r" / "figures").mkdir(parents=True)
    (tmp_path / "r" / "figures" / "thesis.docx").touch()
    with pytest.raises(StudyError, match=r"holds what no report wrote: thesis\.docx"):
        write_report(*run, tmp_path / "r.html")
    with pytest.raises(StudyError, match="is a folder; name a file"):
        write_report(*run, tmp_path)


def test_the_command_refuses_a_source_without_a_path(run):
    app = typer.Typer()
    app.command()(report)
    done = CliRunner().invoke(app, [str(run[1]), "--source", "labs"])
    assert isinstance(done.exception, StudyError)
    assert "expected NAME=PATH" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "wished"), [([], (None, False)), (["--no-baselines"], ((), False)), (["--task-gains"], (None, True))]
)
def test_the_command_hands_on_what_is_wished_for(run, monkeypatch, options, wished):
    def keep(model, folder, out, wishes, **_):
        asked.append((wishes.arms, wishes.task_gains))
        return Written(folder, 0, folder, 0)

    asked = []
    monkeypatch.setattr("multimodn.report.write.write_report", keep)
    app = typer.Typer()
    app.command()(report)
    assert CliRunner().invoke(app, [str(run[1]), *options]).exit_code == 0
    assert asked == [wished]


values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(values, st.integers(1, 3))
def test_chosen_patients_are_few_distinct_and_hold_the_extremes(last, n_steps):
    rows = [(f"x{k}", "t", "probability", step, "m", value if step == n_steps else 0.5)
            for k, value in enumerate(last) for step in range(n_steps + 1)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["patient", "task", "output", "step", "modality", "value"]).set_index("patient")
    found = choose_patients(frame, pd.Series(2, [f"x{k}" for k in range(len(last))]), "t")
    assert len(found) == min(5, len(last))
    by_why = {why: float(last[int(patient[1:])]) for patient, why in found.items()}
    assert by_why["highest predicted probability of t"] == max(last)
    if len(last) > 2:
        assert by_why["lowest predicted probability of t"] <= sorted(last)[2]


@given(st.sets(st.integers(0, 50), min_size=6), st.integers(0, 9))
def test_labels_are_distinct_and_tell_nobody_who_is_not_named(numbers, seed):
    everyone = [f"id-{k}" for k in sorted(numbers)]
    labels = labels_for(everyone, everyone[:4], everyone[2:3], seed)
    assert len(set(labels.values())) == len(everyone)
    assert [label for label in labels.values() if label.startswith("id-")] == everyone[2:3]
    assert [labels[one] for one in (everyone[0], everyone[1], everyone[3])] == ["A", "B", "C"]


def test_relabelled_frames_keep_their_order_and_drop_what_names_patients():
    frame = pd.DataFrame({"a": [1, 2, 3]}, pd.Index(["x", "y", "x"], name="patient"))
    frame = AttributedFrame.of(frame, method="m", convergence_delta={"x": 0.1})
    found = relabelled(frame, {"x": "A", "y": "B"})
    assert found.index.tolist() == ["A", "B", "A"]
    assert found["a"].tolist() == [1, 2, 3]
    assert (found.method, found.convergence_delta) == ("m", {})


def test_what_to_measure_next_is_drawn_for_each_task_or_said_not_to_be_known():
    small = make_findings(3, 2, 50)
    part = value_section(small).blocks[-1]
    assert [one.picture.title.partition(":")[0] for one in part.blocks[1:]] == ["task_0", "task_1"]
    answers = {name: frame for name, frame in small.answers.items() if name != "next"}
    assert (
        value_section(replace(small, answers=answers, lacking={"next": "Not taught."})).blocks[-1].text == "Not taught."
    )


def test_cautions_name_tasks_without_skill_and_tasks_that_are_overconfident():
    small = make_findings(2, 2, 60)
    performance = small.answers["performance"].assign(low=0.6)
    small = replace(small, answers={**small.answers, "performance": performance})
    performance = performance.assign(low=0.4)
    slopes = pd.DataFrame({"task": ["task_1"], "slope": [0.7], "slope_low": [0.5], "slope_high": [0.9]})
    weak = replace(small, answers={**small.answers, "performance": performance, "slopes": slopes})
    assert cautions(small) == []
    assert cautions(weak) == [
        "Predictions of task_0 and task_1 are not shown to be better than chance.",
        "Predictions are overconfident for task_1 (slope 0.70, 0.50 to 0.90).",
    ]


@pytest.mark.slow
def test_slides_are_drawn_under_letters_and_numbers(tmp_path, monkeypatch):
    write_slides(tmp_path)
    model = fit_run(Study.load(tmp_path / "study.yaml"), tmp_path / "run")
    asked = collect(model, tmp_path / "run", Wishes(slides=tmp_path / "scans", **FEW))
    assert {one.label for one in asked.maps} == {one.label for one in asked.patients}
    html = render(page_of(asked, ""))
    assert html.count('src="data:image/png;base64,') == len(asked.maps) == 5
    assert not IDENTIFIER.search(re.sub(r'src="data:[^"]*"', "", html))
    said = []
    monkeypatch.setattr(Figure, "text", lambda self, x, y, text, **_: said.append(text))
    collect(model, tmp_path / "run", Wishes(slides=tmp_path / "scans", **FEW))
    assert any("slide 1: 512 x 512" in text for text in said)
    assert not any("one.tif" in text for text in said)
    lost = []
    without = collect(model, tmp_path / "run", Wishes(slides=tmp_path / "none", **FEW), on_problem=lost.append)
    assert any("Slides were given, but not drawn." in text for text in text_of(patients_section(without)))
    assert "no slide 'one.tif'" in lost[0]


def write_slides(folder):
    """One slide, whose tiles stand for those of 20 patients, and a study of them."""
    rng = np.random.default_rng(0)
    (folder / "scans").mkdir()
    (folder / "features").mkdir()
    write_slide(folder / "scans" / "one.tif", slide_picture(512, 512))
    meta = FeatureMeta(slide="one.tif", extent=128, encoder="e", encoder_hash="a" * 64)
    places = np.array([[x, y] for y in (0, 128, 256) for x in (0, 128, 256)])
    ids = [f"p{k:02d}" for k in range(20)]
    for one in ids:
        write_features(folder / "features" / f"{one}.h5", rng.normal(size=(9, 4)).astype(np.float32), places, meta)
    pd.DataFrame({"id": ids, "died": rng.integers(0, 2, 20)}).to_csv(folder / "case.csv", index=False)
    (folder / "study.yaml").write_text(
        "name: tiles\n"
        "cohort: {patient: id, sources: {case: case.csv, slides: {files: 'features/*.h5'}}}\n"
        "modalities: [{name: slides, kind: slide, source: slides, hidden_size: 4, embedding_size: 4}]\n"
        "tasks: [{name: death, kind: binary, source: case, target: died}]\n"
        "split: {validation: 0.2, test: 0.4}\n"
        "training: {epochs: 1, state_size: 4}\n"
    )


@pytest.mark.slow
def test_forty_modalities_and_ten_tasks_fit_a_page():
    found = make_findings(40, 10, 400)
    tasks = [task.name for task in found.tasks]
    more = {
        "baselines": pd.concat([made().assign(task=task) for task in tasks], ignore_index=True),
        "decision": pd.concat([curve([task], task=task) for task in tasks], ignore_index=True),
        "conflicts": pd.DataFrame(combinations(tasks, 2), columns=["task", "other"]).assign(
            cosine=0.1, conflict=0.4, n=30
        ),
    }
    html = render(page_of(replace(found, answers={**found.answers, **more}), ""))
    assert len(html.encode()) < 5_000_000
    assert "There are too many modalities." in html
