"""The upgrade manager as an application, from its parts."""

from dataclasses import dataclass

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.ports.spawner import Fleet
from moonpool.upgrade.manager import Manager
from moonpool.upgrade.routes import handlers
from moonpool.upgrade.store import Store
from moonpool.upgrade.surroundings import Documents


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the manager is given beside the parts that every service has."""

    fleet: Fleet
    documents: Documents


def create(parts: Parts, setup: Setup) -> ASGIApp:
    store = Store(parts.database, parts.clock)
    manager = Manager(
        store=store,
        fleet=setup.fleet,
        documents=setup.documents,
        events=parts.events,
        clock=parts.clock,
        log=parts.log,
    )
    return create_app(
        parts,
        handlers(manager, store, parts.shutdown, parts.clock),
        lifespan=[
            background("upgrades", manager.run, parts.log),
            background("release reports", manager.listen, parts.log),
        ],
    )
