"""The process of the upgrade manager: its application, with the fleet and the documents that it moves."""

import socket
import time
from collections.abc import Callable

import msgspec
from prometheus_client import CollectorRegistry

from moonpool.adapters.config.server import ServerConfig
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.asgi.parts import Parts
from moonpool.asgi.shutdown import Shutdown
from moonpool.contracts.clients import Clients
from moonpool.contracts.documents.wire import CONFIG
from moonpool.contracts.releases import ReleaseList
from moonpool.contracts.routing import Routing
from moonpool.core.component import Group
from moonpool.core.errors import Unavailable
from moonpool.upgrade.app import Setup, create
from moonpool.upgrade.documents import ROUTING, document_name
from moonpool.upgrade.manifest import MANIFEST
from moonpool.upgrade.surroundings import Followed
from moonpool.wiring.adapters import open_cache, open_fleet, open_objects, open_upgrade_database
from moonpool.wiring.clients import ServiceCaller
from moonpool.wiring.infrastructure import Infrastructure, open_infrastructure
from moonpool.wiring.modules import serve_application
from moonpool.wiring.settings import ModuleSettings


async def run_upgrade(
    name: str,
    settings: ModuleSettings,
    sockets: list[socket.socket],
    stop: Shutdown,
    ready: Callable[[], None],
) -> None:
    """Serve the upgrade manager until `stop`. Raises StartupError."""
    infrastructure = open_infrastructure(settings)
    parts = _parts(settings, infrastructure, stop)
    fleet = open_fleet(infrastructure.data, infrastructure.client)
    documents = PushedDocuments(infrastructure.documents, infrastructure.caller, fleet)
    group = Group([*infrastructure.components, parts.database])
    await group.start()
    try:
        app = create(parts, Setup(fleet=fleet, documents=documents))
        await serve_application(app, settings, sockets, stop, ready)
    finally:
        await group.stop()


class _Outcome(msgspec.Struct):
    version: int


class PushedDocuments:
    """Implements upgrade.surroundings.Documents: read as the config server pushes them, written to it.

    What was just written is not pushed yet: until it is, this process's own last version stands.
    """

    def __init__(self, source: ServerConfig, caller: ServiceCaller, fleet: ControlFleet) -> None:
        self._source = source
        self._caller = caller
        self._fleet = fleet
        self._own: dict[str, Followed] = {}

    async def routing(self, service: str) -> Followed:
        if not self._source.standing.live:
            raise Unavailable("the config server is away: the routing cannot be changed now")
        name = document_name(service)
        stored, own = self._source.stored(name), self._own.get(service)
        version = stored.version if stored is not None else 0
        if own is not None and own.version > version:
            return own
        self._own.pop(service, None)
        if stored is None:
            return Followed()
        return Followed(routing=self._source.find(ROUTING, name), version=version, at=stored.at)

    async def write(self, routing: Routing, *, version: int, why: str) -> None:
        body = {"content": msgspec.to_builtins(routing), "version": version, "reason": why}
        path = f"/internal/documents/{document_name(routing.service)}"
        answer = await self._caller.call(CONFIG, "PUT", path, msgspec.json.encode(body))
        outcome = msgspec.json.decode(answer, type=_Outcome)
        self._own[routing.service] = Followed(routing=routing, version=outcome.version, at=time.time())

    async def releases(self) -> ReleaseList:
        return await self._fleet.releases()


def _parts(settings: ModuleSettings, infrastructure: Infrastructure, stop: Shutdown) -> Parts:
    """Cache and objects are never started: the manager needs none of them."""
    config, data = infrastructure.config, infrastructure.data
    return Parts(
        manifest=MANIFEST,
        release=settings.release,
        instance=settings.instance,
        slot=settings.slot,
        config=config,
        data=data,
        database=open_upgrade_database(data),
        events=infrastructure.events,
        cache=open_cache(config),
        objects=open_objects(config, data),
        clients=Clients(),
        clock=infrastructure.clock,
        metrics=CollectorRegistry(),
        log=infrastructure.log,
        context_key=settings.secrets.context,
        secrets=dict(settings.secrets.own),
        documents=infrastructure.documents,
        shutdown=stop,
    )
