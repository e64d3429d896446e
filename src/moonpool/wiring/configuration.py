"""The configuration document, without the weight of the adapters that it may choose: the command line and
the supervisor need no database driver to read it."""

import os
from pathlib import Path

import msgspec

from moonpool.adapters.config.load import load
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.releases import Overrides


def load_config(path: str) -> PlatformConfig:
    """The file at `path` ("": none) with the environment over it. Raises StartupError with file and line."""
    return load(Path(path) if path else None, os.environ)


def overridden(config: PlatformConfig, overrides: Overrides) -> PlatformConfig:
    """The platform's configuration as a process of a release sees it, whenever it is given one."""
    return msgspec.structs.replace(
        config,
        models={**config.models, **overrides.models},
        limits={**config.limits, **overrides.limits},
        engine=config.engine if overrides.engine is None else overrides.engine,
    )
