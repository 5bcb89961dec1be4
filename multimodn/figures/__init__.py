"""Figures of every result, in one theme."""
