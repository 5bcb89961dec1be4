"""Clinical prediction from whatever data a patient happens to have.

Modality encoders update a shared patient state one after another, in any order; every task reads the state after
every step; a modality that a patient lacks is skipped for that patient alone.

Example:
    >>> import pandas as pd, multimodn
    >>> labs = pd.DataFrame({"crp": [1.0, 9.0, 2.0, 8.0], "hb": [14.0, 9.0, 13.0, 10.0]}, index=list("abcd"))
    >>> notes = pd.DataFrame({"age": [60, 50, 70]}, index=list("abd"))
    >>> cohort = multimodn.Cohort.from_frames({"labs": labs, "notes": notes})
    >>> cohort.presence.sum().to_dict()
    {'labs': 4, 'notes': 3}
    >>> death = pd.DataFrame({"died": [0, 1, 0, 1] * 6}, index=[f"p{i}" for i in range(24)])
    >>> crp = pd.DataFrame({"crp": [float(i % 7) for i in range(24)]}, index=death.index)
    >>> study = multimodn.Study(
    ...     name="ward",
    ...     cohort={"patient": "id", "sources": {"labs": "labs.csv", "outcomes": "outcomes.csv"}},
    ...     modalities=[{"name": "labs", "kind": "table", "source": "labs"}],
    ...     tasks=[{"name": "death", "kind": "binary", "source": "outcomes", "target": "died"}],
    ...     training={"epochs": 2},
    ... )
    >>> model = multimodn.MultiModN(study).fit(multimodn.Cohort.from_frames({"labs": crp}, {"death": death}))
    >>> model.predict(multimodn.Cohort.from_frames({"labs": crp.head(1)})).columns.tolist()
    ['task', 'output', 'value', 'n_modalities']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from multimodn import moved

if TYPE_CHECKING:
    from multimodn.base.batches import Batch
    from multimodn.data.cohort import Cohort
    from multimodn.errors import DataWarning, MultiModNError
    from multimodn.fusion import SequentialFusion
    from multimodn.model.multimodn import MultiModN
    from multimodn.model.sklearn import MultiModNClassifier
    from multimodn.study.study import Study

moved.install()

_HOME = {
    "Batch": "multimodn.base.batches",
    "Cohort": "multimodn.data.cohort",
    "DataWarning": "multimodn.errors",
    "MultiModN": "multimodn.model.multimodn",
    "MultiModNClassifier": "multimodn.model.sklearn",
    "MultiModNError": "multimodn.errors",
    "SequentialFusion": "multimodn.fusion",
    "Study": "multimodn.study.study",
}

__all__ = [
    "Batch",
    "Cohort",
    "DataWarning",
    "MultiModN",
    "MultiModNClassifier",
    "MultiModNError",
    "SequentialFusion",
    "Study",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `multimodn --help` need not wait for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'multimodn' has no attribute '{name}'")
