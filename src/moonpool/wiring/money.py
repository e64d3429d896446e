"""Following balances: what the money filter knows of what its callers can spend."""

import asyncio
import os
import time
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.balancing.models import Models
from moonpool.contracts.balances import BalanceClient, Balances
from moonpool.contracts.budgets import KeyBudget, SetBudget
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import UpstreamMalformed
from moonpool.core.ids import new_id
from moonpool.middleware.money import Money
from moonpool.middleware.purses import Purses
from moonpool.wiring.clients import ServiceCaller
from moonpool.wiring.following import POLL, Follower
from moonpool.wiring.infrastructure import Infrastructure
from moonpool.wiring.settings import ModuleSettings

T = TypeVar("T")
KEEP = 5.0
"""Seconds between two snapshots of balances that change all the time."""
BREATH = 0.05
"""Seconds between two questions: what happens meanwhile is told in one answer."""


class HttpBalanceClient:
    def __init__(self, caller: ServiceCaller) -> None:
        self._caller = caller

    async def balances(self, source: str, mark: str = "") -> Balances:
        query = urlencode({"source": source, "mark": mark})
        answer = await self._caller.call("billing", "GET", "/internal/balances", query=query)
        try:
            return msgspec.json.decode(answer, type=Balances)
        except msgspec.DecodeError as error:
            raise UpstreamMalformed(f"not balances: {error}") from None


class HttpBudgetClient:
    def __init__(self, caller: ServiceCaller) -> None:
        self._caller = caller

    async def set_budget(self, wish: SetBudget) -> None:
        await self._caller.call("billing", "POST", "/internal/budgets", msgspec.json.encode(wish))


class BalanceFollower(Follower):
    """Waits at billing for news, as long as any model has a price; what came last is on disk, so that a
    process can start while billing is away."""

    def __init__(
        self,
        client: BalanceClient,
        models: Models,
        purses: Purses,
        source: str,
        snapshot: Path,
        log: FilteringBoundLogger,
    ) -> None:
        super().__init__("balances", log)
        self._client = client
        self._models = models
        self._purses = purses
        self._source = source
        self._snapshot = snapshot
        self._budgets = snapshot.with_name(snapshot.name.replace("balances", "budgets", 1))
        self._kept_at = 0.0

    async def start(self) -> None:
        self._purses.remember(self._read(self._snapshot, dict[str, int]) or {})
        self._purses.keys.remember(self._read(self._budgets, list[KeyBudget]) or ())
        await super().start()

    async def follow(self) -> None:
        mark = ""  # everything anew after a failure: billing may have another database
        while True:
            if not self._models.prices:
                await asyncio.sleep(POLL)
                continue
            news = await self._client.balances(self._source, mark)
            mark = news.mark
            self._purses.update(news)
            if news.balances or news.budgets:
                self._keep()
            await asyncio.sleep(0 if news.more else BREATH)

    async def stop(self) -> None:
        await super().stop()
        self._kept_at = 0.0
        if self._models.prices:
            self._keep()

    def _keep(self) -> None:
        now = time.monotonic()
        if now - self._kept_at < KEEP and self._kept_at:
            return
        self._kept_at = now
        self._write(self._snapshot, self._purses.known())
        self._write(self._budgets, self._purses.keys.known())

    def _read(self, path: Path, shape: type[T]) -> T | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=shape)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, ValueError) as error:
            self._log.warning("nothing last known", path=str(path), reason=str(error))
            return None

    def _write(self, path: Path, known: object) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.new")  # several gateways keep the same
        try:
            temporary.write_bytes(msgspec.json.encode(known))
            temporary.replace(path)
        except OSError as error:
            self._log.warning("not kept", path=str(path), reason=str(error))


def open_money(settings: ModuleSettings, infrastructure: Infrastructure) -> tuple[Money, BalanceFollower]:
    models = infrastructure.resilience.models
    purses = Purses(infrastructure.config.billing, infrastructure.clock)
    infrastructure.documents.subscribe(PLATFORM, lambda _name, _old, new: purses.set_terms(new.billing))
    source = new_id("spd", infrastructure.clock)
    follower = BalanceFollower(
        HttpBalanceClient(infrastructure.caller),
        models,
        purses,
        source,
        Path(settings.topology).parent / f"balances-{settings.name}.json",
        infrastructure.log,
    )
    return Money(models, purses, source), follower
