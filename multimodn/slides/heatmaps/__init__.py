"""Heat maps of attention and of contributions over a slide."""
