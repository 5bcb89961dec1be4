"""Attributions inside a modality, through the fused model, for every kind."""

import copy
import functools

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort
from multimodn.base.batches import PatientTensors
from multimodn.encoders import (
    EmbeddingEncoder,
    EmbeddingOptions,
    SlideEncoder,
    SlideOptions,
    TableEncoder,
    TableOptions,
    TextEncoder,
    TextOptions,
)
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.explain import gated_predictions
from multimodn.explain.attributions import attribution_map, attributions
from multimodn.fusion import Ensemble, SequentialFusion
from multimodn.training.build import prepare
from tests._inputs import TinyEncoder, make_task, make_tasks
from tests.encoders._frames import ALL, COLUMNS, fitted, mixed_table, vectors
from tests.encoders._slide_cases import frame_of, write
from tests.explain._planted import fit, independent

NOISE = 0.03  # of weights: enough that no layer is at its start, and not so much that every unit has a kink


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIMODN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def ensemble(encoders, tasks=None, n_members=2, **options):
    """Networks whose weights are all awake, with a calibration."""
    members = []
    for _ in range(n_members):
        own = SequentialFusion(copy.deepcopy(encoders), copy.deepcopy(tasks or make_tasks()), 6, **options)
        with torch.no_grad():
            for weight in own.parameters():
                weight += NOISE * torch.randn_like(weight)
        members.append(own)
    model = Ensemble(members).eval()
    model.calibration.slopes.normal_(std=0.2)
    model.calibration.shifts.normal_(std=0.2)
    return model


@functools.cache
def _fused(name, options):
    torch.manual_seed(0)
    encoder, frame = fitted(name)
    frame = frame[frame.index.isin([f"P{i}" for i in range(4)])].sort_index(ascending=False, kind="stable")
    other = vectors(6).set_axis([f"P{i}" for i in range(6)])
    several = ["it"] if name not in COLUMNS else []
    cohort = Cohort.from_frames(
        {"it": frame, "other": other}, patients=[f"P{i}" for i in range(6)], several_rows=several
    )
    encoders = {"it": encoder, "other": EmbeddingEncoder.fit(other, EmbeddingOptions(embedding_size=5))}
    model = ensemble(encoders, **dict(options))
    return model, prepare(model.first, cohort, labelled=False), cohort


def fused(name, **options):
    """A model of one kind beside vectors, and six patients of whom the last two lack that kind."""
    return _fused(name, tuple(options.items()))


def link(model, patients, task="stage"):
    with torch.no_grad():
        outputs = model(patients.batch(torch.arange(len(patients))))[task]
        return model.tasks[task].link(outputs).double()


RUGGED = {"image", "frozen image", "text", "text files"}
"""Random networks with maxima and many kinks on the way, which take more steps than trained ones."""

UPDATES = [(name, {}) for name in ALL if name not in ("linear", "indicated", "text files")] + [
    ("slide with places", {"update": "attention"}),
    ("piecewise", {"update": "gated"}),
    ("piecewise", {"informative": True}),
]


@pytest.mark.parametrize(("name", "options"), UPDATES)
def test_attributions_add_up_to_prediction_less_baseline_prediction(name, options):
    model, patients, cohort = fused(name, **options)
    n_steps = 128 if name in RUGGED else 64
    found = attributions(model, patients, cohort, "it", "stage", "b", n_steps=n_steps, patch=8)
    by_patient = found.groupby(level=0, sort=False)
    ends = by_patient[["prediction", "baseline_prediction"]].first()
    due = ends["prediction"] - ends["baseline_prediction"]
    deltas = pd.Series(found.convergence_delta)
    miss = (by_patient["attribution"].sum() - due)[deltas.index]
    np.testing.assert_allclose(miss, deltas, atol=1e-9)
    moved = by_patient["attribution"].apply(lambda a: a.abs().sum())
    assert (miss.abs() <= 0.02 * moved).all()
    assert (moved > 1e-3).sum() >= len(moved) - (name == "lists of codes")  # a patient without a code
    expected = link(model, patients)[:, 1].numpy()
    np.testing.assert_allclose(
        ends["prediction"], expected[[patients.patients.get_loc(p) for p in ends.index]], atol=2e-4
    )


@pytest.mark.parametrize("name", ["piecewise", "periodic", "linear", "few components", "wide"])
def test_the_baseline_of_a_table_is_a_patient_of_whom_nothing_is_known(name):
    model, patients, cohort = fused(name)
    found = attributions(model, patients, cohort, "it", "size")
    encoder = model.first.encoders["it"]
    empty = cohort.modalities["it"].astype(object)
    empty[:] = None
    values = {**patients.values, "it": encoder.prepare(empty)}
    expected = link(model, PatientTensors(patients.patients, values, patients.position), "size")[:4, 0].numpy()
    baseline = found.groupby(level=0, sort=False)["baseline_prediction"].first()
    np.testing.assert_allclose(baseline, expected, atol=1e-4)


def test_a_patient_without_the_modality_has_no_rows():
    model, patients, cohort = fused("piecewise")
    found = attributions(model, patients, cohort, "it", "death")
    assert list(found.index.unique()) == ["P0", "P1", "P2", "P3"]
    assert set(attributions(model, patients, cohort, "other", "death").index) == set(cohort.patients)
    nobody = cohort.subset(["P4", "P5"])
    none = attributions(model, prepare(model.first, nobody, labelled=False), nobody, "it", "death")
    assert none.empty
    assert set(found.columns) == set(none.columns)


def test_a_row_for_each_output_and_part_in_the_words_of_the_user():
    model, patients, cohort = fused("piecewise")
    found = attributions(model, patients, cohort, "it", "stage")
    rows = found.loc["P2"]
    columns = model.first.encoders["it"].columns
    assert rows["output"].tolist() == [c for c in "abc" for _ in columns]
    assert rows["feature"].tolist() == columns * 3
    assert rows["position"].tolist() == [*range(len(columns))] * 3
    assert set(rows["modality"]) == {"it"}
    assert set(rows["task"]) == {"stage"}
    own = cohort.modalities["it"].loc["P2", columns]
    for name, value in zip(rows["feature"], rows["value"], strict=True):
        assert value == own[name] or (pd.isna(value) and pd.isna(own[name]))
    assert found.method == "integrated_gradients"
    assert "mean of the training patients" in found.baseline


def test_an_empty_cell_gets_nothing():
    model, patients, cohort = fused("piecewise")
    found = attributions(model, patients, cohort, "it", "death")
    empty = found["value"].isna()
    assert empty.any()
    assert (found.loc[empty, "attribution"] == 0).all()
    assert (found.loc[~empty, "attribution"] != 0).all()


def test_a_column_that_the_model_ignores_gets_nothing():
    model, patients, cohort = copy.deepcopy(fused("embedding"))
    with torch.no_grad():
        for member in model.networks:
            layers = member.encoders["it"].layers
            layers.straight.weight[:, 2] = 0
            layers.bent[0].weight[:, 2] = 0
    found = attributions(model, patients, cohort, "it", "death")
    ignored = found["feature"] == model.first.encoders["it"].columns[2]
    assert found.loc[ignored, "attribution"].abs().max() == 0
    assert found.loc[~ignored, "attribution"].abs().min() > 0


@pytest.fixture(scope="module")
def planted():
    model, cohort = fit(*independent(1500, "ab", (3.0, 0.0)))
    return model.trained.ensemble, model.prepare(cohort), cohort


def test_a_planted_column_gets_the_attribution(planted):
    found = attributions(*planted, "a", "y")
    size = found.assign(size=found["attribution"].abs()).groupby("feature")["size"].mean()
    assert size["a0"] > 0.9 * size.sum()
    assert np.sign(found.query("feature == 'a0' and value > 0.5")["attribution"]).mean() > 0.95


def test_ablation_ranks_parts_as_integrated_gradients_do(planted):
    model, patients, cohort = planted
    integrated = attributions(model, patients, cohort, "a", "y")
    ablated = attributions(model, patients, cohort, "a", "y", method="feature_ablation")
    assert ablated.method == "feature_ablation"
    assert ablated.convergence_delta == {}
    assert integrated["attribution"].corr(ablated["attribution"], method="spearman") > 0.9
    assert integrated[["feature", "position", "value"]].equals(ablated[["feature", "position", "value"]])


def test_of_a_linear_model_ablation_and_integrated_gradients_are_the_same():
    table, other = mixed_table(), vectors(60)
    options = TableOptions(n_layers=0, numeric="scaled", scaling="standard", indicate_empty=True)
    encoders = {"labs": TableEncoder.fit(table, options), "other": EmbeddingEncoder.fit(other, EmbeddingOptions())}
    model = ensemble(encoders, [make_task("regression", "size", pd.DataFrame({"r": [1.0, 2.0, 4.0]}), target="r")])
    with torch.no_grad():
        for member in model.networks:
            member.update.out.weight.zero_()
    cohort = Cohort.from_frames({"labs": table, "other": other})
    patients = prepare(model.first, cohort, labelled=False)
    one, same = (attributions(model, patients, cohort, "labs", "size", method=m, n_steps=4)
                 for m in ("integrated_gradients", "feature_ablation"))  # fmt: skip
    np.testing.assert_allclose(one["attribution"], same["attribution"], atol=1e-5)
    assert one["attribution"].abs().max() > 0.05
    assert max(map(abs, one.convergence_delta.values())) < 1e-6


@pytest.mark.parametrize("name", ["text", "image", "slide"])
def test_ablation_closes_all_gates_of_a_part_at_once(name):
    model, patients, cohort = fused(name)
    found = attributions(model, patients, cohort, "it", "death", method="feature_ablation", patch=12)
    rows = found.loc[["P1"]]
    parts = model.first.encoders["it"].parts(
        cohort.modalities["it"].loc[["P1"]], patients.values["it"][patients.position[[1], 0]], 12
    )
    request = gated_predictions.AttributionRequest(0, "death", [0], "feature_ablation", 1, 12)
    exact = copy.deepcopy(model).double()
    gated = gated_predictions.GatedPredictions(exact, patients.batch(torch.tensor([1])), parts, request)
    gates = torch.ones(1, len(parts.gates.items), dtype=torch.float64)
    k = len(rows) // 2
    without = torch.where(parts.gates.items == k, 0.0, gates)
    with torch.no_grad():
        expected = gated(gates, torch.tensor([0])) - gated(without, torch.tensor([0]))
    assert rows["attribution"].iloc[k] == pytest.approx(expected.item(), abs=1e-5)


def trained(encoder, values, labels, n_epochs=60, **options):
    """A small network over one modality, trained on all patients at once."""
    task = make_task("binary", "y", pd.DataFrame({"y": labels}), target="y")
    model = SequentialFusion({"it": encoder}, [task], 6, **options)
    patients = PatientTensors(pd.RangeIndex(len(labels)), {"it": values}, torch.arange(len(labels))[:, None])
    batch = patients.batch(torch.arange(len(labels)))
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    target = torch.tensor(labels).float()
    for _ in range(n_epochs):
        loss = task(model(batch)["y"], target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3
    return Ensemble([model]).eval()


def test_a_planted_word_gets_the_largest_attribution():
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 2
    plain = ["the", "patient", "walks", "home", "with", "a", "garden", "and", "two", "old", "cats", "in", "August"]
    texts = []
    for label in labels:
        words = [*rng.permutation(plain)[:7]]
        words.insert(rng.integers(0, 7), "carcinoma" if label else "window")
        texts.append(" ".join(words))
    frame = pd.DataFrame({"report": texts}, [f"P{i}" for i in range(len(texts))])
    encoder = TextEncoder.fit(frame, TextOptions(n_components=None, dropout=0.0))
    model = trained(encoder, encoder.prepare(frame), labels, 30)
    cohort = Cohort.from_frames({"it": frame.iloc[1:13:2]}, several_rows=["it"])
    found = attributions(model, prepare(model.first, cohort, labelled=False), cohort, "it", "y", n_steps=32)
    for patient in cohort.patients:
        rows = found.loc[patient].reset_index()
        assert rows.loc[rows["attribution"].idxmax(), "feature"] == "carcinoma"


@pytest.mark.parametrize("update", ["residual", "attention"])
def test_a_planted_tile_gets_the_largest_attribution(tmp_path, update):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    files = []
    for i, label in enumerate(labels):
        features = rng.normal(size=(20, 5))
        features[7, 3] += 6 * label
        files.append((f"P{i}", write(tmp_path / f"{i}.h5", features)))
    frame = frame_of(files)
    encoder = SlideEncoder.fit(frame, SlideOptions(dropout=0.0, hidden_size=16, embedding_size=8))
    model = trained(encoder, encoder.prepare(frame), labels, 40, update=update)
    cohort = Cohort.from_frames({"it": frame}, several_rows=["it"], files={"it": ["file"]})
    found = attributions(model, prepare(model.first, cohort, labelled=False), cohort, "it", "y")
    assert {"file", "x", "y"} <= set(found.columns)
    for patient in frame.index[labels == 1]:
        rows = found.loc[patient].reset_index()
        assert rows["attribution"].idxmax() == 7
        assert (rows.loc[7, "x"], rows.loc[7, "y"]) == (7 * 256, 512)


@pytest.mark.parametrize("name", ["piecewise", "wide"])
def test_patients_of_a_background_are_the_baseline(name):
    model, patients, cohort = fused(name)
    frame = ALL[name][2]().tail(3)
    background = Cohort.from_frames({"it": frame})
    found = attributions(model, patients, cohort, "it", "size", background=background)
    drawn = model.first.encoders["it"].prepare(frame)
    position = patients.position[:4].clone()
    expected = 0
    for k in range(3):
        position[:, 0] = k
        changed = PatientTensors(patients.patients[:4], {**patients.values, "it": drawn}, position)
        expected = expected + link(model, changed, "size")[:, 0].numpy() / 3
    ends = found.groupby(level=0, sort=False)[["prediction", "baseline_prediction"]].first()
    np.testing.assert_allclose(ends["baseline_prediction"], expected, atol=1e-4)
    np.testing.assert_allclose(
        found.groupby(level=0, sort=False)["attribution"].sum(),
        ends["prediction"] - ends["baseline_prediction"],
        atol=0.02,
    )
    assert found.baseline.startswith("3 patients drawn")
    fewer = attributions(model, patients, cohort, "it", "size", background=background, n_background=1, seed=1)
    assert fewer.baseline.startswith("1 patient")


@pytest.mark.filterwarnings("ignore:The attributions of")  # of eight steps
@pytest.mark.parametrize("name", ["wide", "slide", "series", "text", "image"])
def test_what_fits_in_memory_at_once_changes_nothing(name, monkeypatch):
    model, patients, cohort = fused(name)
    run = functools.partial(attributions, model, patients, cohort, "it", "death", n_steps=8, patch=8)
    whole = run()
    monkeypatch.setattr(gated_predictions, "AT_ONCE", 1)
    monkeypatch.setattr(gated_predictions, "PATIENTS", 1)
    pd.testing.assert_frame_equal(run(), whole, atol=1e-5)


def test_the_model_stays_as_it_is():
    model, patients, cohort = fused("piecewise")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributions(model, patients, cohort, "it", "death", n_steps=4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.filterwarnings("ignore:The attributions of")  # of eight steps
@pytest.mark.parametrize(("name", "shape"), [("image", (1, 24, 24)), ("volume", (1, 16, 16, 16))])
def test_a_map_of_all_pixels_adds_up_to_the_patches(name, shape):
    model, patients, cohort = fused(name)
    found = attribution_map(model, patients, cohort, "it", "death", patient="P2", n_steps=8)
    assert found.shape == shape
    patches = attributions(model, patients, cohort, "it", "death", patch=8, n_steps=8).loc["P2"]
    for _, row in patches.iterrows():
        x, y = row["x"], row["y"]
        inside = (
            found[0, y : y + 8, x : x + 8] if name == "image" else found[0, x : x + 8, y : y + 8, row["z"] :][..., :8]
        )
        assert inside.sum() == pytest.approx(row["attribution"], abs=1e-5)


def test_a_map_is_of_one_patient_with_pictures_and_one_output():
    model, patients, cohort = fused("image")
    run = functools.partial(attribution_map, model, patients, cohort)
    with pytest.raises(DataError, match=r"Patient 'P22' is unknown. Did you mean 'P2'"):
        run("it", "death", patient="P22")
    with pytest.raises(DataError, match=r"Patient 'P5' has no 'it'"):
        run("it", "death", patient="P5")
    with pytest.raises(StudyError, match="has 3 outputs; name one of a, b, c"):
        run("it", "stage", patient="P1")
    with pytest.raises(StudyError, match="Modality 'other' has no pixels"):
        run("other", "death", patient="P1")


def test_patients_whom_few_steps_miss_get_more(monkeypatch):
    model, patients, cohort = fused("image")
    run = functools.partial(attributions, model, patients, cohort, "it", "death", patch=8)

    def missed(**options):
        return np.abs(list(run(**options).convergence_delta.values()))

    with monkeypatch.context() as patch:
        patch.setattr(gated_predictions, "MORE_STEPS", 1)
        with pytest.warns(DataWarning):
            few = missed(n_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(gated_predictions, "MORE_STEPS", 64)
        more = missed(n_steps=1)
    again = more != few
    assert again.any()
    assert (more[again] < few[again] / 3).all()


def test_a_cohort_that_was_not_prepared_is_told():
    model, patients, cohort = fused("piecewise")
    with pytest.raises(DataError, match="The cohort has no 'it' of P2: give the one that was prepared"):
        attributions(model, patients, cohort.subset(["P0", "P1", "P3", "P4"]), "it", "death")


def test_an_integral_of_too_few_steps_is_told():
    model, patients, cohort = fused("image")
    with pytest.warns(DataWarning, match=r"of 4 patients miss more than 5%.*Raise `n_steps` \(now 1, then 4\)"):
        attributions(model, patients, cohort, "it", "death", n_steps=1)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"modality": "itt"}, "Unknown modality 'itt'. Did you mean 'it'"),
        ({"task": "deth"}, "Unknown task 'deth'. Did you mean 'death'"),
        ({"task": "stage", "output": "d"}, "Unknown output 'd' of task 'stage'. Valid: a, b, c"),
        (
            {"method": "integrated_gradient"},
            "Unknown method 'integrated_gradient'. Did you mean 'integrated_gradients'",
        ),
        ({"n_steps": 0}, "`n_steps` is 0, expected 1 or more"),
        ({"patch": 0}, "`patch` is 0"),
    ],
)
def test_a_mistyped_word_is_told_with_the_nearest_one(asked, told):
    model, patients, cohort = fused("piecewise")
    asked = {"modality": "it", "task": "death"} | asked
    with pytest.raises(StudyError, match=told):
        attributions(model, patients, cohort, **asked)


def test_a_kind_without_parts_is_told():
    torch.manual_seed(0)
    model = Ensemble([SequentialFusion({"m0": TinyEncoder(2)}, make_tasks())])
    cohort = Cohort.from_frames({"m0": pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]}, ["p", "q"])})
    patients = PatientTensors(cohort.patients, {"m0": torch.ones(2, 2)}, torch.arange(2)[:, None])
    with pytest.raises(
        StudyError, match=r"modality 'm0': TinyEncoder has no parts to attribute to\. Kinds that have: codes, emb"
    ):
        attributions(model, patients, cohort, "m0", "death")


def test_what_no_other_patient_can_stand_for_is_told():
    model, patients, cohort = fused("series")
    with pytest.raises(StudyError, match="no other patient can stand for a baseline"):
        attributions(model, patients, cohort, "it", "death", background=cohort)
    with pytest.raises(DataError, match="Nobody of the background has the modality 'other'"):
        attributions(model, patients, cohort, "other", "death", background=Cohort.from_frames({"x": vectors(3)}))


def test_a_task_that_must_not_see_the_modality_is_told():
    table = vectors(20)
    encoder = EmbeddingEncoder.fit(table, EmbeddingOptions())
    model = ensemble({"one": encoder, "two": copy.deepcopy(encoder)}, excluded={"death": ["two"]})
    cohort = Cohort.from_frames({"one": table, "two": table})
    patients = prepare(model.first, cohort, labelled=False)
    with pytest.raises(StudyError, match="Task 'death' does not see modality 'two'"):
        attributions(model, patients, cohort, "two", "death")
    hidden = attributions(model, patients, cohort, "one", "death")
    np.testing.assert_allclose(
        hidden.groupby(level=0, sort=False)["prediction"].first(), link(model, patients, "death")[:, 0], atol=1e-4
    )


def test_one_reading_of_several_is_attributed_to_by_its_name():
    table = vectors(20)
    encoder = EmbeddingEncoder.fit(table, EmbeddingOptions())
    model = ensemble({"labs@1": encoder, "labs@2": encoder}, update="gated")
    cohort = Cohort.from_frames({"labs@1": table, "labs@2": table + 1.0})
    patients = prepare(model.first, cohort, labelled=False)
    found = {name: attributions(model, patients, cohort, name, "size") for name in cohort.modalities}
    for frame in found.values():
        ends = frame.groupby(level=0, sort=False)["prediction"].first()
        np.testing.assert_allclose(ends, link(model, patients, "size")[:, 0], atol=1e-4)
    assert (found["labs@2"]["value"].astype(float) - found["labs@1"]["value"].astype(float)).round(6).eq(1).all()
