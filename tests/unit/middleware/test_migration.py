"""A stream that breaks goes on at another instance: at which, at whose expense, and when it does not."""

import asyncio

import pytest

from moonpool.contracts.catalogue import Model, Target
from moonpool.core.body import Stream
from moonpool.core.decisions import Flag
from moonpool.core.errors import ConnectFailed, ConnectionReset

RESET = ConnectionReset("gone")
REST = b'data: {"choices":[{"delta":{"content":" there"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


class Client:
    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = None

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None: ...

    def abort(self, error: Exception) -> None:
        self.error = error

    @property
    def whole(self) -> bool:
        return self.error is None and self.data.endswith(b"data: [DONE]\n\n")


class Platform:
    """Streams at the external targets a, b, … of one model; those of `script` are what each says next."""

    def __init__(self, layer, said, targets: str) -> None:
        self.layer, self.said = layer, said
        self.streams: dict[str, list[Stream]] = {name: [] for name in targets}
        self.contexts = []
        layer.offer(
            Model(
                id="m",
                targets=tuple(
                    Target(id=name, url=f"https://{name}.example/v1", priority=place)
                    for place, name in enumerate(targets)
                ),
            )
        )
        self.failing: dict[str, Exception] = {}
        send = layer.client.send

        async def answer(address, request, **timeouts):
            name = str(address).removesuffix(".example/v1").rpartition("/")[2]
            layer.client.answer = self.failing.get(name) or said.streaming(
                said.TEXT if not self.streams[name] or name == targets[0] else REST
            )
            response = await send(address, request, **timeouts)
            self.streams[name].append(response.body)
            return response

        layer.client.send = answer

    async def begin(self) -> Client:
        ctx = self.layer.model_ctx()
        self.contexts.append(ctx)
        response = await self.layer.model(ctx, stream=True)
        client = Client()
        response.body.connect(client)
        return client

    def end(self, name: str) -> None:
        for stream in self.streams[name]:
            if stream.outcome is None:
                stream.feed(STOP + self.said.DONE)
                stream.finish()

    async def kill(self, name: str) -> None:
        for stream in list(self.streams[name]):
            if stream.outcome is None:
                stream.fail(RESET)
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def left(self) -> float:
        return self.layer.budget.available(self.layer.clock.monotonic())


@pytest.fixture
def platform(layer, said):
    return lambda targets="ab": Platform(layer, said, targets)


async def test_it_goes_on_at_the_other_target(platform) -> None:
    stage = platform()
    client = await stage.begin()
    (ctx,) = stage.contexts
    assert ctx.payload is None  # what was asked is kept once, as bytes
    await stage.kill("a")
    assert ctx.payload is None
    stage.end("b")

    assert client.whole
    assert Flag.MIGRATED in ctx.flags
    assert [attempt.endpoint[0] for attempt in ctx.attempts] == ["a", "b"]
    assert ("failover", "continued") in {each[:2] for each in ctx.decisions}
    assert stage.layer.idle


async def test_all_streams_of_an_instance_may_break_at_once(platform) -> None:
    """Many more than there is budget for attempts that add to the load; and nothing of it is gone."""
    stage = platform()
    clients = [await stage.begin() for _ in range(400)]
    before = stage.left
    assert before < 400
    await stage.kill("a")
    stage.end("b")

    assert all(client.whole for client in clients)
    assert stage.left == before
    assert stage.layer.idle


async def test_a_continuation_that_breaks_is_charged(platform) -> None:
    stage = platform()
    client = await stage.begin()
    before = stage.left
    await stage.kill("a")
    await stage.kill("b")

    assert client.error is RESET
    assert stage.left == pytest.approx(before - 1)
    assert stage.layer.idle


async def test_one_that_nobody_takes_is_charged_for_each_who_was_asked(platform) -> None:
    stage = platform("abc")
    stage.failing = {"b": ConnectFailed("refused"), "c": ConnectFailed("refused")}
    client = await stage.begin()
    before = stage.left
    await stage.kill("a")

    assert client.error is RESET
    assert stage.left == pytest.approx(before - 2)
    assert stage.layer.idle


async def test_where_every_stream_breaks_the_load_stays_in_proportion(platform) -> None:
    """One after the other: at both, after their first word. A second attempt for each would double it."""
    stage = platform()
    stage.layer.breakers.admitted = lambda candidates, now: candidates  # panic: nobody is kept away
    offered = 3000
    for _ in range(offered):
        await stage.begin()
        await stage.kill("a")
        await stage.kill("b")

    made = sum(len(streams) for streams in stage.streams.values())
    assert made <= 1.2 * offered + 100
    assert sum(Flag.BUDGET_DENIED in ctx.flags for ctx in stage.contexts) == 2 * offered - made


async def test_without_budget_it_ends_with_its_error(platform) -> None:
    stage = platform()
    client = await stage.begin()
    stage.layer.spend_budget()
    await stage.kill("a")

    assert client.error is RESET
    (ctx,) = stage.contexts
    assert Flag.BUDGET_DENIED in ctx.flags
    assert ("failover", "denied") in {each[:2] for each in ctx.decisions}
    assert stage.streams["b"] == []


async def test_nobody_is_asked_twice(platform) -> None:
    stage = platform()
    client = await stage.begin()
    await stage.kill("a")
    await stage.kill("b")

    assert client.error is RESET
    assert [len(streams) for streams in stage.streams.values()] == [1, 1]
