"""The study of docs/ehr.md loads, and its tables name what there is."""

import re
import warnings
from pathlib import Path

from multimodn import Cohort
from multimodn.errors import DataWarning
from multimodn.study.health_records import PARTS
from multimodn.study.study import Study
from tests.data.ehr._hospital import hospital, write_meds, write_omop

DOCS = (Path(__file__).parents[3] / "docs" / "ehr.md").read_text(encoding="utf-8")


def test_the_study_loads(tmp_path):
    patients = hospital(30)
    write_meds(patients, tmp_path / "meds")
    write_omop(patients, tmp_path / "cdm")
    text = re.search(r"```yaml\n(.*?)```", DOCS, re.DOTALL).group(1)
    (tmp_path / "study.yaml").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        cohort = Cohort.load(Study.load(tmp_path / "study.yaml"))
    assert len(cohort) == 30
    assert set(cohort.modalities) == {"person", "labs", "diagnoses", "notes"}
    assert (cohort.modalities["labs"]["time"] <= 0).all()


def test_every_part_is_named():
    parts = {part for each in PARTS.values() for part in each}
    assert set(re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE)) == parts
