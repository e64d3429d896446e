"""What a service is given when it starts. It opens nothing itself, and knows no address."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.shutdown import Shutdown
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.manifest import Manifest
from moonpool.core.clock import Clock
from moonpool.ports.cache import Cache
from moonpool.ports.config import ConfigSource
from moonpool.ports.database import Database
from moonpool.ports.events import EventLog
from moonpool.ports.objects import Objects
from moonpool.ports.telemetry import SpanExporter

Check = Callable[[], Awaitable[None]]
"""A readiness check: raises (a MoonpoolError says why) while its dependency is not well."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything is started before the application's lifespan begins, and stopped after it ended.

    `slot` is the beginning of this instance's name up to its generation: whoever had the same slot before has
    ended when this instance starts. "" when nothing is known of that.
    `secrets` holds what this service alone may know (auth: "pepper"); `data` is the platform's folder.
    """

    manifest: Manifest
    release: str
    instance: str
    config: PlatformConfig
    data: Path
    database: Database
    events: EventLog
    cache: Cache
    objects: Objects
    clients: Clients
    clock: Clock
    metrics: CollectorRegistry
    log: FilteringBoundLogger
    context_key: bytes
    secrets: dict[str, bytes]
    slot: str = ""
    spans: SpanExporter | None = None
    """None: nobody collects traces."""
    documents: ConfigSource[PlatformConfig] | None = None
    """Tells of changes of `config`, which stays as it was at the start; None: there will be none."""
    shutdown: Shutdown = field(default_factory=Shutdown)
