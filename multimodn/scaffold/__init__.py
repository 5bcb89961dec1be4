"""`multimodn init`: writes a study file from tables and folders."""
