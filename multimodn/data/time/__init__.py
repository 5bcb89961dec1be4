"""Moments and durations as users write them, and what lies before each patient's moment of prediction."""
