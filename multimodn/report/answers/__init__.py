"""What a report asks a trained model, collected before anything is drawn."""
