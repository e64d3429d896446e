"""Spill-over and hedging between real sockets (tests/harness/layer.py)."""

import asyncio
from typing import Any

from harness.layer import PATIENCE, Gate, House
from moonpool.middleware.hedge import FEWEST

# ── spill-over ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_half_of_a_tier_cannot_bear_goes_to_the_reserve_until_it_is_whole_again(
    running: Any,
) -> None:
    house = await running("a", "b", "c", "d", "reserve", reserves=1)
    well = await house.told(20)
    assert (well["reserve"], well["moved"]) == (0, 0)

    for endpoint in house.endpoints[:2]:
        endpoint.down = True
    await house.told(20)  # until both breakers are open
    found = await house.told(200)
    assert found["a"] == found["b"] == 0
    # Half of the tier is trusted with 1.4 times its share: 70 %. Four standard deviations either way.
    assert 60 - 26 <= found["reserve"] <= 60 + 26
    assert found["moved"] == found["reserve"]

    for endpoint in house.endpoints[:2]:
        endpoint.down = False
    house.clock.advance(60.0)
    await house.told(40)  # among them the probes
    assert (await house.told(40))["reserve"] == 0
    assert not house.held()


async def test_all_goes_to_the_reserve_when_the_tier_is_gone_and_nothing_when_it_is_back(
    running: Any,
) -> None:
    house = await running("a", "b", "reserve", reserves=1)
    for endpoint in house.endpoints[:2]:
        endpoint.down = True
    assert await house.told(30) == {"reserve": 30, "moved": 30}
    assert "spill" in house.decided("failover")
    assert len(house.named.seen[-1].attempts) == 1, "who is known to be down is not asked first"
    for endpoint in house.endpoints[:2]:
        endpoint.down = False
    house.clock.advance(60.0)
    await house.told(30)
    assert (await house.told(20))["reserve"] == 0
    assert [event["outcome"] for event in house.journal.closed] == ["completed"] * 80
    assert not house.held()


# ── hedging ────────────────────────────────────────────────────────────────────────────────────────────────


async def learn(house: House) -> None:
    """How long first tokens take."""
    for _ in range(FEWEST):
        await house.ask(stream=True)
    house.journal.closed.clear()


async def test_who_comes_second_answers_when_the_first_is_late(running: Any, gate: Gate) -> None:
    house = await running("alpha", "beta")
    await learn(house)
    gate.held = {gate.came: asyncio.Event()}
    answer = await house.ask(stream=True)

    first, second = (attempt.endpoint for attempt in house.named.seen[-1].attempts)
    assert first != second
    assert house.decided("hedge") == ["second", "won"]
    late = next(one for one in house.endpoints if one.name not in answer.text)
    await asyncio.wait_for(late.left.wait(), 5.0)
    assert answer.text.endswith("data: [DONE]\n\n")
    (event,) = house.journal.closed
    assert (event["outcome"], event["usage"]["completion_tokens"]) == ("completed", 1), "metered once"
    assert event["target"] == house.named.seen[-1].attempts[-1].endpoint
    assert not house.held()
    now = house.clock.monotonic()
    (tier,) = house.models.tiers("m")
    assert len(house.breakers.admitted(tier.candidates, now)) == 2, "to be late is not to have failed"


async def test_who_was_first_answers_when_it_comes_first_after_all(running: Any, gate: Gate) -> None:
    house = await running("alpha", "beta")
    await learn(house)
    second_came = asyncio.Event()
    gate.held = {gate.came: second_came, gate.came + 1: asyncio.Event()}
    gate.opens = {gate.came + 1: second_came}
    answer = await house.ask(stream=True)

    assert house.decided("hedge") == ["second"]
    left = next(one for one in house.endpoints if one.name not in answer.text)
    await asyncio.wait_for(left.left.wait(), 5.0)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert len(house.journal.closed) == 1
    assert not house.held()


async def test_nobody_is_asked_twice_in_time_or_alone(running: Any, gate: Gate) -> None:
    house = await running("alpha", "beta")
    await learn(house)
    await house.ask(stream=True)
    assert (len(house.named.seen[-1].attempts), house.decided("hedge")) == (1, [])
    alone = await running("gamma")
    await learn(alone)
    gate.held = {gate.came: (release := asyncio.Event())}
    asking = asyncio.create_task(alone.ask(stream=True))
    await asyncio.wait([asking], timeout=2 * PATIENCE)
    assert not asking.done()
    release.set()
    await asking
    assert (len(alone.named.seen[-1].attempts), alone.decided("hedge")) == (1, [])
