"""A cohort whose counts are known, models of it, and what a reader of Markdown finds in their cards."""

import warnings

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt

from multimodn import Cohort, DataWarning, MultiModN, Study
from multimodn.card import write_card

N = 120
READER = MarkdownIt("commonmark").enable("table")


def frames(n=N, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"zq-{i:03d}-secret" for i in range(n)]
    labs = pd.DataFrame({"crp": rng.normal(size=n), "age": rng.integers(30, 90, n).astype(float)}, ids)
    labs["sex"] = rng.choice(["f", "m"], n)
    labs["town"] = ["Smallville", "Tinytown", *["Bigcity"] * (n - 2)]
    labs.loc[ids[5:17], "crp"] = np.nan
    image = pd.DataFrame(rng.normal(size=(n, 4)), ids, ["f0", "f1", "f2", "f3"]).iloc[: n - 30]
    death = pd.Series(np.where(labs["age"] + 20 * rng.normal(size=n) > 60, "dead", "alive"), ids)
    targets = {
        "death": death.where(np.arange(n) % 6 > 0).to_frame("status"),
        "stage": pd.Series(rng.choice(["i", "ii", "iii"], n, p=[0.5, 0.4, 0.1]), ids).to_frame("stage"),
        "size": pd.Series(rng.normal(10, 2, n), ids).to_frame("size"),
        "survival": pd.DataFrame({"months": rng.exponential(10, n) + 1, "event": rng.integers(0, 2, n)}, ids),
    }
    return {"labs": labs, "image": image}, targets


def study(**changes):
    tasks = [
        {"name": "death", "kind": "binary", "source": "out", "target": "status", "positive": "dead"},
        {"name": "stage", "kind": "ordinal", "source": "out", "target": "stage", "classes": ["i", "ii", "iii"]},
        {"name": "size", "kind": "regression", "source": "out", "target": "size"},
        {"name": "survival", "kind": "survival", "source": "out", "time": "months", "event": "event"},
    ]
    data = {
        "name": "known",
        "cohort": {"patient": "id", "sources": {"labs": "labs.csv", "image": "image.csv", "out": "out.csv"}},
        "modalities": [
            {"name": "labs", "kind": "table", "source": "labs", "hidden_size": 8, "embedding_size": 8},
            {"name": "image", "kind": "embedding", "source": "image", "hidden_size": 8, "embedding_size": 8},
        ],
        "tasks": tasks,
        "split": {"validation": 0.2, "test": 0.4, "stratify": "death", "seed": 0},
        "missingness": "off",
        "training": {"epochs": 2, "batch_size": 32, "state_size": 8},
        "subgroups": ["labs.sex", "labs.age", "labs.town"],
    }
    return Study.from_dict(data | changes)


def fit(cohort, /, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return MultiModN(study(**changes)).fit(cohort)


def cohort_of(tables, targets, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return Cohort.from_frames(tables, targets, **options)


def written(model, cohort, folder, **options):
    card, checklist = write_card(model, cohort, folder, n_resamples=20, **options)
    return card.read_text(), checklist.read_text()


def tables(text):
    """Every table of a text: its header and its rows, as plain text."""
    found, row = [], []
    for token in READER.parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
        elif token.type == "inline" and found and token.level > 3:
            row.append("".join(each.content for each in token.children))
        elif token.type == "tr_close":
            found[-1].append(row)
    return found


def section(text, number):
    """The text between a heading and the next of its level."""
    return text.split(f"\n## {number}. ", 1)[1].split("\n## ", 1)[0]
