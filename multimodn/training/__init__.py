"""Training: the LightningModule and the members of an ensemble."""
