"""Files of tile features."""
