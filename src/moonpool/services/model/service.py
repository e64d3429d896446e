"""The domain of model: the catalogue, and how admins change it.

Every change is one transaction that begins by raising the catalogue's version, so that changes come one
after the other, and ends with an event in the outbox.
"""

import asyncio
from collections.abc import Mapping

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.outbox import Outbox
from moonpool.contracts.catalogue import CHANGES, Catalogue, Model
from moonpool.contracts.config import ModelConfig
from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, Conflict, NotFound, StartupError
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.model import store
from moonpool.services.model.layers import (
    API,
    CONFIG,
    Effective,
    Entry,
    check_fallbacks,
    merge,
    users_of,
    without_dangling,
)
from moonpool.services.model.resolve import Layer, resolve

_NOBODY = "platform"


class View(msgspec.Struct, frozen=True):
    """The catalogue at one version."""

    version: int
    models: dict[str, Effective]

    def catalogue(self) -> Catalogue:
        found = without_dangling({alias: each.entry.model for alias, each in self.models.items()})
        return Catalogue(self.version, tuple(found.values()))


class ModelService:
    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        clock: Clock,
        log: FilteringBoundLogger,
        loaded: Mapping[str, str],
        allow_private: bool,
        local_context: int | None = None,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._log = log
        self._loaded = loaded
        self._allow_private = allow_private
        self._local_context = local_context
        self._news = asyncio.Event()
        self._closing = False

    async def view(self) -> View:
        async with self._database.snapshot() as connection:
            return await _view(connection)

    async def find(self, alias: str) -> Effective:
        """Raises NotFound as OpenAI does."""
        found = (await self.view()).models.get(alias)
        if found is None:
            raise _unknown(alias)
        return found

    async def newer(self, than: int, wait: float) -> View:
        """The catalogue, as soon as it is not at version `than`; after `wait` seconds as it is."""
        try:
            async with asyncio.timeout(wait):
                while not self._closing:
                    news = self._news
                    view = await self.view()
                    if view.version != than:
                        return view
                    await news.wait()
        except TimeoutError:
            pass
        return await self.view()

    def release_waiting(self) -> None:
        """Nobody waits for news any more: the process ends."""
        self._closing = True
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def allow_private(self, allowed: bool) -> None:
        """Whether targets on private networks may be added from now on."""
        self._allow_private = allowed

    async def import_configured(self, models: Mapping[str, ModelConfig]) -> None:
        """Make the configured layer what the configuration says; a new version only if it was not so.

        Raises StartupError that names the place in the configuration.
        """
        layer = self._layer(added=False)
        wanted: dict[str, Model] = {}
        for alias, config in models.items():
            try:
                wanted[alias] = resolve(alias, config, layer)
            except BadRequest as error:
                raise _misconfigured(alias, error) from None
        async with self._database.transaction() as connection:
            stored = {
                entry.model.id: entry for entry in await store.entries(connection) if entry.source == CONFIG
            }
            unchanged = stored.keys() == wanted.keys() and all(
                msgspec.structs.replace(stored[alias].model, created=0) == model
                for alias, model in wanted.items()
            )
            if not unchanged:
                await self._replace_configured(connection, stored, wanted)
            await self._check_configured(connection, wanted)
        self._outbox.notify()
        self._tell()

    async def put(self, caller: Principal, alias: str, config: ModelConfig) -> tuple[Effective, bool]:
        """Add or replace; the model and whether the alias is new.

        Raises BadRequest with the place that is wrong.
        """
        layer = self._layer(added=True)
        model = resolve(alias, config, layer)
        now = self._clock.time()
        async with self._database.transaction() as connection:
            version = await store.raise_version(connection)
            before = await _view(connection)
            known = before.models.get(alias)
            created = known.entry.created_at if known else now
            entry = Entry(
                model=msgspec.structs.replace(model, created=int(created)),
                source=API,
                created_at=created,
                updated_at=now,
                updated_by=caller.user,
            )
            check_fallbacks(alias, {**_models(before), alias: model})
            await store.put(connection, entry)
            await self._announce(connection, version)
            effective = (await _view(connection)).models[alias]
        self._outbox.notify()
        self._tell()
        self._log.info("model changed", model=alias, version=version, by=caller.user)
        return effective, known is None

    async def remove(self, caller: Principal, alias: str) -> None:
        """Take away what was put by API.

        Raises NotFound; Conflict for a configured model, and while others fall back to this one.
        """
        async with self._database.transaction() as connection:
            version = await store.raise_version(connection)
            before = await _view(connection)
            known = before.models.get(alias)
            if known is None:
                raise _unknown(alias)
            if known.entry.source == CONFIG:
                raise _configured(alias)
            users = users_of(alias, _models(before))
            if users and not known.overrides:
                raise _in_use(alias, users)
            await store.remove(connection, alias, API)
            _check_revealed(alias, _models(await _view(connection)))
            await self._announce(connection, version)
        self._outbox.notify()
        self._tell()
        self._log.info("model removed", model=alias, version=version, by=caller.user)

    def _layer(self, *, added: bool) -> Layer:
        return Layer(
            added=added,
            loaded=self._loaded,
            allow_private=self._allow_private,
            local_context=self._local_context,
        )

    async def _replace_configured(
        self, connection: AsyncConnection, stored: Mapping[str, Entry], wanted: Mapping[str, Model]
    ) -> None:
        now = self._clock.time()
        version = await store.raise_version(connection)
        for alias in stored.keys() - wanted.keys():
            await store.remove(connection, alias, CONFIG)
        for alias, model in wanted.items():
            created = stored[alias].created_at if alias in stored else now
            entry = Entry(
                model=msgspec.structs.replace(model, created=int(created)),
                source=CONFIG,
                created_at=created,
                updated_at=now,
                updated_by=_NOBODY,
            )
            await store.put(connection, entry)
        await self._announce(connection, version)
        self._log.info("configured models changed", models=sorted(wanted), version=version)

    async def _check_configured(self, connection: AsyncConnection, wanted: Mapping[str, Model]) -> None:
        """The file is judged as if nothing were put over it. Its models may fall back to added ones; a
        gap or a circle is the file's mistake, since the added ones were checked when they came."""
        models = {**_models(await _view(connection)), **wanted}
        for alias in wanted:
            try:
                check_fallbacks(alias, models)
            except BadRequest as error:
                raise _misconfigured(alias, error) from None

    async def _announce(self, connection: AsyncConnection, version: int) -> None:
        await self._outbox.add(connection, topic=CHANGES, key="catalogue", value=str(version).encode())


async def _view(connection: AsyncConnection) -> View:
    return View(await store.version(connection), merge(await store.entries(connection)))


def _models(view: View) -> dict[str, Model]:
    return {alias: each.entry.model for alias, each in view.models.items()}


def _unknown(alias: str) -> NotFound:
    return NotFound(
        f"The model '{alias}' does not exist.",
        code="model_not_found",
        param="model",
        hint="GET /v1/models lists those that do.",
    )


def _configured(alias: str) -> Conflict:
    return Conflict(
        f"'{alias}' stands in the configuration file and cannot be removed by API",
        code="model_is_configured",
        param="model",
        hint="Remove it from the file, or PUT another definition over it.",
    )


def _in_use(alias: str, users: list[str]) -> Conflict:
    return Conflict(
        f"other models fall back to '{alias}': {', '.join(users)}",
        code="model_in_use",
        param="model",
        hint="Take it out of their fallbacks first.",
    )


def _check_revealed(alias: str, models: Mapping[str, Model]) -> None:
    """A configured model that comes to light again must fit what was added meanwhile."""
    if alias not in models:
        return
    try:
        check_fallbacks(alias, models)
    except BadRequest as error:
        hint = "Change the fallbacks of the added models first."
        raise Conflict(error.message, code="model_in_use", param="model", hint=hint) from None


def _misconfigured(alias: str, error: BadRequest) -> StartupError:
    place = f"models.{alias}" + (f".{error.param}" if error.param != "model" else "")
    return StartupError(error.message, where=place, hint=error.hint)
