"""Small studies on disk that the tests of this folder share."""

from pathlib import Path
from typing import Any

from multimodn.study.study import Study

CLINICAL = "id,site,age,status\n001,a,50,dead\n002,a,60,alive\n010,b,,alive\n011,b,,dead\n"
LABS = "id,crp,sodium\n002,1.5,140\n001,2.5,139\n011,,\n"


def study_dict(**changes: Any) -> dict[str, Any]:
    data = {
        "name": "small",
        "cohort": {"patient": "id", "sources": {"clinical": "clinical.csv", "labs": "labs.csv"}},
        "modalities": [
            {"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]},
            {"name": "labs", "kind": "table", "source": "labs"},
        ],
        "tasks": [{"name": "death", "kind": "binary", "source": "clinical", "target": "status", "positive": "dead"}],
    }
    return data | changes


def write_study(folder: Path, clinical: str = CLINICAL, labs: str = LABS, **changes: Any) -> Study:
    (folder / "clinical.csv").write_text(clinical)
    (folder / "labs.csv").write_text(labs)
    return Study.from_dict(study_dict(**changes), folder)
