"""The configuration document, without the weight of the adapters that it may choose: the command line and
the supervisor need no database driver to read it."""

import os
from pathlib import Path

from moonpool.adapters.config.load import load
from moonpool.contracts.config import PlatformConfig


def load_config(path: str) -> PlatformConfig:
    """The file at `path` ("": none) with the environment over it. Raises StartupError with file and line."""
    return load(Path(path) if path else None, os.environ)
