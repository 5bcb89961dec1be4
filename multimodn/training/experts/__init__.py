"""Experts: models of one modality each, fitted beside the network and stacked with it."""
