"""The page and the picture of the study, drawn from what the cells predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scoring import Bootstrap, Floats, interval, shown

from multimodn import Study
from multimodn.evaluate.results import markdown
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
    import matplotlib
    from matplotlib.figure import Figure

    from multimodn.figures.theme import DARK, LIGHT

    tasks = [task.name for task in study.tasks]
    arms = {
        "H&E image, one task": ("single:he:{}", "o", 0),
        "H&E image, all tasks": ("single:he:all", "s", 0),
        "all modalities, one task": ("multi:{}", "o", 1),
        "all modalities, all tasks": ("multi:all", "s", 1),
    }
    for name, theme in (("two-by-two.png", LIGHT), ("two-by-two-dark.png", DARK)):
        style = {"text.color": theme.ink, "font.size": 10, "font.family": "DejaVu Sans"}
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(9, 4.9), facecolor=theme.paper)
            axes = figure.add_axes((0.17, 0.17, 0.8, 0.62), facecolor=theme.paper)
            for k, (label, (arm, marker, high)) in enumerate(arms.items()):
                colour = theme.high if high else theme.low
                found = [interval(boot.auroc(arm.format(task), task)) for task in tasks]
                found.append(interval(np.mean([boot.auroc(arm.format(task), task) for task in tasks], axis=0)))
                y = np.arange(len(found)) + (k - 1.5) * 0.17
                for place, (value, low, up) in zip(y, found, strict=True):
                    axes.plot([low, up], [place, place], color=colour, linewidth=1.4)
                    filled = colour if marker == "s" else theme.paper
                    axes.plot(value, place, marker, color=colour, markerfacecolor=filled, markersize=6)
                axes.plot([], [], marker, color=colour, label=label, markerfacecolor=filled)
            axes.axvline(0.5, color=theme.faint, linewidth=0.8, linestyle=":")
            axes.set_yticks(range(len(tasks) + 1), [*tasks, "mean"])
            axes.axhline(len(tasks) - 0.5, color=theme.grid, linewidth=0.8)
            axes.invert_yaxis()
            axes.tick_params(colors=theme.ink, length=0)
            axes.set_xlabel("AUROC", color=theme.ink)
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.grid(axis="x", color=theme.grid, linewidth=0.6)
            figure.text(0.02, 0.955, "Pathology metadata: modalities and tasks", size=14, weight="bold", va="top")
            figure.legend(
                *axes.get_legend_handles_labels(),
                loc="upper left",
                bbox_to_anchor=(0.01, 0.9),
                ncols=4,
                frameon=False,
                labelcolor=theme.ink,
                fontsize=9,
                columnspacing=1.2,
                handletextpad=0.3,
            )
            caption = (
                f"HANCOCK, n = {boot.weights.shape[1]} patients, five folds; lines: 95 % interval over resamples "
                "of patients. Dotted: chance."
            )
            figure.text(0.02, 0.02, caption, size=8, color=theme.faint)
            figure.savefig(folder / name, dpi=130)
