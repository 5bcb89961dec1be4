"""Cross-validation: plain, nested, by site and by time; paired comparisons."""

from multimodn import moved

__getattr__ = moved.forward(__name__)
