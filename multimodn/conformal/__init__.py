"""Conformal prediction sets by presence pattern."""
