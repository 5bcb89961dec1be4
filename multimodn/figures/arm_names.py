"""Names of models as figures and sentences write them."""

from __future__ import annotations

LATE, BEST, TREES = "late_ridge", "best_single", ("lightgbm", "xgboost")


ARM_WORDS = {
    "ours": "this model",
    LATE: "late ridge fusion",
    "late_ridge_mean": "late ridge fusion, neutral to presence",
    BEST: "the best single modality",
    "early_concat": "one ridge model of all columns",
    "xgboost": "boosted trees (XGBoost)",
    "lightgbm": "boosted trees (LightGBM)",
    "tabm": "TabM",
    "p_fusion": "parallel fusion",
}


def arm_words(arm: str) -> str:
    """Writes an arm as people do."""
    return ARM_WORDS.get(arm, arm)
