"""Tissue, tiles and stain."""
