"""Stress test: predictions when modalities are missing for another reason than in training."""
