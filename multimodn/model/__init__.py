"""A trained model: predictions, explanations, bundles, the scikit-learn interface."""
