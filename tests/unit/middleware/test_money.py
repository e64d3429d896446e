"""Reserved before, topped up in a stream, settled on what is billed: for answers of every kind and end."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.balances import Balance, Balances
from moonpool.contracts.budgets import KeyBudget, Period, begun
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.config import BillingConfig
from moonpool.contracts.manifest import Route
from moonpool.contracts.money import cost
from moonpool.contracts.usage import TokenPrice, UsageEvent
from moonpool.core.body import Outcome, Stream
from moonpool.core.clock import ManualClock
from moonpool.core.context import Attempt
from moonpool.core.errors import PaymentRequired, StreamStalled, Unavailable
from moonpool.core.handler import chain
from moonpool.core.message import Request, Response
from moonpool.core.principal import ANONYMOUS
from moonpool.middleware.metering import PROGRESS_EVERY, Metering
from moonpool.middleware.money import STEP, Money
from moonpool.middleware.purses import Purses
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest

ROUTE = Route(method="POST", path="/v1/chat/completions", schema="ChatCompletionRequest", metered=True)
TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"prompt_cache_hit_tokens":4}}\n\n'
)
DONE = b"data: [DONE]\n\n"
JSON = b'{"usage":{"prompt_tokens":10,"completion_tokens":3,"prompt_cache_hit_tokens":4}}'
PRICE = TokenPrice(2_000, 1_000, 5_000)
PAID = 6 * 2 + 4 * 1 + 3 * 5
"""What that usage costs."""
OTHER = TokenPrice(1_000, 1_000, 1_000)


class World:
    def __init__(self, make_ctx: Callable[..., Any], clock: ManualClock, journal: Any) -> None:
        self.models = Models(Pools())
        self.purses = Purses(BillingConfig(), clock)
        self.money = Money(self.models, self.purses, "src")
        self.make_ctx, self.journal, self.clock = make_ctx, journal, clock
        self.count = 0
        self.last: Any = None
        self.price(m=PRICE)
        self.give(10_000)

    def price(self, **prices: TokenPrice | None) -> None:
        targets = (Target(id="t", url="http://x/v1"),)
        self.models.update(
            Catalogue(1, tuple(Model(id=name, targets=targets, price=one) for name, one in prices.items()))
        )

    def give(self, amount: int) -> None:
        self.purses.update(Balances(mark="1", balances=(Balance("org_1", amount),)))

    def grant(self, amount: int, spent: int = 0, *, period: Period = Period.DAY, **more: Any) -> None:
        since = begun(period, self.clock.time())
        self.purses.update(
            Balances(mark="1", budgets=(KeyBudget("key_1", amount, period, since, spent, **more),))
        )

    @property
    def budget_left(self) -> int:
        return self.purses.keys.purses["key_1"].left()

    @property
    def left(self) -> int | None:
        return self.purses.spendable(self.purses.of("org_1"))

    @property
    def events(self) -> list[UsageEvent]:
        return [msgspec.json.decode(value, type=UsageEvent) for _, value in self.journal.closed]

    async def ask(
        self, answer: Any, *, max_tokens: int = 50, stream: bool = False, **fields: Any
    ) -> Response:
        body = msgspec.json.encode(
            {
                "model": "m",
                "max_tokens": max_tokens,
                "stream": stream,
                "messages": [{"role": "user", "content": "x"}],
            }
        )
        payload = parse(ChatCompletionRequest, body)
        self.count += 1
        given = {"payload": payload, "model": "m", "route": ROUTE, "streamed": stream, "prompt_tokens": 10}
        ctx = self.last = self.make_ctx(request_id=f"req_{self.count}", **{**given, **fields})

        async def end(ctx: Any, request: Request) -> Response:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        handler = answer if callable(answer) else end
        request = Request("POST", ROUTE.path, body=body)
        return await chain([self.money, Metering(self.journal)], handler)(ctx, request)


@pytest.fixture
def world(make_ctx, clock, journal) -> World:
    return World(make_ctx, clock, journal)


def whole() -> Response:
    return Response(200, [(b"content-type", b"application/json")], JSON)


def streaming() -> tuple[Response, Stream]:
    body = Stream()
    return Response(200, [(b"content-type", b"text/event-stream")], body), body


def test_only_where_usage_is_metered_and_read(world: World) -> None:
    assert world.money.applies(ROUTE)
    assert not world.money.applies(Route(method="GET", path="/v1/models"))


async def test_an_answer_costs_what_was_used(world: World) -> None:
    await world.ask(whole())
    assert world.left == 10_000 - PAID
    (event,) = world.events
    assert event.bill == (event.bill.__class__)(PRICE, "src")
    assert cost(event.usage, event.bill.price) == PAID


async def test_it_is_reserved_while_it_lasts(world: World, sink) -> None:
    response, body = streaming()
    await world.ask(response, stream=True)
    held = world.purses.of("org_1").reserved
    assert held >= 50 * 5
    assert world.left == 10_000 - held
    body.connect(sink)
    body.feed(TEXT + USAGE + DONE)
    body.finish()
    assert world.left == 10_000 - PAID
    assert world.purses.of("org_1").reserved == 0


async def test_streamed_and_whole_cost_the_same(world: World, sink) -> None:
    await world.ask(whole())
    response, body = streaming()
    await world.ask(response, stream=True)
    body.connect(sink)
    body.feed(TEXT + USAGE + DONE)
    body.finish()
    assert len({cost(event.usage, event.bill.price) for event in world.events}) == 1
    assert world.left == 10_000 - 2 * PAID


async def test_who_has_not_enough_is_refused_before_anybody_is_asked(world: World) -> None:
    world.give(100)

    async def never(ctx: Any, request: Request) -> Response:
        raise AssertionError

    with pytest.raises(PaymentRequired) as refused:
        await world.ask(never)
    assert (refused.value.status, refused.value.type, refused.value.code) == (
        402,
        "insufficient_balance",
        "insufficient_balance",
    )
    assert "up to 0.000000294 USD, and 0.0000001 are left" in refused.value.message
    assert [decision[:2] for decision in world.last.decisions] == [("money", "refuse")]
    assert world.left == 100
    await world.ask(whole(), max_tokens=3)
    assert world.left == 100 - PAID


async def test_many_at_once_reserve_no_more_than_there_is(world: World) -> None:
    world.give(1000)
    gate = asyncio.Event()

    async def slow(ctx: Any, request: Request) -> Response:
        await gate.wait()
        return whole()

    asked = [asyncio.create_task(world.ask(slow)) for _ in range(20)]
    await asyncio.sleep(0)
    assert world.left is not None
    assert world.left >= 0
    gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    served = [one for one in answers if isinstance(one, Response)]
    assert 0 < len(served) < 20
    assert all(isinstance(one, PaymentRequired) for one in answers if one not in served)
    assert world.left == 1000 - len(served) * PAID


@pytest.mark.parametrize("error", [Unavailable("away"), StreamStalled("silent")])
async def test_failures_cost_nothing(world: World, error: Exception) -> None:
    with pytest.raises(type(error)):
        await world.ask(error)
    await world.ask(Response(503, [], b"{}"))
    assert world.left == 10_000


async def test_a_client_that_leaves_pays_what_is_billed(world: World, sink) -> None:
    async def asked(ctx: Any, request: Request) -> Response:
        ctx.attempts = [Attempt("x", "v1", 0.0)]
        await asyncio.Event().wait()
        raise AssertionError

    waiting = asyncio.create_task(world.ask(asked))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    response, body = streaming()
    await world.ask(response, stream=True)
    body.connect(sink)
    body.feed(TEXT)
    body.cancel()
    costs = [cost(event.usage, event.bill.price) for event in world.events]
    assert [event.outcome for event in world.events] == ["cancelled", "cancelled"]
    assert costs == [20, 25]
    assert world.left == 10_000 - sum(costs)


async def test_a_stream_is_topped_up(world: World, sink) -> None:
    response, body = streaming()
    await world.ask(response, stream=True, max_tokens=1)
    body.connect(sink)
    for _ in range(PROGRESS_EVERY):
        body.feed(TEXT)
    assert world.purses.of("org_1").reserved == 10 * 2 + (PROGRESS_EVERY + STEP) * 5
    body.feed(USAGE + DONE)
    body.finish()
    assert world.left == 10_000 - PAID


async def test_a_stream_that_can_be_paid_no_longer_ends_and_says_so(world: World, sink) -> None:
    told: list[int] = []
    world.give(600)
    response, body = streaming()
    await world.ask(response, stream=True, max_tokens=1, progress=told.append)
    body.connect(sink)
    for _ in range(10 * PROGRESS_EVERY):
        body.feed(TEXT)
        if body.outcome is not None:
            break
    assert body.outcome is Outcome.FAILED
    assert isinstance(sink.ended, PaymentRequired)
    assert told == [PROGRESS_EVERY, 2 * PROGRESS_EVERY]
    (event,) = world.events
    assert cost(event.usage, event.bill.price) <= 600
    assert world.left == 600 - cost(event.usage, event.bill.price)


async def test_without_enforcement_all_is_priced_and_nobody_refused(world: World, sink) -> None:
    world.purses.set_terms(BillingConfig(enforce=False))
    world.give(0)
    response, body = streaming()
    await world.ask(response, stream=True)
    body.connect(sink)
    body.feed(TEXT * 200 + USAGE + DONE)
    body.finish()
    assert world.left == -PAID


async def test_as_long_as_nobody_knows_the_balance_requests_go_on(make_ctx, clock, journal) -> None:
    world = World.__new__(World)
    world.models, world.purses = Models(Pools()), Purses(BillingConfig(), clock)
    world.money = Money(world.models, world.purses, "src")
    world.make_ctx, world.journal, world.count = make_ctx, journal, 0
    world.price(m=PRICE)
    await world.ask(whole())
    assert ("money", "reserve", "balance unknown") in [one[:3] for one in world.last.decisions]
    world.give(100)
    assert world.left == 100 - PAID


async def test_where_nothing_has_a_price_nothing_happens(world: World) -> None:
    world.price(m=None)
    world.give(0)
    await world.ask(whole())
    assert world.last.decisions == []
    assert world.last.tariff is None
    assert b"bill" not in world.journal.closed[0][1]


async def test_a_free_model_is_free_beside_others(world: World) -> None:
    world.price(m=None, other=OTHER)
    world.give(0)
    await world.ask(whole())
    assert world.left == 0
    assert b"bill" not in world.journal.closed[0][1]


async def test_the_model_that_answers_has_the_price(world: World) -> None:
    world.price(m=PRICE, other=OTHER)

    async def falls_back(ctx: Any, request: Request) -> Response:
        ctx.model = "other"
        return whole()

    await world.ask(falls_back)
    (event,) = world.events
    assert event.bill.price == OTHER
    assert world.left == 10_000 - 13


async def test_the_price_is_that_of_the_moment_it_was_let_in(world: World) -> None:
    async def changes(ctx: Any, request: Request) -> Response:
        world.price(m=OTHER)
        return whole()

    await world.ask(changes)
    await world.ask(whole())
    assert [event.bill.price for event in world.events] == [PRICE, OTHER]
    assert world.left == 10_000 - PAID - 13


async def test_nobodys_requests_are_nobodys_cost(world: World) -> None:
    await world.ask(whole(), principal=ANONYMOUS)
    assert world.left == 10_000


# ── budgets of keys ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_spends_its_budget_and_the_balance(world: World, sink) -> None:
    world.grant(1_000, 100)
    await world.ask(whole())
    assert (world.budget_left, world.left) == (900 - PAID, 10_000 - PAID)
    response, body = streaming()
    await world.ask(response, stream=True)
    held = world.purses.of("org_1").reserved
    assert world.budget_left == 900 - PAID - held
    body.connect(sink)
    body.feed(TEXT + USAGE + DONE)
    body.finish()
    assert (world.budget_left, world.left) == (900 - 2 * PAID, 10_000 - 2 * PAID)


@pytest.mark.parametrize(
    ("period", "words"),
    [
        (Period.DAY, ("a day", "It renews at 2023-11-15T00:00:00Z.")),
        (Period.MONTH, ("a month", "It renews at 2023-12-01T00:00:00Z.")),
        (Period.TOTAL, ("in all", "It does not renew.")),
    ],
)
async def test_a_spent_budget_is_told_with_when_it_renews(
    world: World, period: Period, words: tuple[str, str]
) -> None:
    world.grant(10**9, 10**9 - 100, period=period)
    with pytest.raises(PaymentRequired) as refused:
        await world.ask(whole())
    error = refused.value
    assert (error.status, error.code) == (402, "key_budget_exceeded")
    assert f"budget of 1.00 USD {words[0]} is spent" in error.message
    assert "up to 0.000000294, and 0.0000001 are left" in error.message
    assert error.hint is not None
    assert words[1] in error.hint
    assert "keys budget key_1" in error.hint
    assert world.last.decisions[-1][:2] == ("money", "refuse")
    assert (world.budget_left, world.left) == (100, 10_000)
    await world.ask(whole(), max_tokens=3)
    assert world.budget_left == 100 - PAID


async def test_others_are_none_the_worse(world: World) -> None:
    world.grant(0)
    other = world.make_ctx().principal.__class__(user="user_1", tenant="org_1", key="key_2")
    assert (await world.ask(whole(), principal=other)).status == 200
    assert world.budget_left == 0


async def test_the_balance_bounds_a_budget(world: World) -> None:
    world.give(100)
    world.grant(10_000)
    with pytest.raises(PaymentRequired) as refused:
        await world.ask(whole())
    assert refused.value.code == "insufficient_balance"
    assert world.budget_left == 10_000


@pytest.mark.parametrize("error", [Unavailable("away"), StreamStalled("silent")])
async def test_failures_cost_no_budget(world: World, error: Exception) -> None:
    world.grant(1_000)
    with pytest.raises(type(error)):
        await world.ask(error)
    assert world.budget_left == 1_000


async def test_a_stream_ends_when_the_budget_does(world: World, sink) -> None:
    told: list[int] = []
    world.grant(600)
    response, body = streaming()
    await world.ask(response, stream=True, max_tokens=1, progress=told.append)
    body.connect(sink)
    for _ in range(10 * PROGRESS_EVERY):
        body.feed(TEXT)
        if body.outcome is not None:
            break
    assert isinstance(sink.ended, PaymentRequired)
    assert sink.ended.code == "key_budget_exceeded"
    assert told == [PROGRESS_EVERY, 2 * PROGRESS_EVERY]
    (event,) = world.events
    spent = cost(event.usage, event.bill.price)
    assert world.budget_left == 600 - spent >= 0
    assert world.left == 10_000 - spent


async def test_a_stream_over_midnight_is_of_the_new_day(world: World, sink) -> None:
    world.grant(1_000, 700)
    response, body = streaming()
    await world.ask(response, stream=True, max_tokens=1)
    world.clock.advance(86_400)
    body.connect(sink)
    body.feed(TEXT + USAGE + DONE)
    body.finish()
    assert world.budget_left == 1_000 - PAID


async def test_without_enforcement_a_budget_refuses_nobody(world: World) -> None:
    world.purses.set_terms(BillingConfig(enforce=False))
    world.grant(0)
    await world.ask(whole())
    assert world.budget_left == -PAID


async def test_a_budget_that_is_taken_away_while_it_is_held(world: World, sink) -> None:
    world.grant(1_000)
    response, body = streaming()
    await world.ask(response, stream=True)
    world.purses.keys.update([KeyBudget("key_1", None, Period.DAY, 0, 0)])
    body.connect(sink)
    body.feed(TEXT + USAGE + DONE)
    body.finish()
    assert world.left == 10_000 - PAID
    assert world.purses.keys.purses == {}
