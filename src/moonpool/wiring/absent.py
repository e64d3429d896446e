"""Libraries load others when these are installed, to show errors in colours: nobody looks at the terminal of
our processes, and they would keep 7 MB for it."""

import contextlib
import sys
from collections.abc import Iterator

COLOURS = ("pygments", "rich")
"""Loaded by Mako (for Alembic) and structlog; installed for the command line."""


@contextlib.contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """While this lasts, those of `names` that are not loaded yet are as if they were not installed."""
    absent = [name for name in names if name not in sys.modules]
    # None is the import system's own sign for it.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
