"""The configuration document, without the weight of the adapters that it may choose: the command line and
the supervisor need no database driver to read it."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from moonpool.adapters.config.beginning import begin
from moonpool.adapters.config.kept import read_kept
from moonpool.adapters.config.load import load
from moonpool.adapters.config.yaml_file import read_yaml
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.wire import CONFIG
from moonpool.contracts.releases import Overrides
from moonpool.contracts.route_policy import faults
from moonpool.core.errors import StartupError
from moonpool.ports.config import Others, Problem
from moonpool.wiring.registry import load_manifests


def _unfit(config: PlatformConfig, before: PlatformConfig | None) -> Iterator[Problem]:
    """What it says of routes that are not there, or cannot be so. What stood there `before` stays: a document
    may have been written beside another version of this package, and is then no reason to refuse another
    change."""
    if not config.routes:
        return
    known = before.routes if before is not None else {}
    for problem in faults(config.routes, load_manifests(), CONFIG):
        name = str(problem.path[1])
        if known.get(name) != config.routes[name]:
            yield problem


def _check(name: str, config: PlatformConfig) -> Iterator[Problem]:
    yield from PLATFORM.check(name, config)
    yield from _unfit(config, None)


def _check_change(
    _name: str, new: PlatformConfig, old: PlatformConfig | None, _others: Others
) -> Iterator[Problem]:
    yield from _unfit(new, old)


GIVEN = replace(PLATFORM, check=_check)
"""As a file has to be. Only here are the services' manifests known."""
KEPT = replace(PLATFORM, change=_check_change)
"""As the config server takes it. Whoever follows it leaves out what he has no route for."""


def load_config(path: str) -> PlatformConfig:
    """The file at `path` ("": none) with the environment over it. Raises StartupError with file and line."""
    return load(Path(path) if path else None, os.environ, GIVEN)


def starting_config(path: str, run: Path) -> PlatformConfig:
    """What a start with that file would run with: what was changed since the file was given last is in force
    (`run` is the folder in which processes keep what they knew). Raises StartupError."""
    return begin(Path(path) if path else None, os.environ, read_kept(run), GIVEN).config


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
