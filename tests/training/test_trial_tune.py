"""What a search says where it cannot start, and of how many trials it tells."""

import sys

import pytest

from multimodn.errors import MissingExtraError, StudyError
from multimodn.tune.search import tune
from tests._cohorts import make_cohort, make_study


def test_a_search_without_optuna_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"needs the extra 'tune': pip install \"multimodn\[tune\]\""):
        tune(make_study(), make_cohort(), tmp_path / "tune", n_trials=1)
    assert not (tmp_path / "tune").exists()


def test_one_fold_is_no_cross_validation(tmp_path):
    with pytest.raises(StudyError, match="at least two folds, found 1"):
        tune(make_study(), make_cohort(), tmp_path / "tune", n_trials=1, n_folds=1)
