"""The whole way on real pixels: a slide, reports and a table into one model, and back onto the slide.

    python experiments/pathology_metadata/demo.py [--out FOLDER]

A plumbing demonstration and no result: one real H&E slide (CC0, see tests/slides/data/NOTICE) is cut into 88 pieces,
each given to a patient of the ACC cohort as that patient's "slide"; the reports are TEMPLATED from fields of the ACC
table and nobody's words; the table is that of ACC. The label ``cellular`` (more haematoxylin in the piece than in half
of them) can be seen on the slide alone, ``aged`` (60 or older) is said in the report alone. It embeds the pieces,
trains, predicts with any of the three sources absent, and draws the heat map. Writes DEMO.md and two pictures beside
this file.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from multimodn import Cohort, MultiModN, Study
from multimodn.errors import DataWarning
from multimodn.evaluate.results import markdown
from multimodn.figures.theme import DARK, LIGHT
from multimodn.files import write_text
from multimodn.runs import fit_run
from multimodn.slides import draw_heatmap, embed_slides, open_slide
from multimodn.slides.embedding.embed import EmbedOptions
from multimodn.training.fit import TrainerFlags

HERE = Path(__file__).parent
SLIDE = HERE.parents[1] / "tests" / "slides" / "data" / "cmu_small_region.svs"
ACC = HERE.parent / "acc" / "data" / "clinical.csv"
ACROSS, DOWN = 8, 11
TILE = 64  # pixels of 0.5 micrometres
SOURCES = ("slides", "reports", "table")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Where slides, reports and run go; default: a temporary folder.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DataWarning)
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        corners = write_biobank(folder)
        embed_slides([folder / "pieces"], folder / "features", options=EmbedOptions(tile_size=TILE, tissue=0.3,
                     on_no_tissue="absent"))  # fmt: skip
        study = Study.load(HERE / "demo.yaml").to_dict()
        model = fit_run(Study.from_dict(study, folder), folder / "run", flags=TrainerFlags(progress=False))
        text = page(model)
        for name, palette in (("demo-heatmap.png", LIGHT), ("demo-heatmap-dark.png", DARK)):
            n = draw(model, corners, HERE / name, palette)
    write_text(HERE / "DEMO.md", text.format(n=n))
    console.print(text.format(n=n), markup=False, highlight=False)


def write_biobank(folder: Path) -> dict[str, tuple[int, int]]:
    """Writes pieces of the slide, templated reports and tables; returns the corner of each patient's piece."""
    import tifffile

    patients = pd.read_csv(ACC, dtype={"patientID": str}).head(ACROSS * DOWN)
    for name in ("pieces", "reports"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    corners, stained = {}, []
    with open_slide(SLIDE) as slide:
        width, height = slide.width // ACROSS, slide.height // DOWN
        for i, patient in enumerate(patients["patientID"]):
            x, y = (i % ACROSS) * width, (i // ACROSS) * height
            corners[patient] = (x, y)
            pixels = slide.read(x, y, width, height)
            stained.append(haematoxylin(pixels))
            per_cm = 1e4 / slide.mpp
            tifffile.imwrite(folder / "pieces" / f"{patient}.tif", pixels, tile=(128, 128), compression="deflate",
                             photometric="rgb", resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")  # fmt: skip
    for row in patients.itertuples():
        (folder / "reports" / f"{row.patientID}.txt").write_text(report(row))
    amount = np.array(stained)
    labels = pd.DataFrame(
        {
            "patientID": patients["patientID"],
            "cellular": np.where(amount > np.median(amount), "yes", "no"),
            "aged": np.where(patients["years_to_birth"] >= 60, "yes", "no"),
        }
    )
    labels.to_csv(folder / "labels.csv", index=False)
    patients[["patientID", "gender", "race", "purity", "ploidy"]].to_csv(folder / "table.csv", index=False)
    return corners


def haematoxylin(pixels: np.ndarray) -> float:
    """Returns the mean of the haematoxylin channel (colour deconvolution, Ruifrok and Johnston 2001)."""
    from skimage.color import rgb2hed

    return float(rgb2hed(pixels)[..., 0].mean())


def report(row: object) -> str:
    """Renders a report from fields of the ACC table: templated, never anybody's words."""
    found = getattr(row, "Histology", None)
    return (
        f"Adrenal gland, resection. The patient is {row.years_to_birth:.0f} years of age, {row.gender}. "
        f"Adrenocortical carcinoma, {str(found).lower() if isinstance(found, str) else 'type not stated'}. "
        f"Diagnosed in {row.date_of_initial_pathologic_diagnosis}."
    )


def page(model: MultiModN) -> str:
    """Scores the test patients with everything, and with any of the three sources absent."""
    test = Cohort.load(model.study).subset(model.split.test)
    rows = []
    for left_out in (None, *SOURCES):
        kept = {name: frame for name, frame in test.modalities.items() if name != left_out}
        scores = model.evaluate(replace(test, modalities=kept))
        auroc = scores[scores["metric"] == "auroc"].set_index("task")["value"]
        rows.append((left_out or "nothing", float(auroc["cellular"]), float(auroc["aged"])))
    table = markdown(pd.DataFrame(rows, columns=["left out when predicting", "AUROC cellular", "AUROC aged"]), 2)
    n_test = len(model.split.test)
    return (
        "# The whole way on real pixels\n\n"
        "Written by `demo.py`. A plumbing demonstration and no result: pieces of one real slide were given to the "
        "patients of the ACC cohort, and their reports are templated from its table. `cellular` can be seen on the "
        "slide alone, `aged` stands in the report alone, so that each should fall to about .5 without it. "
        f"{n_test} test patients: read the order of the numbers, not their digits.\n\n"
        f"{table}\n\n"
        "![heat map](demo-heatmap.png)\n\n"
        "The attention of each of {n} tiles, times "
        "their number in the piece, laid back where the piece was cut from: 1 is what a tile has where the model looks "
        "everywhere alike.\n"
    )


def draw(model: MultiModN, corners: dict[str, tuple[int, int]], file: Path, palette: object) -> int:
    """Draws attention of all pieces on the slide that they were cut from; returns the number of tiles."""
    found = model.explain.attention("slides")
    n_tiles = found.groupby("patient")["attention"].transform("size")
    at = np.array([corners[patient] for patient in found["patient"]])
    coords = (found[["x", "y"]].to_numpy() + at).astype(np.int64)
    with open_slide(SLIDE) as slide:
        extent = round(TILE * 0.5 / slide.mpp)
        draw_heatmap(slide, coords, extent, (found["attention"] * n_tiles).to_numpy(), file,
                     "Attention for two labels, on the slide that was cut", palette=palette,
                     score_name="relative attention")  # fmt: skip
    return len(found)


if __name__ == "__main__":
    main()
