"""The missingness audit: what the presence of modalities says about the outcomes."""
