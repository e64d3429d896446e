"""Balances are followed while anything costs, kept for the next start, and asked anew after every failure."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.balances import Balance, Balances
from moonpool.contracts.budgets import Budget, KeyBudget, Period, SetBudget
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.config import BillingConfig
from moonpool.contracts.usage import TokenPrice
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable, UpstreamMalformed
from moonpool.middleware.purses import Purses
from moonpool.wiring import following, money
from moonpool.wiring.money import BalanceFollower, HttpBalanceClient, HttpBudgetClient


class Billing:
    """Tells what it is given; waits when there is nothing."""

    def __init__(self) -> None:
        self.news: list[Balances | Exception] = []
        self.asked: list[tuple[str, str]] = []

    async def balances(self, source: str, mark: str = "") -> Balances:
        self.asked.append((source, mark))
        while not self.news:
            await asyncio.sleep(0.001)
        told = self.news.pop(0)
        if isinstance(told, Exception):
            raise told
        return told


class World:
    def __init__(self, folder: Path) -> None:
        self.models, self.billing = Models(Pools()), Billing()
        self.purses = Purses(BillingConfig(), ManualClock())
        self.snapshot = folder / "balances.json"
        self.follower = BalanceFollower(
            self.billing, self.models, self.purses, "src", self.snapshot, structlog.get_logger()
        )

    def price(self, price: TokenPrice | None) -> None:
        targets = (Target(id="t", url="http://x/v1"),)
        self.models.update(Catalogue(1, (Model(id="m", targets=targets, price=price),)))

    @property
    def left(self) -> int | None:
        return self.purses.spendable(self.purses.of("org"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money, "POLL", 0.002)
    monkeypatch.setattr(money, "BREATH", 0.0)
    monkeypatch.setattr(following, "HURRY", 0.001)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def told(mark: str, amount: int, **more: bool) -> Balances:
    return Balances(mark=mark, balances=(Balance("org", amount),), **more)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_nobody_is_asked_as_long_as_nothing_costs(world: World) -> None:
    world.price(None)
    await world.follower.start()
    await asyncio.sleep(0.01)
    assert world.billing.asked == []
    world.price(TokenPrice(1, 1, 1))
    world.billing.news = [told("e:1:", 7)]
    await until(lambda: world.left == 7)
    await world.follower.stop()


async def test_it_goes_on_from_the_mark_and_anew_after_a_failure(world: World) -> None:
    world.price(TokenPrice(1, 1, 1))
    world.billing.news = [told("e:1:", 7, more=True), told("e:2:", 6), Unavailable("away"), told("e:3:", 5)]
    await world.follower.start()
    await until(lambda: world.left == 5)
    assert world.billing.asked[:4] == [("src", ""), ("src", "e:1:"), ("src", "e:2:"), ("src", "")]
    await world.follower.stop()


async def test_the_last_known_balances_are_there_at_the_next_start(world: World, tmp_path: Path) -> None:
    world.price(TokenPrice(1, 1, 1))
    world.billing.news = [told("e:1:", 100)]
    await world.follower.start()
    await until(lambda: world.left == 100)
    world.purses.charge(world.purses.of("org"), 30)
    await world.follower.stop()
    later = World(tmp_path)
    later.price(TokenPrice(1, 1, 1))
    await later.follower.start()
    assert later.left == 70
    assert later.purses.spendable(later.purses.of("unheard of")) is None
    await later.follower.stop()


async def test_so_are_the_budgets(world: World, tmp_path: Path) -> None:
    world.price(TokenPrice(1, 1, 1))
    world.billing.news = [
        Balances(mark="e:1:", budgets=(KeyBudget("key_1", 100, Period.TOTAL, 0, 20),), settled=True)
    ]
    await world.follower.start()
    await until(lambda: world.purses.keys.purses)
    world.purses.keys.purses["key_1"].charge(30)
    await world.follower.stop()
    later = World(tmp_path)
    await later.follower.start()
    assert later.purses.keys.purses["key_1"].left() == 50
    await later.follower.stop()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"org": "much"}'])
async def test_a_broken_snapshot_is_no_snapshot(world: World, content: bytes) -> None:
    world.snapshot.write_bytes(content)
    world.snapshot.with_name("budgets.json").write_bytes(content)
    await world.follower.start()
    assert world.left is None
    assert world.purses.keys.purses == {}
    await world.follower.stop()


class Caller:
    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: tuple[Any, ...] = ()

    async def call(self, *asked: Any, query: str = "") -> bytes:
        self.asked = (*asked, query)
        return self.answer


async def test_the_client_asks_billing() -> None:
    caller = Caller(msgspec.json.encode(told("e:1:", 7)))
    found = await HttpBalanceClient(caller).balances("src", "e:0:org/1")  # type: ignore[arg-type]
    assert found == told("e:1:", 7)
    assert caller.asked == ("billing", "GET", "/internal/balances", "source=src&mark=e%3A0%3Aorg%2F1")
    with pytest.raises(UpstreamMalformed):
        await HttpBalanceClient(Caller(b"{}")).balances("src")  # type: ignore[arg-type]


async def test_a_budget_is_sent_to_billing() -> None:
    caller = Caller(b"")
    wish = SetBudget(key="k", tenant="t", user="u", budget=Budget(amount=5, period=Period.DAY))
    await HttpBudgetClient(caller).set_budget(wish)  # type: ignore[arg-type]
    assert caller.asked == ("billing", "POST", "/internal/budgets", msgspec.json.encode(wish), "")
