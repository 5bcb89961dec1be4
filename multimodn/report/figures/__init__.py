"""Figures of every answer: functions from frames to pictures."""
