import asyncio

import pytest

from moonpool.balancing.pools import Pools
from moonpool.contracts.resilience import RestartPolicy
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Flag
from moonpool.core.errors import Unavailable
from moonpool.middleware.restarts import Restarts
from moonpool.ports.discovery import Instance, Topology

POLICY = RestartPolicy(service_patience=5.0, model_patience=60.0)


class House:
    """One chat and one inference, as the topology says."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pools = Pools()
        self.restarts = Restarts(POLICY, self.pools, self.clock)

    def tell(self, state: str, *instances: str, release: str = "v1") -> None:
        names = instances or ("chat-0-a", "inference-0-a")
        modules = tuple(
            Instance(
                name=name.partition("-")[0],
                release=release,
                instance=name,
                pid=1,
                state=state,
                endpoint=f"unix:/run/{name}",
            )
            for name in names
        )
        self.pools.update(Topology(1, modules))

    def ask(self, service: str = "chat", left: float | None = None) -> "asyncio.Task[str]":
        ctx = self.ctx = Context(self.clock)
        if left is not None:
            ctx.deadline = Deadline(self.clock.monotonic() + left)

        async def instead() -> str:
            endpoint = self.pools.endpoints(service)[0]
            return (await self.restarts.instead(ctx, service, endpoint)).instance

        return asyncio.create_task(instead())


@pytest.fixture
def house() -> House:
    house = House()
    house.tell("ready")
    house.tell("crashed")
    return house


async def test_a_restart_is_waited_for(house: House) -> None:
    asked = house.ask()
    await asyncio.sleep(0)
    house.tell("starting", "chat-0-b", release="v2")
    await asyncio.sleep(0)
    assert not asked.done()

    house.tell("ready", "chat-0-b", release="v2")

    assert await asked == "chat-0-b"
    assert house.ctx.release == "v2"
    assert [decision[:2] for decision in house.ctx.decisions] == [("balancer", "chat-0-b")]


async def test_degraded_is_ready(house: House) -> None:
    house.tell("degraded", "chat-0-b")

    assert await house.ask() == "chat-0-b"


@pytest.mark.parametrize(("service", "patience"), [("chat", 5.0), ("inference", 60.0)])
async def test_patience_counts_from_the_loss(house: House, service: str, patience: float) -> None:
    house.clock.advance(patience - 0.001)
    early = house.ask(service)
    await asyncio.sleep(0)
    assert not early.done()

    house.tell("starting", "chat-0-b", "inference-0-b")  # another process, and the same outage
    house.clock.advance(0.001)

    with pytest.raises(Unavailable) as caught:
        await house.ask(service)
    assert caught.value.code == "no_instance"
    assert caught.value.retry_after
    assert house.ctx.flags == [Flag.NO_HEALTHY_UPSTREAM]
    with pytest.raises(Unavailable):
        await early


async def test_who_begins_to_wait_later_has_the_new_patience(house: House) -> None:
    early = house.ask()
    await asyncio.sleep(0)
    house.restarts.update(RestartPolicy(service_patience=0.0))

    with pytest.raises(Unavailable):
        await house.ask()
    assert not early.done()
    house.tell("ready", "chat-0-b")
    assert await early == "chat-0-b"


async def test_a_new_outage_is_a_new_patience(house: House) -> None:
    house.clock.advance(100.0)
    house.tell("ready", "chat-0-b")
    house.tell("crashed", "chat-0-b")
    asked = house.ask()
    await asyncio.sleep(0)
    assert not asked.done()

    house.tell("ready", "chat-0-c")

    assert await asked == "chat-0-c"


async def test_nobody_waits_longer_than_he_has_time(house: House) -> None:
    with pytest.raises(Unavailable):
        await asyncio.wait_for(house.ask(left=0.01), 1.0)


async def test_an_instance_of_the_release_is_preferred(house: House) -> None:
    modules = [
        Instance(
            name="chat", release=release, instance=f"chat-{release}", pid=1, state="ready", endpoint="unix:/x"
        )
        for release in ("v2", "v1")
    ]
    gone = house.pools.endpoints("chat")[0]
    house.pools.update(Topology(2, tuple(modules)))

    chosen = await house.restarts.instead(Context(house.clock), "chat", gone)

    assert chosen.release == "v1"
