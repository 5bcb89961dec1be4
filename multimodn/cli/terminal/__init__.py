"""Results as tables and bars in the terminal."""
