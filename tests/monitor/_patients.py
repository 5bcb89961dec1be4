"""Patients of one distribution, as many as wanted, and a model of some of them."""

import numpy as np
import pandas as pd

from multimodn import Cohort
from tests._cohorts import make_study

SITES, SHARES = list("abcdefgh"), [0.4, 0.2, 0.2, 0.1, 0.05, 0.03, 0.01, 0.01]
LOADINGS = np.random.default_rng(99).normal(size=(5, 80))
"""Of the 80 columns of the image on five factors."""


def make_frames(n, rng, prefix="p"):
    """Labs with numbers, categories and empty cells; a wide image that a third lacks; three tasks."""
    ids = [f"{prefix}{i}" for i in range(n)]
    risk = rng.normal(size=n)
    labs = pd.DataFrame(rng.normal(size=(n, 3)) + risk[:, None], ids, ["crp", "hb", "sodium"])
    labs["crp"] = np.exp(labs["crp"])
    labs["grade"] = rng.choice([1.0, 2.0, 3.0, 4.0], n, p=[0.5, 0.3, 0.15, 0.05])
    labs["site"] = rng.choice(SITES, n, p=SHARES)
    labs.loc[rng.random(n) < 0.1, "hb"] = np.nan
    image = rng.normal(size=(n, 5)) @ LOADINGS + rng.normal(size=(n, 80))
    image = pd.DataFrame(image, ids, [f"f{k}" for k in range(80)])[rng.random(n) < 0.7]
    died = np.where(rng.random(n) < 1 / (1 + np.exp(-risk)), "dead", "alive")
    targets = {
        "death": pd.DataFrame({"status": died}, ids),
        "size": pd.DataFrame({"size": risk + rng.normal(size=n)}, ids),
        "survival": pd.DataFrame({"months": rng.exponential(10, n) + 1, "event": rng.integers(0, 2, n)}, ids),
    }
    return {"labs": labs, "image": image}, targets


def make_patients(n, rng, prefix="p", change=lambda tables: tables):
    tables, targets = make_frames(n, rng, prefix)
    return Cohort.from_frames(change(tables), targets)


def study(**changes):
    return make_study(**({"training": {"epochs": 4, "members": 2}} | changes))
