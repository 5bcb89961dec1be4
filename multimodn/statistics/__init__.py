"""Statistical methods: the bootstrap, sign flips, DeLong's test, adjustment for multiple testing."""
