"""Cross-validation: plain, nested, by site and by time; paired comparisons."""
