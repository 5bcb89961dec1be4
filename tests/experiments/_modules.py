"""Scripts of a study, which import each other by bare names, loaded for a test and forgotten after it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@contextmanager
def scripts(*folders: str) -> Iterator[dict[str, object]]:
    """Makes the modules of folders of ``experiments`` importable, the first folder's first; yields them by name."""
    names = {
        file.stem: EXPERIMENTS / folder for folder in folders[::-1] for file in (EXPERIMENTS / folder).glob("*.py")
    }
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    path = list(sys.path)
    sys.path[:0] = [str(EXPERIMENTS / folder) for folder in folders]
    try:
        yield {name: import_module(name) for name in names}
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
