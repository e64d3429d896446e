"""URL → adapter. Embedded or distributed is decided here, by scheme, and nowhere else."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.adapters.database.sqlite import SqliteDatabase, Synchronous
from moonpool.adapters.dead_letters.store import DatabaseDeadLetters
from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.adapters.objects.local import LocalObjects
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.contracts.config import PlatformConfig
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import StartupError
from moonpool.http.client import Client
from moonpool.ports.cache import Cache
from moonpool.ports.database import Database
from moonpool.ports.events import EventLog
from moonpool.ports.limits import Limits
from moonpool.ports.objects import Objects
from moonpool.wiring.layout import Layout

T = TypeVar("T")
DURABLE = frozenset({"auth", "billing"})
"""Services whose commits survive a power cut (an fsync each). The event log's next append makes billing's
offset durable: what billing took before that does not come again. A key that was revoked must stay so."""
LETTERS_MIGRATIONS = Path(__file__).parent.parent / "adapters/dead_letters/migrations"
SERVICES_FOLDER = Path(__file__).parent.parent / "services"
CONFIG_MIGRATIONS = Path(__file__).parent.parent / "configserver" / "migrations"
UPGRADE_MIGRATIONS = Path(__file__).parent.parent / "upgrade" / "migrations"


def open_database(config: PlatformConfig, data: Path, service: str) -> Database:
    settings = config.services.get(service)
    url = settings.database if settings is not None else ""
    migrations = SERVICES_FOLDER / service / "migrations"
    synchronous: Synchronous = "FULL" if service in DURABLE else "NORMAL"
    schemes: dict[str, Callable[[str], Database]] = {
        "sqlite": lambda url: SqliteDatabase(_path(url), migrations, synchronous=synchronous),
    }
    return _open(url or f"sqlite://{data}/db/{service}.db", schemes, f"services.{service}.database")


def open_dead_letters(data: Path, key: bytes) -> DatabaseDeadLetters:
    """Beside the journal: what both hold must not be lost. `key` seals what clients have sent."""
    database = SqliteDatabase(data / "spool" / "letters.db", LETTERS_MIGRATIONS, synchronous="FULL")
    return DatabaseDeadLetters(database, [key])


def open_config_database(config: PlatformConfig, data: Path) -> Database:
    """A change that was answered survives a power cut."""
    schemes: dict[str, Callable[[str], Database]] = {
        "sqlite": lambda url: SqliteDatabase(_path(url), CONFIG_MIGRATIONS, synchronous="FULL"),
    }
    return _open(
        config.infrastructure.config or f"sqlite://{data}/db/config.db", schemes, "infrastructure.config"
    )


def open_upgrade_database(data: Path) -> Database:
    """A step of an upgrade that was kept before it was done survives a power cut."""
    return SqliteDatabase(data / "db" / "upgrade.db", UPGRADE_MIGRATIONS, synchronous="FULL")


def open_events(config: PlatformConfig, data: Path) -> EventLog:
    schemes: dict[str, Callable[[str], EventLog]] = {"sqlite": lambda url: SqliteEventLog(_path(url))}
    return _open(
        config.infrastructure.events or f"sqlite://{data}/db/events.db", schemes, "infrastructure.events"
    )


def open_cache(config: PlatformConfig, *, at_once: bool = False) -> Cache:
    """A shared one is connected `at_once`, or when it is needed first."""

    def redis(url: str) -> Cache:
        from moonpool.adapters.cache.redis import RedisCache  # loaded where it is used, as its driver is
        from moonpool.adapters.redis.address import parse_address

        return RedisCache(parse_address(url), at_once=at_once)

    schemes: dict[str, Callable[[str], Cache]] = {
        "memory": lambda url: MemoryCache(clock=SYSTEM_CLOCK),
        "redis": redis,
        "rediss": redis,
    }
    return _open(config.infrastructure.cache or "memory://", schemes, "infrastructure.cache")


def open_limits(config: PlatformConfig) -> Limits:
    """The store of limits is the cache's: what is shared between gateways is shared for both."""

    def redis(url: str) -> Limits:
        from moonpool.adapters.limits.redis import RedisLimits
        from moonpool.adapters.redis.address import parse_address

        return RedisLimits(parse_address(url), gateways=config.gateway.workers)

    schemes: dict[str, Callable[[str], Limits]] = {
        "memory": lambda url: MemoryLimits(SYSTEM_CLOCK),
        "redis": redis,
        "rediss": redis,
    }
    return _open(config.infrastructure.cache or "memory://", schemes, "infrastructure.cache")


def open_fleet(data: Path, client: Client) -> ControlFleet:
    """What runs on this machine, asked of its supervisor. An orchestrator's will be another adapter."""
    return ControlFleet(Layout(data).control, client)


def open_objects(config: PlatformConfig, data: Path) -> Objects:
    schemes: dict[str, Callable[[str], Objects]] = {"file": lambda url: LocalObjects(_path(url))}
    return _open(config.infrastructure.objects or f"file://{data}/objects", schemes, "infrastructure.objects")


def _open(url: str, schemes: Mapping[str, Callable[[str], T]], where: str) -> T:
    scheme = url.partition(":")[0]
    make = schemes.get(scheme)
    if make is None:
        known = ", ".join(f"{name}:" for name in schemes)
        raise StartupError(f"no adapter for {scheme!r}: known are {known}", where=where)
    return make(url)


def _path(url: str) -> Path:
    return Path(urlsplit(url).path)
