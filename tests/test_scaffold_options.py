"""`multimodn init` writes the options that a file and its cells need, and the study loads."""

import gzip
import warnings

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, Study
from multimodn.errors import DataWarning
from multimodn.scaffold.write_study import write_study

NUMBERS = np.random.default_rng(0).normal(4.2, 0.3, 40)
IDS = [f"P{k:02d}" for k in range(40)]


@pytest.fixture
def outcomes(tmp_path):
    pd.DataFrame({"id": IDS, "died": ["yes", "no"] * 20}).to_csv(tmp_path / "out.csv", index=False)
    return tmp_path / "out.csv"


def labs(write, delimiter=","):
    header = delimiter.join(["id", "größe", "crp"])
    rows = [
        delimiter.join([key, str(150 + k), f'"{write(x)}"'])
        for k, (key, x) in enumerate(zip(IDS, NUMBERS, strict=True))
    ]
    return "\n".join([header, *rows, ""])


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("labs.csv", labs(lambda x: f"{x:.1f}".replace(".", ","), ";").encode(), {"delimiter": ";", "decimal": ","}),
        ("labs.csv", labs(lambda x: f"{x:.2f}", "\t").encode(), {"delimiter": "tab"}),
        ("labs.csv", labs(lambda x: f"{x:.2f}").encode("cp1252"), {"encoding": "cp1252"}),
        (
            "labs.csv",
            labs(lambda x: f"{x:.2f}".replace(".", ","), ";").encode("cp1252"),
            {"encoding": "cp1252", "delimiter": ";"},
        ),
        ("labs.csv", labs(lambda x: f"{x:.2f}").encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("labs.txt", labs(lambda x: f"{x:.2f} mmol/L", "\t").encode(), {"units": "strip"}),
        ("labs.csv.gz", gzip.compress(labs(lambda x: f"{5 * x:.1f} %").encode()), {"units": "strip"}),
        ("labs.csv", labs(lambda x: "<4" if x < 4 else f"{x:.2f}").encode(), {"detection_limit": "half"}),
        ("labs.csv", labs(lambda x: f"{1000 * x:,.0f}").encode(), {"thousands": ","}),
        ("labs.csv", labs(lambda x: f"{x:.2f}").encode(), {}),
    ],
)
def test_the_study_that_init_writes_reads_numbers_as_numbers(tmp_path, outcomes, name, content, options):
    (tmp_path / name).write_bytes(content)
    write_study([tmp_path / name, outcomes], "id", ["died"], tmp_path / "study.yaml")
    study = Study.load(tmp_path / "study.yaml")
    spec = study.cohort.sources["labs"]
    assert {option: getattr(spec, option) for option in options} == options
    assert options or spec.model_fields_set == {"path"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # notes on units and limits
        frame = Cohort.load(study, labelled=False).modalities["labs"]
    assert list(frame) == ["größe", "crp"]
    assert pd.api.types.is_numeric_dtype(frame["crp"].dtype)
