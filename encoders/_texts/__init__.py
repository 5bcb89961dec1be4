"""Parts of the text encoder."""
