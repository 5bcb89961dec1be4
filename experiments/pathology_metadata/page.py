"""The page and the picture of the study, drawn from what the cells predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scoring import Bootstrap, Floats, interval, shown

from multimodn import Study
from multimodn.evaluate.results import markdown
from multimodn.figures.forest import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.files import write_text

IMAGE = "he"
SHIFTED = ("grade", "perineural", "lymphovascular", "t_class", "n_class")
HOW = (
    "Written by `run.py`; AUROC by fold is in `results.csv`, what it takes to repeat it in `run.json`. {n} patients, "
    "five folds stratified by primary site, all arms on the same folds. AUROC: for `site` one class against the rest, "
    "for ordered classes low against high at each split, averaged; over folds. In brackets the 95 % interval of 2,000 "
    "resamples of patients, the same for all arms, so that differences are paired; it does not contain the chance of "
    "training.\n\n"
    "Modality settings, epochs, batches and learning rate are those of `experiments/hancock`, chosen there for other "
    "tasks of the same patients; three members instead of five, for time. The cells of one modality are this package "
    "too, with one encoder. `exclude_for` hides ICD codes of the primary site from `site`, and those of lymph nodes "
    "from `n_class`, in every arm.\n\n"
    "Said plainly: when three folds were done, they showed that the package's penalty grew with the number of tasks, "
    "as it weighed against the mean of their losses (all modalities: .687 with all tasks, .726 with one task a model). "
    "The package was changed so that it does not, and the models of all tasks were trained again with the number that "
    "the study file had from the start, 3."
)


def write_page(study: Study, inside: Bootstrap, shifted: Bootstrap, file: Path) -> str:
    """Writes the page and returns its text."""
    tasks = [task.name for task in study.tasks]
    sections = [
        "# Pathology metadata: one or several modalities, one or several tasks",
        HOW.format(n=inside.weights.shape[1]),
        "## Two by two",
        _two_by_two(inside, tasks),
        "## By task",
        markdown(_by_task(inside, tasks)),
        "## Every single modality",
        _singles(study, inside),
        "## Another primary site",
        "Trained on the patients of three primary sites, tested on the fourth, each site in turn; mean AUROC of the "
        "five tasks that every site has labels of (p16 was tested in the oropharynx only).",
        _two_by_two(shifted, list(SHIFTED)),
        markdown(_by_task(shifted, list(SHIFTED), baselines=False)),
    ]
    text = "\n\n".join(sections) + "\n"
    write_text(file, text)
    return text


def cell(boot: Bootstrap, tasks: Sequence[str], modalities: str, together: bool) -> Floats:
    """Returns the mean AUROC over tasks of one of the four cells."""
    base = "multi" if modalities == "multi" else f"single:{modalities}"
    return np.asarray(np.mean([boot.auroc(f"{base}:{'all' if together else task}", task) for task in tasks], axis=0))


def _two_by_two(boot: Bootstrap, tasks: Sequence[str]) -> str:
    cells = {(m, together): cell(boot, tasks, m, together) for m in (IMAGE, "multi") for together in (False, True)}
    table = pd.DataFrame(
        [
            ("H&E image alone", shown(cells[IMAGE, False]), shown(cells[IMAGE, True])),
            ("all modalities", shown(cells["multi", False]), shown(cells["multi", True])),
        ],
        columns=["mean AUROC", "one task a model", "all tasks in one model"],
    )
    ours, base = cells["multi", True], cells[IMAGE, False]
    steps = [
        ("all modalities, all tasks, minus one modality, one task", ours, base),
        ("... modalities, one task a model", cells["multi", False], base),
        ("... tasks, one modality", cells[IMAGE, True], base),
        ("... tasks, all modalities", ours, cells["multi", False]),
    ]
    gains = pd.DataFrame(
        [(name, shown(a - b), shown(100 * (a / b - 1), 1)) for name, a, b in steps],
        columns=["gain of", "in AUROC", "in per cent"],
    )
    return f"{markdown(table)}\n\n{markdown(gains)}"


def _by_task(boot: Bootstrap, tasks: Sequence[str], *, baselines: bool = True) -> pd.DataFrame:
    arms = {
        "H&E, one task": "single:he:{}",
        "H&E, all tasks": "single:he:all",
        "all modalities, one task": "multi:{}",
        "all modalities, all tasks": "multi:all",
    }
    if baselines:
        arms |= {"late ridge": "late_ridge", "boosted trees": "xgboost"}
    rows = [[task, *(shown(boot.auroc(arm.format(task), task)) for arm in arms.values())] for task in tasks]
    means = [np.mean([boot.auroc(arm.format(task), task) for task in tasks], axis=0) for arm in arms.values()]
    return pd.DataFrame([*rows, ["mean", *map(shown, means)]], columns=["task", *arms])


def _singles(study: Study, boot: Bootstrap) -> str:
    tasks = [task.name for task in study.tasks]
    rows, compared = [], []
    for modality in study.modalities:
        seen = [task for task in tasks if task not in modality.exclude_for]
        alone = cell(boot, seen, modality.name, together=False)
        ours = boot.mean("multi:all", seen)
        compared.append((alone, ours))
        gain = shown(100 * (ours / alone - 1), 1)
        rows.append((modality.name, len(seen), shown(alone), gain))
    alone, ours = (np.mean([pair[k] for pair in compared], axis=0) for k in (0, 1))
    rows.append(("mean of all", "", shown(alone), shown(100 * (ours / alone - 1), 1)))
    columns = ["modality", "tasks it may see", "one task a model", "gain of all in per cent"]
    how = (
        "`gain of all`: all modalities and tasks in one model, against this modality alone with one task a model, on "
        "the tasks that it may see."
    )
    return f"{how}\n\n{markdown(pd.DataFrame(rows, columns=columns))}"


def draw(study: Study, boot: Bootstrap, folder: Path) -> None:
    """Draws the four cells by task, light and dark."""
    tasks = [task.name for task in study.tasks]
    arms = {
        "H&E image, one task": "single:he:{}",
        "H&E image, all tasks": "single:he:all",
        "all modalities, one task": "multi:{}",
        "all modalities, all tasks": "multi:all",
    }
    rows = []
    for label, arm in arms.items():
        scores = {task: boot.auroc(arm.format(task), task) for task in tasks}
        scores["mean"] = np.mean(list(scores.values()), axis=0)
        rows += [(task, label, *interval(values)) for task, values in scores.items()]
    points = pd.DataFrame(rows, columns=["row", "mark", "value", "low", "high"])
    panel = Panel("", "AUROC", points, reference=0.5)
    caption = (
        f"HANCOCK, n = {boot.weights.shape[1]} patients, five folds; lines: 95% intervals (bootstrap over patients)."
    )
    Picture(
        "two-by-two",
        "Pathology metadata: modalities and tasks",
        f"{caption} Vertical line: chance.",
        caption,
        lambda theme: draw_panels(theme, [panel], [*tasks, "mean"], list(arms), row_height=0.24),
        points,
    ).save_png(folder, is_titled=True)
