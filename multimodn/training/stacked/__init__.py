"""Members of an ensemble trained side by side: one step, one matrix product, for all of them."""
