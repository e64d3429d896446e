"""Two gateways spend one key's budget, with the real billing between them: its database, its consumer, its
long poll. Neither loses sight of what the other one spends, and no restart forgets any of it."""

import asyncio
from typing import Any

import msgspec
import pytest

from moonpool.contracts.balances import Balances
from moonpool.contracts.budgets import Budget, Period, SetBudget
from moonpool.contracts.config import BillingConfig
from moonpool.contracts.usage import TOPIC, Bill, TokenPrice, Usage, UsageEvent
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.principal import Principal
from moonpool.middleware.key_budgets import KeyPurse
from moonpool.middleware.purses import Purses
from moonpool.ports.events import Event

GRANTED = 100
PRICE = TokenPrice(1000, 1000, 1000)
"""A nano-unit a token."""


class Gateway:
    """What of a gateway knows money: its purses, and who follows billing for them."""

    def __init__(self, billing: Any, name: str) -> None:
        self.billing, self.name, self.spent, self.mark = billing, name, 0, ""
        self.purses = Purses(BillingConfig(), SYSTEM_CLOCK)

    async def hear(self) -> None:
        answer = await self.billing.call(
            "GET",
            "/internal/balances",
            caller=Principal(service="gateway"),
            params={"source": self.name, "mark": self.mark},
        )
        news = msgspec.json.decode(answer.content, type=Balances)
        self.mark = news.mark
        self.purses.update(news)

    @property
    def purse(self) -> KeyPurse:
        return self.purses.keys.purses["key_1"]

    async def spend(self, amount: int) -> bool:
        """One request, whose usage goes its way to billing. Whether it was let in."""
        if amount > self.purse.left():
            return False
        self.purse.charge(amount)
        self.spent += amount
        event = UsageEvent(
            id=f"{self.name}-{self.spent}",
            at=SYSTEM_CLOCK.time(),
            user="user_member",
            tenant="org_test",
            key="key_1",
            route="/v1/chat/completions",
            model="m",
            target="tgt",
            release="v1",
            usage=Usage(prompt_tokens=amount),
            streamed=False,
            bill=Bill(PRICE, self.name),
        )
        log = self.billing.parts.events
        await log.append(TOPIC, [Event(event.id, event.tenant, msgspec.json.encode(event))])
        return True


@pytest.fixture
async def billing(make_parts: Any, run_service: Any) -> Any:
    service = await run_service(await make_parts("billing", clock=SYSTEM_CLOCK))
    wish = SetBudget(
        key="key_1",
        tenant="org_test",
        user="user_member",
        budget=Budget(amount=GRANTED, period=Period.TOTAL),
        new=True,
    )
    answer = await service.call(
        "POST",
        "/internal/budgets",
        caller=Principal(service="auth"),
        issuer="auth",
        content=msgspec.json.encode(wish),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    return service


async def counted(billing: Any) -> None:
    log = billing.parts.events
    async with asyncio.timeout(5):
        while await log.lag(TOPIC, "billing"):
            await asyncio.sleep(0.005)


async def test_each_hears_of_the_other_and_both_stop_at_the_budget(billing: Any) -> None:
    gateways = [Gateway(billing, "gw-a"), Gateway(billing, "gw-b")]
    for gateway in gateways:
        await gateway.hear()
    let_in = True
    while let_in:
        let_in = False
        for gateway in gateways:
            let_in |= await gateway.spend(7)
            await counted(billing)
            for each in gateways:
                await each.hear()
    assert sum(gateway.spent for gateway in gateways) == GRANTED - GRANTED % 7
    assert [gateway.purse.left() for gateway in gateways] == [GRANTED % 7] * 2

    again = Gateway(billing, "gw-c")
    await again.hear()
    assert again.purse.left() == GRANTED % 7


async def test_what_they_have_not_heard_of_is_all_that_can_be_too_much(billing: Any) -> None:
    gateways = [Gateway(billing, "gw-a"), Gateway(billing, "gw-b")]
    for gateway in gateways:
        await gateway.hear()
    for gateway in gateways:
        while await gateway.spend(7):
            pass
    assert [gateway.spent for gateway in gateways] == [98, 98]
    await counted(billing)
    for gateway in gateways:
        await gateway.hear()
        assert gateway.purse.left() == GRANTED - 2 * 98
        assert not await gateway.spend(1)
