import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, MultiModN, Study
from multimodn.base.batches import BatchLoader, PatientTensors
from multimodn.data.registries import join_registries
from multimodn.data.splits import folds, make_split
from multimodn.errors import DataError, DataWarning
from multimodn.fusion import random_paths
from multimodn.training.module import FusionModule
from tests._cohorts import make_cohort, make_frames, study_dict
from tests.training.test_fit import assert_same_weights, interrupt

SOURCES = {"labs": "labs.csv", "image": "image.csv", "outcome": "outcome.csv"}


def registries(folder, *, changes=None, study=None, frames=None):
    """North: 40 patients with death and survival; south: 24 others, of whom nobody has an image, with size alone."""
    tables, targets = make_frames()
    more, others = make_frames(24, seed=1)
    written = {
        "north/labs": tables["labs"],
        "north/image": tables["image"],
        "north/outcome": pd.concat([targets["death"], targets["survival"]], axis=1),
        "south/labs": more["labs"],
        "south/outcome": others["size"],
    } | (frames or {})
    for name, table in written.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.rename_axis("id").to_csv(path)
    north = {"sources": {name: f"north/{path}" for name, path in SOURCES.items()}}
    south = {"sources": {name: f"south/{path}" for name, path in SOURCES.items()} | {"image": None}}
    cohorts = {"north": north, "south": south} | (changes or {})
    return Study.from_dict(study_dict(cohorts=cohorts, **(study or {})), folder)


def load(study, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return Cohort.load(study, **options)


def test_patients_of_registries_are_kept_apart_and_nothing_of_a_cell_changes(tmp_path):
    cohort = load(registries(tmp_path))
    tables, targets = make_frames()
    more, others = make_frames(24, seed=1)
    assert len(cohort) == 64
    assert cohort.patients.is_unique
    assert set(cohort.patients) == {f"north/{p}" for p in tables["labs"].index} | {
        f"south/{p}" for p in more["labs"].index
    }
    assert cohort.registry.tolist() == ["north"] * 40 + ["south"] * 24
    joined = pd.concat([tables["labs"].add_prefix("", axis=0), more["labs"]])
    np.testing.assert_allclose(cohort.modalities["labs"].to_numpy(), joined.to_numpy(), rtol=1e-6)
    assert cohort.modalities["image"].index.str.startswith("north/").all()
    assert cohort.targets["death"]["status"].notna().sum() == targets["death"]["status"].notna().sum()
    assert cohort.targets["size"]["size"].dropna().tolist() == pytest.approx(others["size"]["size"].tolist())


def test_a_task_is_unlabelled_where_a_registry_does_not_record_it(tmp_path):
    cohort = load(registries(tmp_path))
    known = {task: set(cohort.registry[table.notna().all(axis=1)]) for task, table in cohort.targets.items()}
    assert known == {"death": {"north"}, "size": {"south"}, "survival": {"north"}}


def test_a_registry_may_hide_labels_that_it_has_and_they_do_not_become_inputs(tmp_path):
    labs = make_frames(24, seed=1)[0]["labs"].assign(status="alive")
    changes = {
        "south": {
            "sources": {"labs": "south/labs.csv", "image": None, "outcome": "south/outcome.csv"},
            "tasks": ["size"],
        }
    }
    tasks = study_dict()["tasks"]
    tasks[0]["source"] = "labs"
    north = make_frames()
    frames = {"south/labs": labs, "north/labs": north[0]["labs"].join(north[1]["death"])}
    study = registries(tmp_path, changes=changes, study={"tasks": tasks}, frames=frames)
    with pytest.raises(
        DataError, match=r"registry 'south': modality 'labs': its inputs include 'status' \(a target of"
    ):
        load(study)
    modalities = study_dict()["modalities"]
    modalities[0]["columns"] = {"all_but": ["status"]}
    cohort = load(
        registries(tmp_path, changes=changes, study={"tasks": tasks, "modalities": modalities}, frames=frames)
    )
    assert list(cohort.modalities["labs"].columns) == ["crp", "hb", "sodium"]
    assert set(cohort.registry[cohort.targets["death"]["status"].notna()]) == {"north"}
    frames["south/labs"] = labs.drop(columns="status")  # a target that stands in one registry only
    study = registries(tmp_path, changes=changes, study={"tasks": tasks, "modalities": modalities}, frames=frames)
    assert list(load(study).modalities["labs"].columns) == ["crp", "hb", "sodium"]


def test_a_key_of_its_own(tmp_path):
    study = registries(tmp_path)
    expected = load(study).hash()
    for name in ("labs", "outcome"):
        file = tmp_path / "south" / f"{name}.csv"
        file.write_text(file.read_text().replace("id,", "number,", 1))
    south = study.to_dict()["cohorts"]["south"] | {"patient": "number"}
    other = Study.from_dict(study.to_dict() | {"cohorts": study.to_dict()["cohorts"] | {"south": south}}, tmp_path)
    assert load(other).hash() == expected


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"south/labs": make_frames(24)[0]["labs"].drop(columns="hb")}, "'labs': registry 'south' lacks .* hb"),
        (
            {"south/labs": make_frames(24)[0]["labs"].assign(hb="low")},
            "column 'hb': registry 'north' has num.*has text",
        ),
        ({"south/outcome": make_frames(24)[1]["size"].assign(months=1.0)}, "'south': .*has months .* but not event"),
        (
            {"south/outcome": make_frames(24)[1]["size"].add_prefix("x")},
            "registry 'south': it has the target columns of",
        ),
        ({"south/outcome": make_frames(24)[1]["death"]}, "task 'size': no registry has its column"),
        ({"north/labs": make_frames()[0]["labs"].iloc[[0, 0]]}, "registry 'north': source 'labs': 1 patient"),
    ],
)
def test_registries_that_do_not_fit(tmp_path, frames, message):
    with pytest.raises(DataError, match=message):
        load(registries(tmp_path, frames=frames))


def test_what_no_outcome_teaches_and_who_may_stand_twice_is_told(tmp_path):
    with pytest.warns(DataWarning) as caught:
        Cohort.load(registries(tmp_path))
    text = str(caught[0].message)
    assert "modality 'image': no patient who has it has a label of size" in text
    assert "registries 'north' and 'south' share 24 identifier(s)" in text


def test_a_group_of_two_registries_is_on_one_side():
    parts = {}
    for k, name in enumerate(("north", "south")):
        tables, targets = make_frames(40, seed=k)
        family = pd.Series([f"f{i // 2}" for i in range(40)], tables["labs"].index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            parts[name] = Cohort.from_frames(tables, targets, groups=family)
    cohort = join_registries(parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        split = make_split(Study.from_dict(study_dict()), cohort)
    sides = [set(cohort.groups.loc[list(ids)]) for ids in (split.train, split.validation, split.test)]
    assert not sides[0] & sides[1]
    assert not sides[2] & (sides[0] | sides[1])


def test_a_subset_knows_its_registries_and_the_hash_depends_on_them(tmp_path):
    cohort = load(registries(tmp_path))
    south = cohort.subset(cohort.registry == "south")
    assert south.registry.tolist() == ["south"] * 24
    assert Cohort(**{**vars(cohort), "registry": None}).hash() != cohort.hash()


def make_loader(n=(50, 20), batch_size=16, **options):
    registry = torch.cat([torch.full((size,), k) for k, size in enumerate(n)])
    total = len(registry)
    patients = PatientTensors(
        pd.Index(range(total)), {"m": torch.arange(total)}, torch.arange(total).unsqueeze(1), registry=registry
    )
    return BatchLoader(patients, torch.arange(total), batch_size, shuffle=True, alternate=True, **options), registry


def test_each_batch_is_of_one_registry_and_each_patient_passes_once_an_epoch():
    loader, registry = make_loader()
    batches = [batch.values["m"] for batch in loader]
    owners = [registry[rows].unique().tolist() for rows in batches]
    assert all(len(owner) == 1 for owner in owners)
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(70))
    assert len(loader) == len(batches) == 4 + 2
    sizes = pd.Series([len(rows) for rows in batches]).groupby([owner[0] for owner in owners]).agg(["min", "max"])
    assert (sizes["max"] - sizes["min"] <= 1).all()
    assert (sizes["max"] <= 16).all()


def test_registries_take_turns_in_proportion_to_their_patients():
    loader, registry = make_loader((96, 32), 8)
    owners = [int(registry[batch.values["m"][0]]) for batch in loader]
    assert [sum(owners[k : k + 4]) for k in range(0, 16, 4)] == [1, 1, 1, 1]


def test_epochs_differ_and_the_same_epoch_repeats():
    first, again = make_loader(seed=3)[0], make_loader(seed=3)[0]
    rows = [[batch.values["m"].tolist() for batch in loader] for loader in (first, again)]
    assert rows[0] == rows[1]
    again.epoch = 1
    assert [batch.values["m"].tolist() for batch in again] != rows[0]


def test_processes_share_each_registry_and_take_as_many_steps():
    seen, lengths = [], set()
    for rank in range(3):
        loader, registry = make_loader(seed=5)
        loader.rank, loader.n_processes = rank, 3
        batches = [batch.values["m"] for batch in loader]
        lengths.add(len(batches))
        assert all(len(registry[rows].unique()) == 1 for rows in batches)
        seen.append(torch.cat(batches))
    assert len(lengths) == 1
    assert torch.equal(torch.cat(seen).unique(), torch.arange(70))


def test_without_registries_a_loader_is_what_it_was():
    loader, _ = make_loader()
    plain = PatientTensors(loader.patients.patients, loader.patients.values, loader.patients.position)
    one, other = (BatchLoader(plain, loader.rows, 16, shuffle=True, alternate=each) for each in (True, False))
    assert [batch.values["m"].tolist() for batch in one] == [batch.values["m"].tolist() for batch in other]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registries")
    study = registries(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return MultiModN(study).fit(), folder


def test_a_bundle_of_registries_predicts_new_patients_without_one(trained, tmp_path):
    model, folder = trained
    again = MultiModN.load(model.save(folder / "bundle"))
    assert again.study == model.study
    new = make_frames(5, seed=7)[0]["labs"]
    new.rename_axis("id").to_csv(tmp_path / "new.csv")
    cohort = Cohort.load(again.study, labelled=False, sources={"labs": tmp_path / "new.csv"})
    assert cohort.registry is None
    found = again.predict(cohort)
    assert set(found.index) == set(new.index)
    assert set(found["n_modalities"]) == {1}
    pd.testing.assert_frame_equal(found, model.predict(cohort))


def test_an_interrupted_fit_of_registries_repeats_exactly(trained, tmp_path, monkeypatch):
    whole, _ = trained
    cohort = load(whole.study)
    with monkeypatch.context() as patch:
        interrupt(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            MultiModN(whole.study).fit(cohort, split=whole.split, folder=tmp_path)
    assert_same_weights(MultiModN(whole.study).fit(cohort, split=whole.split, folder=tmp_path), whole)


def test_a_step_counts_by_its_patients_and_a_task_by_its_labelled_ones(trained):
    """Over an epoch the loss of a task is summed over labelled patients, as the penalty supposes."""
    model, _ = trained
    network, cohort = model.trained.ensemble.first, load(model.study)
    patients = model.prepare(cohort, labelled=True)
    loader = BatchLoader(patients, torch.arange(len(patients)), 16, shuffle=True, alternate=True)
    module = FusionModule(network, model.study.training, loader, 0)
    for batch in loader:
        torch.manual_seed(0)
        step = module.training_step(batch, 0)
        torch.manual_seed(0)
        losses = network.losses(batch, random_paths(batch.presence))
        known = {name for name, labelled in batch.labelled.items() if labelled.any()}
        assert known in ({"size"}, {"death", "survival"})
        expected = sum(losses[name] for name in known) / 3 * len(batch) / 16
        assert step.item() == pytest.approx(expected.item(), rel=1e-5)


def test_patients_of_the_study_are_predicted_by_their_whole_name(trained):
    model, _ = trained
    assert model.predict(load(model.study, labelled=False)).index.str.contains("^(?:north|south)/").all()


def test_a_task_is_taught_by_its_own_registry_alone(tmp_path):
    """What a registry that does not record a task holds changes nothing that the task's loss counts."""
    from multimodn.missingness.label_shift import LabelShift
    from multimodn.training.build import build_model, prepare

    study = registries(tmp_path)
    cohort = load(study)
    model = build_model(study, cohort, 0)
    patients = prepare(model, cohort, labelled=True)
    tasks = list(model.tasks.values())
    south = (patients.registry == 1).numpy()
    both = LabelShift(patients.presence, patients.strata, tasks)
    own = LabelShift(patients.presence[~south], patients.strata[~south], tasks)
    subsets = torch.tensor([[True, False], [False, True], [True, True]])
    for name in ("death", "survival"):
        t = list(model.tasks).index(name)
        assert torch.equal(both.tilts(subsets)[:, t], own.tilts(subsets)[:, t])
    batch = patients.batch(torch.from_numpy(np.flatnonzero(south)))
    losses = model.losses(batch, torch.zeros(len(batch), 1, dtype=torch.long))
    assert losses["death"].item() == losses["survival"].item() == 0.0


def test_every_part_of_a_split_has_patients_of_every_registry():
    north, south = make_cohort(n=40), make_cohort(n=40, seed=1).subset([f"p{i:02d}" for i in range(10)])
    cohort = join_registries({"north": north, "south": south})
    for seed in range(20):
        tested = [cohort.registry[list(test)] for _, test in folds(cohort, 5, seed=seed)]
        assert {int((part == "south").sum()) for part in tested} == {2}
