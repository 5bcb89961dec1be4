"""Baseline models, and the comparison of a trained model with them."""
