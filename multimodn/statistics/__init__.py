"""Statistical methods: the bootstrap, DeLong's test, adjustment for multiple testing."""
