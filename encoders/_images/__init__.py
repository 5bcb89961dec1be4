"""Parts of the image and volume encoders."""
