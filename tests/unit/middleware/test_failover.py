"""From tier to tier: who is asked next, what the answer is then called, and which error is told."""

import asyncio
from random import Random

import pytest

from moonpool.balancing.services import Services
from moonpool.contracts.catalogue import Model, Target
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionReset,
    FirstByteTimeout,
    MoonpoolError,
    Overloaded,
    StreamStalled,
    Unavailable,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.message import Request, Response
from moonpool.middleware.answered import Answered
from moonpool.middleware.failover import Failover, TierTable

MOVED = (b"x-moonpool-fallback", b"failover")


def at(name: str, **fields) -> Target:
    return Target(id=name, url=f"https://{name}.example/v1", **fields)


def spilled(ctx) -> list[str]:
    return [entry[2] for entry in ctx.trace() if entry[:2] == ("failover", "spill")]


@pytest.fixture
def chain_of(layer, said):
    """`m` at a, then at b, and `n`, which may answer instead, at c."""

    def offer(**fields) -> None:
        layer.client.script = {name: [said.answer(name)] for name in "abcd"}
        layer.offer(
            Model(id="m", targets=(at("a"), at("b", priority=1)), **({"fallbacks": ("n",)} | fields)),
            Model(id="n", targets=(at("c"),)),
            Model(id="o", targets=(at("d"),)),
        )

    return offer


async def test_the_first_tier_answers_as_long_as_it_can(layer, chain_of) -> None:
    chain_of()
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert layer.client.asked_of == ["a"]
    assert (ctx.model, ctx.fallback, ctx.tier.name) == ("m", "", "m/0")
    assert MOVED not in response.headers
    assert not ctx.last_tier


@pytest.mark.parametrize(
    ("down", "asked", "alias"),
    [("a", ["a", "b"], "m"), ("ab", ["a", "b", "c"], "n")],
)
async def test_the_next_tier_is_asked_at_once(layer, chain_of, down: str, asked, alias: str) -> None:
    chain_of()
    for name in down:
        layer.client.script[name] = [ConnectionReset("x")]
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert layer.client.asked_of == asked
    assert layer.waits == []
    assert asked[-1].encode() in response.body
    assert response.headers.count(MOVED) == 1
    assert (ctx.model, ctx.fallback) == (alias, "failover")
    assert ctx.last_tier == (alias == "n")
    verdicts = [entry[1] for entry in ctx.trace() if entry[0] == "failover"]
    assert verdicts == ["next"] * len(down) + ["moved"]
    assert layer.idle


async def test_the_fallback_gets_its_own_name_in_the_body(layer, chain_of) -> None:
    chain_of()
    layer.client.script |= {"a": [ConnectionReset("x")], "b": [ConnectionReset("x")]}
    await layer.model()
    bodies = [request.body for _, request, _ in layer.client.sent]
    assert b'"model":"m"' in bodies[0]
    assert b'"model":"n"' in bodies[2]


async def test_a_fallback_answers_for_a_model_that_nobody_has(layer, chain_of) -> None:
    """With no tier of its own at all the answer still is another model's, and billed as such."""
    chain_of()
    layer.offer(
        Model(id="m", targets=(Target(id="local"),), fallbacks=("n",)), Model(id="n", targets=(at("c"),))
    )
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert layer.client.asked_of == ["c"]
    assert (ctx.model, ctx.fallback) == ("n", "failover")
    assert MOVED in response.headers


async def test_instances_before_releases_before_targets(layer, said) -> None:
    layer.run("inference-0@v1", "inference-1@v1", "inference-2@v2")
    layer.offer(Model(id="m", targets=(Target(id="local"), at("a", priority=1))))
    layer.client.answer = ConnectFailed("x")
    layer.client.script = {"a": [said.answer()]}
    ctx = layer.model_ctx(release_wanted="v1")
    await layer.model(ctx)
    asked = layer.client.asked_of
    assert set(asked[:2]) == {"inference-0", "inference-1"}
    assert asked[2:] == ["inference-2", "a"]
    assert (ctx.model, ctx.release) == ("m", "external")
    assert layer.idle


async def test_only_the_last_tier_is_waited_for(layer, said) -> None:
    layer.offer(Model(id="m", targets=(at("a"), at("b", priority=1))))
    layer.client.script = {
        "a": [said.refusal(503, retry_after=3)],
        "b": [said.refusal(503, retry_after=2), said.answer()],
    }
    assert (await layer.model()).status == 200
    assert layer.client.asked_of == ["a", "b", "b"]
    assert layer.waits == [2.0]


async def test_nothing_runs(layer) -> None:
    ctx = layer.service_ctx()
    with pytest.raises(Unavailable, match="chat") as raised:
        await layer.service(ctx)
    assert (raised.value.code, raised.value.retry_after) == ("no_instance", 1.0)
    assert ctx.flags == [Flag.NO_HEALTHY_UPSTREAM]
    layer.offer(Model(id="m", targets=(Target(id="local"),)))
    with pytest.raises(Unavailable, match="`m`"):
        await layer.model()


# ── which error is told ──────────────────────────────────────────────────────────────────────────


def told(layer, chance=None) -> Failover:
    services = Services(layer.pools)
    return Failover(TierTable(services, layer.models), layer.breakers, layer.budget, chance or layer.chance)


RANKED = [
    Answered(Response(503, [(b"content-type", b"application/json")], b"{}")),
    FirstByteTimeout("x"),
    StreamStalled("x"),
    UpstreamMalformed("x"),
    ConnectionReset("x"),
    UpstreamError("x"),
    ConnectFailed("x"),
    Overloaded("x"),
    CircuitOpen("x"),
    Unavailable("x"),
]


@pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
@pytest.mark.parametrize("place", range(len(RANKED) - 1))
async def test_the_most_useful_error_is_told_not_the_last(layer, order: str, place: int) -> None:
    errors: list[MoonpoolError] = RANKED[place:]
    shown = {"rising": errors, "falling": errors[::-1], "shuffled": errors[1:] + errors[:1]}[order]
    layer.offer(Model(id="m", targets=tuple(at(f"t{n}", priority=n) for n in range(len(shown)))))
    left = list(shown)

    async def below(ctx, request) -> Response:
        raise left.pop(0)

    ctx = layer.model_ctx(model="m")
    request = Request("POST", "/", body=b"x")
    if place == 0:
        assert (await told(layer)(ctx, request, below)).status == 503
    else:
        with pytest.raises(type(RANKED[place])) as raised:
            await told(layer)(ctx, request, below)
        assert raised.value is RANKED[place]
    assert left == []


async def test_an_endpoint_s_own_words_are_told_and_whose_they_are(layer, said) -> None:
    layer.run("chat-0@v1", "chat-1@v2")
    layer.client.script = {"chat-0": [said.refusal(503)], "chat-1": [ConnectFailed("x")]}
    ctx = layer.service_ctx(release_wanted="v1")
    response = await layer.service(ctx)
    assert response.status == 503
    assert b"no: 503" in response.body
    assert response.header(b"x-moonpool-release") == b"chat@v1"
    assert {"chat-0", "chat-1"} == {attempt.endpoint for attempt in ctx.attempts}
    assert response.header(b"x-moonpool-fallback") is None


async def test_what_is_no_failure_of_an_endpoint_ends_it_at_once(layer, chain_of) -> None:
    chain_of()
    layer.client.answer = None
    layer.client.script = {"a": [ZeroDivisionError()]}
    with pytest.raises(ZeroDivisionError):
        await layer.model()
    assert layer.client.asked_of == ["a"]
    assert layer.idle


# ── what is asked elsewhere at all ───────────────────────────────────────────────────────────────


async def test_a_post_goes_on_only_when_nobody_has_seen_it(layer) -> None:
    layer.run("chat-0@v1", "chat-1@v2")
    layer.client.answer = Response(200, [], b"ok")
    layer.client.script = {"chat-0": [ConnectionReset("x")]}
    with pytest.raises(ConnectionReset):
        await layer.service(layer.service_ctx("POST", release_wanted="v1"), b"x")
    assert layer.client.asked_of == ["chat-0"]
    layer.open("chat-0")
    layer.clock.advance(1.0)
    response = await layer.service(layer.service_ctx("POST", release_wanted="v1"), b"x")
    assert layer.client.asked_of == ["chat-0", "chat-1"]
    assert response.headers.count(MOVED) == 1


async def test_an_open_breaker_costs_no_budget_an_error_does(layer, chain_of) -> None:
    chain_of(fallbacks=())
    now = layer.clock.monotonic()

    async def cost() -> int:
        before = layer.budget.available(now)
        await layer.model()
        return round(before + layer.policy.budget_share - layer.budget.available(now))

    layer.client.script["a"] = [ConnectionReset("x")]
    assert await cost() == 1
    layer.open("a")
    layer.chance.value = 0.0
    assert await cost() == 0


async def test_a_spent_budget_ends_failover_and_is_told(layer, chain_of) -> None:
    chain_of()
    layer.client.script["a"] = [ConnectionReset("x")]
    layer.spend_budget()
    ctx = layer.model_ctx()
    with pytest.raises(ConnectionReset) as raised:
        await layer.model(ctx)
    assert raised.value.should_retry is False
    assert layer.client.asked_of == ["a"]
    assert ctx.flags.count(Flag.BUDGET_DENIED) == 1
    assert layer.idle


async def test_what_retry_was_denied_failover_is_too(layer) -> None:
    layer.run("chat-0@v1", "chat-1@v1", "chat-2@v2")
    layer.client.answer = ConnectionReset("x")
    layer.spend_budget()
    ctx = layer.service_ctx(release_wanted="v1")
    with pytest.raises(ConnectionReset):
        await layer.service(ctx)
    assert len(layer.client.sent) == 1
    assert ctx.flags.count(Flag.BUDGET_DENIED) == 1


async def test_every_request_pays_into_the_budget_once(layer, chain_of) -> None:
    chain_of()
    now = layer.clock.monotonic()
    before = layer.budget.available(now)
    for _ in range(10):
        await layer.model()
    assert layer.budget.available(now) - before == pytest.approx(10 * layer.policy.budget_share)


# ── chains of their own ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "asked", "model"),
    [
        ({"code": "context_length_exceeded"}, ["a", "c"], "n"),
        ({"code": None, "type": "exceed_context_size_error"}, ["a", "c"], "n"),
        ({"code": "content_policy_violation"}, ["a", "d"], "o"),
        ({"code": "content_filter"}, ["a", "d"], "o"),
        ({"code": "invalid_prompt"}, ["a", "d"], "o"),
        ({"code": "invalid_temperature"}, ["a"], "m"),
        ({"code": 7}, ["a"], "m"),
        ({}, ["a"], "m"),
    ],
)
async def test_a_refusal_of_the_request_itself_has_its_own_chain(
    layer, chain_of, said, error, asked, model: str
) -> None:
    chain_of(fallbacks=(), context_fallbacks=("n",), policy_fallbacks=("o",))
    layer.client.script["a"] = [said.refusal(400, **error)]
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert layer.client.asked_of == asked
    assert ctx.model == model
    moved = model != "m"
    assert response.status == (200 if moved else 400)
    assert response.headers.count(MOVED) == (1 if moved else 0)
    assert ctx.fallback == ("failover" if moved else "")
    assert layer.idle


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_without_a_chain_of_its_own_a_refusal_is_told(layer, chain_of, said, status: int) -> None:
    chain_of()
    layer.client.script["a"] = [said.refusal(status, code="context_length_exceeded")]
    response = await layer.model()
    assert (response.status, layer.client.asked_of) == (status, ["a"])


async def test_when_the_chain_fails_the_refusal_is_told(layer, chain_of, said) -> None:
    chain_of(fallbacks=(), context_fallbacks=("n",))
    layer.client.script["a"] = [said.refusal(400, code="context_length_exceeded")]
    layer.client.script["c"] = [ConnectionReset("x")]
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert response.status == 400
    assert b"context_length_exceeded" in response.body
    assert MOVED not in response.headers
    assert (ctx.model, ctx.fallback) == ("m", "")
    assert "c" in layer.client.asked_of
    assert layer.idle


async def test_the_chain_of_a_refusal_costs_budget_too(layer, chain_of, said) -> None:
    chain_of(fallbacks=(), context_fallbacks=("n",))
    layer.client.script["a"] = [said.refusal(400, code="context_length_exceeded")]
    layer.spend_budget()
    assert (await layer.model()).status == 400
    assert layer.client.asked_of == ["a"]


async def test_the_second_of_a_chain_answers_when_the_first_is_down(layer, chain_of, said) -> None:
    chain_of(fallbacks=(), context_fallbacks=("n", "o"))
    layer.client.script["a"] = [said.refusal(400, code="context_length_exceeded")]
    layer.client.script["c"] = [ConnectionReset("x")]
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert layer.client.asked_of == ["a", "c", "d"]
    assert ctx.model == "o"
    assert response.headers.count(MOVED) == 1


async def test_a_fallback_that_finds_the_prompt_too_long_has_its_own_chain(layer, said) -> None:
    layer.offer(
        Model(id="m", targets=(at("a"),), fallbacks=("n",)),
        Model(id="n", targets=(at("c"),), context_fallbacks=("o",)),
        Model(id="o", targets=(at("d"),)),
    )
    layer.client.script = {
        "a": [ConnectionReset("x")],
        "c": [said.refusal(400, code="context_length_exceeded")],
        "d": [said.answer()],
    }
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert (response.status, ctx.model) == (200, "o")
    assert response.headers.count(MOVED) == 1


# ── spill-over ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("instances", "out", "share"),
    [(3, 0, 1.0), (4, 1, 1.0), (2, 1, 0.7), (4, 2, 0.7), (4, 3, 0.35), (3, 3, 0.0)],
)
@pytest.mark.parametrize("how", ["open", "starting"])
async def test_as_much_stays_as_the_healthy_can_bear(
    layer, instances: int, out: int, share: float, how: str
) -> None:
    """1.4 times the healthy part; the rest goes to the next tier at once."""
    for n in range(instances):
        layer.run(f"chat-{n}@v1", state="starting" if how == "starting" and n < out else "ready")
        if how == "open" and n < out:
            layer.open(f"chat-{n}")
    layer.run("chat-9@v2")
    begins = []

    async def below(ctx, request) -> Response:
        begins.append(ctx.tier.name)
        return Response(200)

    failover = told(layer, Random(7))
    for _ in range(1000):
        await failover(layer.service_ctx(release_wanted="v1"), Request("GET", "/"), below)
    stayed = begins.count("chat@v1") / len(begins)
    if share in (0.0, 1.0):
        assert stayed == share
    else:
        assert stayed == pytest.approx(share, abs=0.05)
    assert set(begins) <= {"chat@v1", "chat@v2"}


async def test_what_spills_over_to_another_model_is_called_so(layer, chain_of) -> None:
    chain_of()
    layer.open("a")
    layer.open("b")
    ctx = layer.model_ctx()
    response = await layer.model(ctx)
    assert layer.client.asked_of == ["c"]
    assert (ctx.model, ctx.fallback) == ("n", "failover")
    assert response.headers.count(MOVED) == 1
    assert spilled(ctx) == ["to n/0"]


async def test_what_spilled_over_in_vain_comes_back_to_its_own_tier(layer, said) -> None:
    layer.run("chat-0@v1", "chat-1@v1", "chat-2@v2")
    layer.open("chat-0")
    layer.chance.value = 0.9
    layer.client.answer = Response(200, [], b"ok")
    layer.client.script = {"chat-2": [ConnectFailed("x")]}
    ctx = layer.service_ctx(release_wanted="v1")
    response = await layer.service(ctx)
    assert layer.client.asked_of == ["chat-2", "chat-1"]
    assert spilled(ctx) == ["to chat@v2"]
    assert (ctx.fallback, response.header(b"x-moonpool-fallback")) == ("", None)  # the real answer


async def test_with_everything_open_the_caller_is_told_when_to_come_back(layer) -> None:
    layer.run("chat-0@v1", "chat-1@v2")
    layer.open("chat-0")
    layer.clock.advance(2.0)
    layer.open("chat-1")
    ctx = layer.service_ctx(release_wanted="v1")
    with pytest.raises(CircuitOpen) as raised:
        await layer.service(ctx)
    assert raised.value.retry_after is not None
    assert 3.0 <= raised.value.retry_after <= 5.0
    assert layer.client.sent == []


async def test_the_factor_is_the_operator_s(layer) -> None:
    layer.run("chat-0@v1", "chat-1@v1", "chat-2@v2")
    layer.open("chat-0")
    begins = []

    async def below(ctx, request) -> Response:
        begins.append(ctx.tier.name)
        return Response(200)

    table = TierTable(Services(layer.pools), layer.models)
    for enough in (1.0, 2.0):
        layer.chance.value = 0.8
        failover = Failover(table, layer.breakers, layer.budget, layer.chance, enough=enough)
        await failover(layer.service_ctx(release_wanted="v1"), Request("GET", "/"), below)
    assert begins == ["chat@v2", "chat@v1"]


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["first", "second", "chain"])
@pytest.mark.parametrize("at_await", ["head", "content", "refusal", "whole"])
async def test_a_client_that_leaves_leaks_nothing(layer, chain_of, said, place: str, at_await: str) -> None:
    chain_of(context_fallbacks=("n",))
    before: dict[str, list] = {
        "first": [],
        "second": [ConnectionReset("x")],
        "chain": [said.refusal(400, code="context_length_exceeded")],
    }[place]
    hanging = {"head": None, "content": said.streaming(said.ROLE)}.get(at_await)
    if at_await in ("refusal", "whole"):
        hanging = said.streaming(b'{"ch')
        hanging.headers[:] = [(b"content-type", b"application/json")]
        hanging.status = 503 if at_await == "refusal" else 200
    layer.client.script, layer.client.first = {}, before
    layer.client.answer = hanging
    task = asyncio.create_task(layer.model(stream=at_await == "content"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    assert not layer.idle
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert layer.idle
    assert len(layer.client.sent) == (1 if place == "first" else 2)
    if hanging is not None:
        assert hanging.body.outcome is not None
