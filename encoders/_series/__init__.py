"""Parts of the series encoder."""
