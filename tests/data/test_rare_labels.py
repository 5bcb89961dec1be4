import numpy as np
import pandas as pd
import pytest

from multimodn.data.cohort import Cohort
from multimodn.data.rare_labels import check_rare_labels
from multimodn.data.splits import Split, make_split
from multimodn.errors import DataError
from multimodn.model.multimodn import MultiModN
from multimodn.study.study import Study
from tests.data._studies import study_dict

IDS = np.array([f"P{i:02d}" for i in range(60)], dtype=object)


def study(folder, n_positive, members=1, **split):
    died = np.where(np.arange(60) < n_positive, "yes", "no")
    pd.DataFrame({"id": IDS, "died": died, "age": range(60)}).to_csv(folder / "clinical.csv", index=False)
    changes = {
        "cohort": {"patient": "id", "sources": {"clinical": "clinical.csv"}},
        "modalities": [{"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]}],
        "tasks": [{"name": "death", "kind": "binary", "source": "clinical", "target": "died"}],
        "split": {"stratify": "death", "seed": 0} | split,
        "training": {"members": members},
    }
    return Study.from_dict(study_dict(**changes), folder)


def test_a_label_that_no_training_patient_has_is_an_error_with_its_counts(tmp_path):
    one = study(tmp_path, 2)
    with pytest.raises(DataError, match=r"2 of 60 labelled patients have 'yes': train 0 of 36, .*`validation: 0`"):
        MultiModN(one).fit()


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")  # one class occurs once
@pytest.mark.parametrize("n_positive", [1, 2, 58, 59])
def test_either_label_may_be_the_rare_one(tmp_path, n_positive):
    cohort = Cohort.from_frames(
        {"history": pd.DataFrame({"age": range(60)}, IDS)},
        {"death": pd.DataFrame({"died": (np.arange(60) < n_positive).astype(float)}, IDS)},
    )
    rare = cohort.patients[:2] if n_positive < 30 else cohort.patients[-2:]
    others = cohort.patients.difference(rare)
    split = Split(others[:40], others[40:], rare)
    with pytest.raises(DataError, match=r"train 0 of 40, validation 0 of 18, test [12] of 2"):
        check_rare_labels(cohort, split, pd.Index(split.train))
    check_rare_labels(cohort, Split(cohort.patients, [], []), cohort.patients)


def test_validation_patients_count_where_members_learn_from_them(tmp_path):
    one = study(tmp_path, 2)
    cohort = Cohort.load(one)
    split = make_split(one, cohort)
    check_rare_labels(cohort, split, pd.Index([*split.train, *split.validation]))
