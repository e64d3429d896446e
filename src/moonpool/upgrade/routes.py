"""The upgrade manager over HTTP: thin handlers around Manager."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.asgi.shutdown import Shutdown
from moonpool.contracts.upgrades import (
    EventPage,
    ExperimentView,
    Order,
    Rehearsal,
    ReleasePage,
    StartUpgrade,
    UpgradePage,
    UpgradeView,
)
from moonpool.core.clock import Clock
from moonpool.core.errors import PermissionDenied
from moonpool.core.principal import RANK, Role
from moonpool.upgrade.manager import Manager
from moonpool.upgrade.releasing import release_page
from moonpool.upgrade.state import Command
from moonpool.upgrade.store import Store
from moonpool.upgrade.views import experiment_view

CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]
Name = FromPath[str]
BEAT = 1.0
"""Seconds without a change after which a watch is sent a comment, so that nobody takes it for dead; and by
which it has seen that the process is to end."""
WATCH = 30.0
"""Seconds of a watch, which is then to be asked for again: without an end it would hold the gateway that it
comes through when that is replaced, and with it the upgrade that it may be watching."""
_ALL = "/admin/upgrades"
_ONE = _ALL + "/{name:str}"


def handlers(
    manager: Manager, store: Store, shutdown: Shutdown, clock: Clock
) -> list[ControllerRouterHandler]:
    watching = _watching(manager, store, shutdown, clock)
    return [*_reading(manager, store, clock), *watching, *_ordering(manager)]


def _reading(manager: Manager, store: Store, clock: Clock) -> list[ControllerRouterHandler]:
    @get(_ALL, summary="List upgrades")
    async def index(
        caller: CallerOf, service: FromQuery[str] = "", after: FromQuery[str] = "", limit: Limit = 20
    ) -> UpgradePage:
        _who(caller)
        found, more = await store.page(service, after, limit)
        return UpgradePage(data=[await manager.view_of(each) for each in found], has_more=more)

    @get(_ALL + "/history", summary="Who did what, why, and on what evidence")
    async def history(
        caller: CallerOf,
        service: FromQuery[str] = "",
        upgrade: FromQuery[str] = "",
        after: FromQuery[str] = "",
        limit: Limit = 100,
    ) -> EventPage:
        _who(caller)
        found, more = await store.history(service=service, upgrade=upgrade, after=after, limit=limit)
        return EventPage(data=found, has_more=more)

    @get(_ONE, summary="An upgrade")
    async def show(caller: CallerOf, name: Name) -> UpgradeView:
        _who(caller)
        return await manager.view(name)

    @get(_ONE + "/experiment", summary="How its releases compare")
    async def experiment(caller: CallerOf, name: Name) -> ExperimentView:
        _who(caller)
        upgrade = await manager.upgrade(name)
        return experiment_view(upgrade, await manager.view_of(upgrade), clock.time())

    @get("/admin/releases", summary="The releases, and what of them runs")
    async def releases(caller: CallerOf, service: FromQuery[str] = "") -> ReleasePage:
        _who(caller)
        return release_page(*await manager.releases(service), service)

    return [index, history, show, experiment, releases]


def _watching(
    manager: Manager, store: Store, shutdown: Shutdown, clock: Clock
) -> list[ControllerRouterHandler]:
    @get(_ALL + "/watch", summary="Changes as they happen")
    async def watch(caller: CallerOf, name: FromQuery[str] = "") -> Stream:
        """`name` is an upgrade's id or a service: that one, to its end. Without: all that run. It ends after
        half a minute, and begins with how everything is."""
        _who(caller)
        if name:
            await manager.view(name)
        ends = clock.monotonic() + WATCH
        return Stream(
            _events(manager, store, lambda: shutdown.begun or clock.monotonic() > ends, name),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return [watch]


async def _events(
    manager: Manager, store: Store, over: Callable[[], bool], name: str
) -> AsyncIterator[bytes]:
    sent: dict[str, UpgradeView] = {}
    chosen = (await manager.upgrade(name)).id if name else ""
    async with manager.changes() as change:
        while not over():
            change.clear()
            found = [await store.find(chosen)] if chosen else await store.active()
            # One that has just ended is not active any more, and its end is what one waits for.
            found += [await store.find(id) for id in sent if id not in [one.id for one in found]]
            for upgrade in found:
                view = await manager.view_of(upgrade)
                if sent.get(upgrade.id) != view:
                    sent[upgrade.id] = view
                    yield b"data: " + msgspec.json.encode(view) + b"\n\n"
                if upgrade.state.ended and chosen:
                    return
            sent = {one.id: sent[one.id] for one in found if not one.state.ended}
            try:
                async with asyncio.timeout(BEAT):
                    await change.wait()
            except TimeoutError:
                yield b": nothing new\n\n"


def _ordering(manager: Manager) -> list[ControllerRouterHandler]:
    @post(_ALL, summary="Start an upgrade")
    async def start(caller: CallerOf, data: JSONBody[StartUpgrade]) -> Response[UpgradeView | Rehearsal]:
        done = await manager.start(data, _who(caller))
        return Response(done, status_code=200 if data.dry_run else 201)

    @post(_ONE + "/rollback", status_code=200, summary="Abort it, or undo it")
    async def rollback(caller: CallerOf, name: Name, data: JSONBody[Order]) -> UpgradeView:
        return await manager.rollback(name, data.reason, _who(caller))

    return [start, rollback, *(_order(manager, word) for word in Command)]


def _order(manager: Manager, word: Command) -> ControllerRouterHandler:
    @post(f"{_ONE}/{word.value}", status_code=200, summary=word.value.capitalize())
    async def order(caller: CallerOf, name: Name, data: JSONBody[Order]) -> UpgradeView:
        return await manager.say(name, word, data.reason, _who(caller))

    return order


def _who(caller: Caller) -> str:
    """Who asks, for the history. Raises PermissionDenied for others than admins."""
    principal = caller.principal
    if RANK[principal.role] < RANK[Role.ADMIN] or not principal.may("admin"):
        raise PermissionDenied("only admins see and change upgrades")
    return principal.user or principal.service
