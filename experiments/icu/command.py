"""The command line that the studies of intensive care and of heart disease share."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser_of(description: str | None, data: Path, what: str) -> argparse.ArgumentParser:
    """Returns the parser of a study's command; ``data`` is where its data, ``what``, are by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data, help=what)
    parser.add_argument("--arms", nargs="+", default=["ours", "baselines"], help="Arms, or groups of them.")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1, help="Processes; -1: one a core.")
    return parser
