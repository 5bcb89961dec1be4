"""Measuring predictions: cross-validation, baselines, tables of results."""
