"""Parts of the encoder of codes."""
