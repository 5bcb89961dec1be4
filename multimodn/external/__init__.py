"""External validation: a trained model on the patients of another hospital."""
