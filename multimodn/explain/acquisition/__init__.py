"""Which absent modality to measure next."""
