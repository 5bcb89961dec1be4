"""What a prediction is made of."""
