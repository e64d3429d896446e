"""The process of the config server. It follows nobody: it starts from the file, its database and its own
snapshot."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from moonpool.adapters.config.beginning import begin
from moonpool.adapters.config.kept import KeptFile
from moonpool.adapters.config.yaml_file import read_yaml
from moonpool.asgi.parts import Parts
from moonpool.asgi.shutdown import Shutdown
from moonpool.configserver.app import Setup, create
from moonpool.configserver.manifest import MANIFEST
from moonpool.configserver.takeover import GivenFile
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.wire import Kept, Snapshot, digest
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import StartupError
from moonpool.wiring import logging as logs
from moonpool.wiring.adapters import open_cache, open_config_database, open_events, open_objects
from moonpool.wiring.documents import kept_folder, load_kinds
from moonpool.wiring.modules import serve_application
from moonpool.wiring.registry import WATCHING
from moonpool.wiring.settings import ModuleSettings


async def run_config(
    name: str,
    settings: ModuleSettings,
    sockets: list[socket.socket],
    stop: Shutdown,
    ready: Callable[[], None],
) -> None:
    """Serve the platform's documents until `stop`. Raises StartupError when the first of all is broken."""
    own = KeptFile(kept_folder(settings), name)
    kept = own.read()
    given = given_file(settings.config)
    snapshots = [kept.snapshot] if kept is not None else []
    config = begin(Path(settings.config) if given else None, os.environ, snapshots).config
    logs.set_level(config.telemetry.log_level)
    parts = _parts(settings, config, stop)
    setup = Setup(
        kinds=load_kinds(),
        environ=dict(os.environ),
        watching_key=settings.secrets.own[WATCHING],
        given=given,
        kept=kept.snapshot if kept is not None else None,
        keep=lambda snapshot: own.write(_kept(settings.instance, snapshot)),
    )
    await serve_application(create(parts, setup), settings, sockets, stop, ready)


def given_file(path: str) -> GivenFile | None:
    """The file that was given to `up`, as it is now; a broken one with its fault."""
    if not path:
        return None
    try:
        raw = Path(path).read_bytes()
        content = read_yaml(Path(path)).data
    except OSError as error:
        return GivenFile(path=path, digest="", fault=f"it cannot be read: {error.strerror}")
    except StartupError as error:
        return GivenFile(path=path, digest=digest(raw), fault=str(error))
    if not isinstance(content, dict):
        return GivenFile(path=path, digest=digest(raw), fault="the document must be settings")
    return GivenFile(path=path, digest=digest(raw), content=content)


def _kept(instance: str, snapshot: Snapshot) -> Kept:
    document = snapshot.find(PLATFORM.name)
    version = document.version if document else 0
    return Kept(instance=instance, live=True, version=version, origin="server", snapshot=snapshot)


def _parts(settings: ModuleSettings, config: PlatformConfig, stop: Shutdown) -> Parts:
    """Events, cache and objects are never started: documents need none of them."""
    data = Path(settings.data)
    return Parts(
        manifest=MANIFEST,
        release=settings.release,
        instance=settings.instance,
        slot=settings.slot,
        config=config,
        data=data,
        database=open_config_database(config, data),
        events=open_events(config, data),
        cache=open_cache(config),
        objects=open_objects(config, data),
        clients=Clients(),
        clock=SYSTEM_CLOCK,
        metrics=CollectorRegistry(),
        log=structlog.get_logger().bind(module=settings.name, instance=settings.instance),
        context_key=settings.secrets.context,
        secrets=dict(settings.secrets.own),
        shutdown=stop,
    )
