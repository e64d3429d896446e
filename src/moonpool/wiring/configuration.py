"""The configuration document, without the weight of the adapters that it may choose: the command line and
the supervisor need no database driver to read it."""

import os
from pathlib import Path

import msgspec

from moonpool.adapters.config.beginning import begin
from moonpool.adapters.config.kept import read_kept
from moonpool.adapters.config.load import load
from moonpool.adapters.config.yaml_file import read_yaml
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.releases import Overrides
from moonpool.core.errors import StartupError


def load_config(path: str) -> PlatformConfig:
    """The file at `path` ("": none) with the environment over it. Raises StartupError with file and line."""
    return load(Path(path) if path else None, os.environ)


def starting_config(path: str, run: Path) -> PlatformConfig:
    """What a start with that file would run with: what was changed since the file was given last is in force
    (`run` is the folder in which processes keep what they knew). Raises StartupError."""
    return begin(Path(path) if path else None, os.environ, read_kept(run)).config


def read_file(path: str) -> dict[str, object]:
    """The settings in a YAML (or JSON) file, unchecked. Raises StartupError with file and line."""
    found = read_yaml(Path(path)).data
    if not isinstance(found, dict):
        raise StartupError("the document must be settings, not a list or a value", where=path)
    return found


def overridden(config: PlatformConfig, overrides: Overrides) -> PlatformConfig:
    """The platform's configuration as a process of a release sees it, whenever it is given one."""
    return msgspec.structs.replace(
        config,
        models={**config.models, **overrides.models},
        limits={**config.limits, **overrides.limits},
        engine=config.engine if overrides.engine is None else overrides.engine,
    )
