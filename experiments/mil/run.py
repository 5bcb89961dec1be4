"""Planted tiles: does attention find the one tile in a hundred that makes a slide positive, in linear time?

    python experiments/mil/run.py [--seeds 0 1 2]

Writes ``results.csv``, ``RESULTS.md`` and ``run.json``. Needs no network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn import Cohort, DataWarning, MultiModN, Study
from multimodn.encoders._slides.bags import BLOCK_TILES
from multimodn.encoders.slide import SlideEncoder, SlideOptions
from multimodn.evaluate.results import ResultsTable, markdown
from multimodn.files import write_text
from multimodn.fusion import Ensemble
from multimodn.slides.feature_files.features import FeatureMeta, read_features, write_features
from multimodn.training.fit import TrainerFlags
from multimodn.training.provenance import versions

FOLDER = Path(__file__).resolve().parent
PARTS = {"train": 300, "test": 200}
N_TILES, FEATURE_SIZE, N_PLANTED = 2000, 64, 20
EFFECTS = (5.0,)
"""How far planted tiles are shifted, in standard deviations of a tile along that direction."""
N_STAINS, STAIN = 4, 0.3
"""Directions in which whole slides differ, the planted one among them, and by how much (standard deviation)."""
TRAINING = {"epochs": 30, "batch_size": 8, "members": 5, "experts": []}
MAX_TILES = 300
"""Tiles of a slide that a training pass sees."""
SIZES = (1_000, 10_000, 50_000, 100_000)
GOALS = {"auroc": 0.95, "planted_found": 0.8}
N_TIMED = 5


@dataclass(frozen=True)
class Planted:
    """Patients of one seed.

    Attributes:
        frame: ``patient``, ``positive`` and ``part``, a row each.
        planted: Which tiles carry the sign, ``(n, N_PLANTED)``; of negatives: which would.
        direction: ``(FEATURE_SIZE,)``.
    """

    frame: pd.DataFrame
    planted: NDArray[np.int64]
    direction: NDArray[np.float64]


def plant(folder: Path, seed: int, effect: float) -> Planted:
    """Writes a feature file for each patient, and their labels and mean features as CSV."""
    rng = np.random.default_rng(seed)
    n = sum(PARTS.values())
    stains = np.linalg.qr(rng.normal(size=(FEATURE_SIZE, N_STAINS)))[0]
    direction = stains[:, 0]
    positive = rng.permutation(np.arange(n) % 2)
    patients = [f"P{i:03d}" for i in range(n)]
    planted, means = [], []
    coords = np.stack(np.divmod(np.arange(N_TILES), 50), axis=1) * 256
    (folder / "slides").mkdir()
    for patient, is_positive in zip(patients, positive, strict=True):
        tiles = rng.normal(size=(N_TILES, FEATURE_SIZE)) + stains @ rng.normal(scale=STAIN, size=N_STAINS)
        planted.append(rng.choice(N_TILES, N_PLANTED, replace=False))
        tiles[planted[-1]] += is_positive * effect * direction
        meta = FeatureMeta(encoder="simulated", encoder_hash="0" * 64)
        write_features(folder / "slides" / f"{patient}.h5", tiles.astype(np.float16), coords, meta)
        means.append(tiles.mean(axis=0))
    part = np.repeat(list(PARTS), list(PARTS.values()))
    frame = pd.DataFrame({"patient": patients, "positive": positive, "part": part})
    frame.to_csv(folder / "labels.csv", index=False)
    names = [f"e{i}" for i in range(FEATURE_SIZE)]
    pd.DataFrame(means, columns=names).assign(patient=patients).to_csv(folder / "means.csv", index=False)
    return Planted(frame, np.array(planted), direction)


def study(modality: dict[str, Any], folder: Path, seed: int) -> Study:
    """Returns the study of one modality, all else alike."""
    sources = {"labels": "labels.csv", "slides": {"files": "slides/*.h5"}, "means": "means.csv"}
    return Study.from_dict(
        {
            "name": "planted tiles",
            "cohort": {"patient": "patient", "sources": sources},
            "modalities": [modality],
            "tasks": [{"name": "positive", "kind": "binary", "source": "labels", "target": "positive", "positive": 1}],
            "split": {"column": "part"},
            "missingness": "off",  # everybody has a slide
            "training": {**TRAINING, "seed": seed},
        },
        folder,
    )


ARMS: dict[str, dict[str, Any]] = {
    "attention": {"name": "slides", "kind": "slide", "source": "slides", "max_tiles": MAX_TILES},
    "mean": {"name": "slides", "kind": "embedding", "source": "means", "n_components": None},
}


def run_arm(arm: str, data: Planted, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Trains one arm and scores it on the test patients."""
    model = MultiModN(study(ARMS[arm], folder, seed)).fit(flags=TrainerFlags(accelerator="cpu", progress=False))
    scores = model.evaluate()
    auroc = float(scores.loc[scores["metric"] == "auroc", "value"].iloc[0])
    rows = [{"arm": arm, "metric": "auroc", "value": auroc}]
    if arm == "attention":
        rows.append({"arm": arm, "metric": "planted_found", "value": found(model, data)})
        rows.append({"arm": "one member", "metric": "planted_found", "value": found(alone(model), data)})
        rows.append({"arm": "true direction", "metric": "planted_found", "value": found(None, data, folder)})
    return rows


def alone(model: MultiModN) -> MultiModN:
    """Returns the first member by itself."""
    return MultiModN.of(replace(model.trained, ensemble=Ensemble([model.trained.ensemble.first])))


def found(model: MultiModN | None, data: Planted, folder: Path | None = None) -> float:
    """Returns the share of planted tiles among the `N_PLANTED` of highest attention, over positive test patients.

    Without a model the tiles are ranked by their component in the true direction: the most that can be reached.
    """
    rows = np.flatnonzero((data.frame["part"] == "test") & (data.frame["positive"] == 1))
    patients = data.frame["patient"].iloc[rows]
    if model is None:
        files = [read_features(str(folder / "slides" / f"{patient}.h5")) for patient in patients]  # type: ignore[operator]
        scores = np.stack([file.features.astype(np.float64) @ data.direction for file in files])
    else:
        weights = model.explain.attention("slides").set_index("patient")["attention"]
        scores = np.stack([weights[patient].to_numpy() for patient in patients])
    top = np.argsort(-scores, axis=1)[:, :N_PLANTED]
    return float(np.mean([np.isin(mine, tiles).mean() for mine, tiles in zip(data.planted[rows], top, strict=True)]))


def time_passes(folder: Path) -> pd.DataFrame:
    """Times forward and backward of one patient with all tiles, in training mode; the fastest of some passes."""
    rng, rows = np.random.default_rng(0), []
    for n_tiles in SIZES:
        path = folder / f"{n_tiles}.h5"
        tiles = rng.normal(size=(n_tiles, FEATURE_SIZE)).astype(np.float16)
        write_features(path, tiles, np.zeros((n_tiles, 2), dtype=np.int64), FeatureMeta())
        frame = pd.DataFrame({"file": [str(path)]}, index=pd.Index(["P"], name="patient"))
        encoder = SlideEncoder.fit(frame, SlideOptions(max_tiles=None)).train()
        bags, seconds = encoder.prepare(frame), []
        for _ in range(N_TIMED):
            start = time.perf_counter()
            encoder(bags).square().sum().backward()
            seconds.append(time.perf_counter() - start)
        rows.append({"tiles": n_tiles, "seconds": min(seconds)})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="Where the results go.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DataWarning)
    table, hashes = ResultsTable(arguments.folder, "planted tiles"), {}
    parts = []
    for effect, seed in product(EFFECTS, arguments.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            data = plant(Path(scratch), seed, effect)
            rows = [row for arm in ARMS for row in run_arm(arm, data, Path(scratch), seed)]
            hashes[f"effect {effect:g}, seed {seed}"] = Cohort.load(study(ARMS["mean"], Path(scratch), seed)).hash()
        scores = pd.DataFrame(rows).assign(task="positive", repeat=seed, fold=0)
        table.add(scores, condition=f"effect {effect:g}")
        parts.append(scores.assign(effect=effect))
        print(parts[-1].to_string(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        timed = time_passes(Path(scratch))
    for row in timed.itertuples():
        found_time = {
            "arm": "attention",
            "metric": "seconds",
            "value": row.seconds,
            "task": "-",
            "repeat": 0,
            "fold": 0,
        }
        table.add(pd.DataFrame([found_time]), condition=f"{row.tiles} tiles")
    table.write({"seeds": arguments.seeds, "versions": versions(), "data_hash": hashes, "threads": 1})
    write_text(arguments.folder / "RESULTS.md", page(pd.concat(parts), timed))


def page(scores: pd.DataFrame, timed: pd.DataFrame) -> str:
    """Returns RESULTS.md."""
    wide = scores.assign(column=scores["arm"] + ": " + scores["metric"])
    wide = wide.pivot_table("value", ["effect", "repeat"], "column").rename_axis(["effect", "seed"])
    wide = wide.rename_axis(None, axis=1).reset_index()
    wide["effect"] = wide["effect"].astype(int)
    each = timed["seconds"] / timed["tiles"]
    timed = timed.assign(**{"microseconds a tile": 1e6 * each, "relative to the smallest": each / each.iloc[0]})
    return TEXT.format(
        n_tiles=N_TILES,
        n_planted=N_PLANTED,
        size=FEATURE_SIZE,
        effects=" or ".join(f"{effect:g}" for effect in EFFECTS),
        largest=max(EFFECTS),
        n_stains=N_STAINS,
        stain=STAIN,
        **PARTS,
        **TRAINING,
        max_tiles=MAX_TILES,
        scores=markdown(wide),
        times=markdown(timed),
        block=BLOCK_TILES,
        met=_met(scores),
        **GOALS,
    )


def _met(scores: pd.DataFrame) -> str:
    """Says on how many seeds each goal was met."""
    sentences = []
    for effect, part in scores[scores["arm"] == "attention"].groupby("effect"):
        values = part.set_index("repeat").pivot(columns="metric", values="value")
        counts = [f"{(values[name] > goal).sum()} of {len(values)} ({name})" for name, goal in GOALS.items()]
        sentences.append(f"Effect {effect:g}: met on {' and '.join(counts)} seeds.")
    return "\n".join(f"- {sentence}" for sentence in sentences)


TEXT = """# Planted tiles

Written by `python experiments/mil/run.py`; the numbers are in `results.csv`, seeds, versions and hashes in `run.json`.

## What is simulated

A slide has {n_tiles} tiles of {size} independent normal features. In positive slides {n_planted} of them, drawn at
random, are shifted by an effect of {effects} standard deviations in one direction, drawn at random for each seed. As
scanners and stains do, whole slides are shifted too: in {n_stains} directions, the planted one among them, by a normal
number of standard deviation {stain:g} each. Planted tiles move a slide's mean by at most
{largest:g} x {n_planted} / {n_tiles} only, which these shifts hide. {train} patients train, {test} are tested, half of
them positive. {members} members, {epochs} epochs, batches of {batch_size}, {max_tiles} tiles of a slide in a pass; all
other options are the package's defaults. These numbers and the start of the attention were chosen on seeds 100 to 103.

## Found or not

`attention`: kind `slide`, attention averaged over the members. `one member`: that of the first. `mean`: kind
`embedding` of the mean tile, otherwise the same study. `planted_found`: the share of the planted tiles of positive test
slides among the {n_planted} tiles of highest attention; `true direction` ranks tiles by their component in the
direction that was planted, the most that a ranking can find.

{scores}

The goals were an AUROC above {auroc} and more than {planted_found} of the planted tiles found.

{met}

What it took, in single runs on the development seeds (one member unless said): with random gates instead of orthogonal
ones, and all tiles in every pass, some runs found nothing at all (AUROC near .5; seed 1 of these as well, which was
seen). Orthogonal gates: AUROC .99, but .62 of the planted tiles, as the classes are told apart before the attention is
sharp, and nothing sharpens it any further. Few tiles in a pass do: .74 and .77 with 500 and 250 of 2,000. Five members
found .81 and .86 with 300.

## Time

One patient, forward and backward through all tiles in training mode, one thread, the fastest of some passes. Beyond
{block:,} tiles a backward pass computes each block of tiles anew instead of keeping it: longer by a constant factor,
and in bounded memory.

{times}

## What this does not show

Features of real tiles are neither normal nor independent, and what makes a slide positive is seldom one direction. The
simulation shows that the encoder finds a rare sign where there is one, not that there is one in slides.
"""


if __name__ == "__main__":
    main()
