"""HANCOCK's pathology form as labels, and everything that is measured apart from it as inputs."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "hancock"))
from prepare import load_tables as hancock_tables  # noqa: E402 - the loader of the folder beside this one

NODES = ("c770", "c778", "r590", "r599")
"""ICD-10 codes of lymph nodes: metastases in them and their enlargement."""


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Reads the sources of ``study.yaml`` from the folder of HANCOCK's structured data and image features.

    The data set's codes are ranks of sorted labels. T and N codes are read as follows, by their order and by what goes
    with them: T 3 and 4 occur in the larynx only and are as deep as T 2 (T1a, T1b beside T1), depth then rises from
    5 to 8; N 0 has no count of nodes, N 1 the count 0, N 2 and 3 about one positive node, 4 to 7 more, 8 and 9 nearly
    always invade beyond the node.
    """
    found = hancock_tables(folder)
    form, icd = found["pathological"], found["icd_codes"]
    labels = pd.DataFrame(index=form.index)
    # 1 = not tested, which is no answer: the task has no label there
    labels["hpv"] = form["hpv_association_p16"].map({0: "negative", 2: "positive"})
    # 3 = the HPV-associated category, which is not a grade
    labels["grade"] = form["grading"].map({0: "G1", 1: "G2", 2: "G3"})
    # code 0 has two patients
    labels["site"] = form["primary_tumor_site"].map({1: "hypopharynx", 2: "larynx", 3: "oral cavity", 4: "oropharynx"})
    labels["perineural"] = form["perineural_invasion_Pn"].map({0: "no", 1: "yes"})
    labels["lymphovascular"] = form["lymphovascular_invasion_L"].map({0: "no", 1: "yes"})
    labels["t_class"] = form["pT_stage"].map({2: "T1", 3: "T1", 4: "T1", 5: "T2", 6: "T3", 7: "T4", 8: "T4"})
    labels["n_class"] = form["pN_stage"].map(
        {1: "N0", 2: "N1", 3: "N1", 4: "N2", 5: "N2", 6: "N2", 7: "N2", 8: "N3", 9: "N3"}
    )
    tables = {name: table for name, table in found.items() if name not in ("pathological", "icd_codes", "targets")}
    tables["icd_nodes"] = icd[list(NODES)]
    tables["icd_site"] = icd.drop(columns=list(NODES))
    tables["form"] = labels
    return tables
