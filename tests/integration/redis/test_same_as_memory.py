"""Redis says what memory says, step by step, at the same times."""

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.redis_server import RedisServer
from moonpool.adapters.limits.held import PREFIX
from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.adapters.limits.redis import RedisLimits
from moonpool.adapters.redis.address import parse_address
from moonpool.core.clock import ManualClock
from moonpool.ports.limits import Limits, Rate, Slot, Verdict

UNITS = (Rate("requests:a", "requests", 60, 3), Rate("requests:b", "requests-user", 120, 7))
RESERVES = (Rate("tokens:a", "tokens", 240, 40), Rate("tokens:b", "tokens-model", 60, 60))
SLOTS = (Slot("concurrent:a", "concurrent", 2), Slot("concurrent:b", "concurrent-user", 3))
LONG = 7200.0

some = st.integers(0, 3)
STEP = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 40)),  # quarters of a second
    st.tuples(st.just("take"), some, some, some, st.integers(0, 45)),
    st.tuples(st.just("use"), st.integers(0, 9), st.integers(0, 80)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 80)),
)


def chosen(of: Sequence[Rate] | Sequence[Slot], bits: int) -> tuple:
    return tuple(one for n, one in enumerate(of) if bits >> n & 1)


@dataclass
class Both:
    """The same of each store; `held` are pairs."""

    clock: ManualClock
    memory: Limits
    redis: RedisLimits
    held: list[tuple[Verdict, Verdict]] = field(default_factory=list)

    async def do(self, number: int, step: tuple[str, ...]) -> None:
        match step:
            case ("wait", quarters):
                self.clock.advance(quarters / 4)
            case ("take", units, slots, reserves, amount):
                wishes = (chosen(UNITS, units), chosen(SLOTS, slots), chosen(RESERVES, reserves), amount)
                one, other = await asyncio.gather(
                    *(taken(limits, f"r{number}", *wishes) for limits in (self.memory, self.redis))
                )
                self.compare(one, other)
                self.held.append((one, other))
            case ("use" | "settle" as how, index, used) if self.held:
                one, other = self.held[index % len(self.held)]
                getattr(self.memory, how)(one, used)
                getattr(self.redis, how)(other, used)
                await self.redis.flush()

    def compare(self, one: Verdict, other: Verdict) -> None:
        assert other.refused is one.refused
        assert other.wait == pytest.approx(one.wait, abs=1e-5)
        assert other.tightest is one.tightest
        assert other.remaining == one.remaining
        assert other.reset == pytest.approx(one.reset, abs=1e-5)


async def taken(limits: Limits, lease: str, *wishes: object) -> Verdict:
    verdict = limits.take(lease, *wishes)  # type: ignore[arg-type]
    return await verdict if inspect.isawaitable(verdict) else verdict


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=40))
def test_step_by_step(redis: RedisServer, runner: asyncio.Runner, steps: list[tuple[str, ...]]) -> None:
    runner.run(run(redis, steps))


async def run(redis: RedisServer, steps: list[tuple[str, ...]]) -> None:
    clock = ManualClock()
    memory = MemoryLimits(clock, lease_seconds=LONG)
    shared = RedisLimits(
        parse_address(f"{redis.url}?timeout=5"), clock=clock, store_clock=clock, lease_seconds=LONG
    )
    await shared.start()
    try:
        await shared._link.send("FLUSHDB")
        both = Both(clock, memory, shared)
        for number, step in enumerate(steps):
            await both.do(number, step)
        for _, held in both.held:
            shared.settle(held, 0)
        await shared.flush()
        assert shared.leases == shared.due == 0
        for slot in SLOTS:
            assert await shared._link.send("EXISTS", PREFIX + slot.key) == 0
        for rate in RESERVES:
            assert await shared._link.send("HGET", PREFIX + rate.key, "sum") in (None, b"0")
            assert await shared._link.send("EXISTS", f"{PREFIX}{rate.key}|held") == 0
    finally:
        await shared.stop()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner
