"""Metrics of discrimination, calibration and survival, each defined once."""
