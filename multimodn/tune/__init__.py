"""Search for the settings of a study, on inner folds of its training and validation patients only."""
