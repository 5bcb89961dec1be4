"""Performance of a trained model: metrics by step, presence pattern and subgroup, calibration, decision curves."""
