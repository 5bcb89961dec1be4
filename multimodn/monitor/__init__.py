"""Monitoring: whether patients still look like those that a model was trained on, before anyone trusts a batch."""
