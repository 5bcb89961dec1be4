"""Parts of the slide encoder."""
