"""A second attempt beside a slow first one: who wins, what it costs, and that nothing is left behind."""

import asyncio

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.tiers import Candidate, Tier
from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.contracts.resilience import HedgePolicy, RetryPolicy
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Attempt
from moonpool.core.errors import ConnectionReset, UpstreamMalformed
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.middleware.hedge import FEWEST, FirstTokens, Hedge
from moonpool.middleware.retry_budget import RetryBudget

REQUEST = Request("POST", "/v1/chat/completions", body=b"{}")
POLICY = HedgePolicy(enabled=True, at_least=0.0)


class Asked:
    """What is below: each call answers when it is told to."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[Response]] = []
        self.cancelled: list[int] = []

    async def __call__(self, ctx, request) -> Response:
        number = len(self.answers)
        ctx.attempts.append(Attempt(f"one-{number}", f"v{number}", 0.0))
        ctx.release = f"v{number}"
        self.answers.append(asyncio.get_running_loop().create_future())
        try:
            return await self.answers[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise

    async def count(self, wanted: int) -> None:
        async with asyncio.timeout(2):
            while len(self.answers) < wanted:
                await asyncio.sleep(0)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def ctx(make_ctx):

    ctx = make_ctx(model="m", streamed=True)
    endpoints = [Endpoint(Address.parse(f"unix:/{n}"), instance=f"one-{n}", release="v1") for n in range(2)]
    ctx.tier = Tier("m/0", [Candidate(endpoint) for endpoint in endpoints], "m")
    return ctx


def hedge(*, budget: float = 10.0) -> Hedge:
    made = Hedge(POLICY, RetryBudget(RetryPolicy(budget_share=0.0, budget_per_second=budget)))
    times = FirstTokens(0.95)
    for _ in range(FEWEST):
        times.add(0.0)
    made._models["m"] = times
    return made


async def test_the_second_wins_and_the_first_is_forgotten(ctx, asked) -> None:
    racing = asyncio.create_task(hedge()(ctx, REQUEST, asked))
    await asked.count(2)
    asked.answers[1].set_result(Response(200, body=b"second"))
    assert (await racing).body == b"second"
    await asyncio.sleep(0)
    assert asked.cancelled == [0]
    assert ctx.release == "v1", "told by whom it was answered"
    assert [(name, verdict) for name, verdict, _, _ in ctx.decisions] == [
        ("hedge", "second"),
        ("hedge", "won"),
    ]


async def test_the_first_wins_after_all(ctx, asked) -> None:
    racing = asyncio.create_task(hedge()(ctx, REQUEST, asked))
    await asked.count(2)
    asked.answers[0].set_result(Response(200, body=b"first"))
    assert (await racing).body == b"first"
    await asyncio.sleep(0)
    assert asked.cancelled == [1]


async def test_a_loser_s_stream_is_cancelled(ctx, asked) -> None:
    racing = asyncio.create_task(hedge()(ctx, REQUEST, asked))
    await asked.count(2)
    loser = Stream()
    asked.answers[0].set_result(Response(200, body=b"first"))
    asked.answers[1].set_result(Response(200, body=loser))
    assert (await racing).body == b"first"
    for _ in range(3):
        await asyncio.sleep(0)
    assert loser.outcome is Outcome.CANCELLED


async def test_one_that_fails_leaves_it_to_the_other(ctx, asked) -> None:
    racing = asyncio.create_task(hedge()(ctx, REQUEST, asked))
    await asked.count(2)
    asked.answers[1].set_exception(ConnectionReset("x"))
    await asyncio.sleep(0)
    assert not racing.done()
    asked.answers[0].set_result(Response(200, body=b"first"))
    assert (await racing).body == b"first"


async def test_both_fail_with_the_first_one_s_error(ctx, asked) -> None:
    racing = asyncio.create_task(hedge()(ctx, REQUEST, asked))
    await asked.count(2)
    asked.answers[1].set_exception(ConnectionReset("second"))
    asked.answers[0].set_exception(UpstreamMalformed("first"))
    with pytest.raises(UpstreamMalformed):
        await racing


async def test_without_budget_or_anybody_else_there_is_one_attempt(ctx, asked) -> None:
    for made in (hedge(budget=0.0), hedge()):
        racing = asyncio.create_task(made(ctx, REQUEST, asked))
        await asyncio.sleep(0.02)
        (waiting,) = [answer for answer in asked.answers if not answer.done()]
        waiting.set_result(Response(200, body=b"only"))
        assert (await racing).body == b"only"
        ctx.tier = Tier("m/0", ctx.tier.candidates[:1], "m")


async def test_who_leaves_takes_both_along(ctx, asked) -> None:
    racing = asyncio.create_task(hedge()(ctx, REQUEST, asked))
    await asked.count(2)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    await asyncio.sleep(0)
    assert sorted(asked.cancelled) == [0, 1]


async def test_without_experience_there_is_no_hedge(ctx, asked) -> None:
    made = Hedge(POLICY, RetryBudget(RetryPolicy()))
    racing = asyncio.create_task(made(ctx, REQUEST, asked))
    await asyncio.sleep(0.02)
    assert len(asked.answers) == 1
    asked.answers[0].set_result(Response(200))
    await racing


def test_the_quantile_is_of_the_last_times() -> None:
    times = FirstTokens(0.95)
    for number in range(100):
        times.add(number / 100)
    assert times.quantile() == 0.95
    for _ in range(400):
        times.add(0.01)
    assert times.quantile() == 0.01


@pytest.mark.parametrize(
    ("policy", "balancer", "applies"),
    [
        (POLICY, BalancerKind.INFERENCE, True),
        (POLICY, BalancerKind.API, False),
        (HedgePolicy(), BalancerKind.INFERENCE, False),
    ],
)
def test_where_it_stands(policy, balancer, applies: bool) -> None:
    made = Hedge(policy, RetryBudget(RetryPolicy()))
    assert made.applies(Route(method="POST", path="/", balancer=balancer)) is applies


async def test_it_is_turned_on_and_off_for_those_that_come(ctx, asked) -> None:
    racing = hedge()
    first = asyncio.create_task(racing(ctx, REQUEST, asked))
    racing.update(HedgePolicy(enabled=False))
    await asked.count(2)  # who began while it was on has it
    asked.answers[1].set_result(Response(200))
    await first
    second = asyncio.create_task(racing(ctx, REQUEST, asked))
    await asked.count(3)
    asked.answers[2].set_result(Response(200))
    await second
    route = Route(method="POST", path="/", balancer=BalancerKind.INFERENCE)
    assert not racing.applies(route)
    racing.update(POLICY)
    assert racing.applies(route)


def test_another_quantile_is_of_the_times_that_are_known() -> None:
    racing = hedge()
    times = racing._models["m"]
    for number in range(100):
        times.add(number / 100)
    assert times.quantile() == 0.94
    racing.update(HedgePolicy(enabled=True, quantile=0.5))
    assert times.quantile() == 0.4
