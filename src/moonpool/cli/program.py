"""The program as it was called: what is printed to be copied has to run where it is read.

The `moonpool` of a checkout is `.venv/bin/moonpool`, and that is not on PATH.
"""

import os
import shlex
import shutil
import sys

NAME = "moonpool"


def program() -> str:
    """As a shell takes it; the plain name when that is on PATH, or was not what was called (`python -m`)."""
    called = sys.argv[0]
    if os.path.basename(called) != NAME:
        return NAME
    found = shutil.which(NAME)
    try:
        if found is not None and os.path.samefile(found, called):
            return NAME
    except OSError:  # one of them is gone
        return NAME
    return shlex.quote(called)


def runnable(text: str) -> str:
    """`text` with the commands in it (they stand in backquotes) as they can be run here."""
    return text.replace(f"`{NAME} ", f"`{program()} ")
