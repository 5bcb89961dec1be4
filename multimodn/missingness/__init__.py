"""Which modalities are missing, why, and how training and prediction stay neutral to it."""
