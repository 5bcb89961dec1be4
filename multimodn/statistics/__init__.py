"""Statistical methods: the bootstrap, sign flips, the corrected t, DeLong's test, adjustment for multiple testing."""
