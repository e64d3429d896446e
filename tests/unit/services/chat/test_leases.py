"""Answers whose instance dies, drains, or is another one: on one database, with two instances."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import structlog
from litestar.testing import AsyncTestClient
from prometheus_client import CollectorRegistry

from moonpool.asgi.parts import Parts
from moonpool.contracts.clients import Clients
from moonpool.core.body import Outcome
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Conflict, StreamStalled, Unavailable
from moonpool.core.principal import Principal
from moonpool.services.chat.app import create
from moonpool.services.chat.leases import LEASE, Leases
from moonpool.services.chat.metrics import make_metrics
from moonpool.services.chat.run import Run
from moonpool.services.chat.runner import Runner
from moonpool.services.chat.schema import Message, NewConversation, NewMessage, Status
from moonpool.services.chat.service import Chat
from moonpool.services.chat.store import Store

ME = Principal(user="user_member", tenant="org_test")


class Instance:
    """One chat instance without its HTTP and background job."""

    def __init__(self, parts: Parts, model: Any, *, answer_seconds: float = 60.0) -> None:
        self.model = model
        self.clock = parts.clock
        self.leases = Leases(parts.database, parts.clock, instance=parts.instance)
        metrics = make_metrics(CollectorRegistry())
        self.runner = Runner(
            self.leases, model, parts.clock, structlog.get_logger(), metrics, answer_seconds=answer_seconds
        )
        self.store = Store(parts.database, parts.clock, instance=parts.instance)
        self.chat = Chat(self.store, self.runner, None, default_model="m", default_context=8192)

    async def begin(self, conversation: str) -> tuple[Run, Any]:
        """A running answer, and the model's stream of it."""
        run, _ = await self.chat.ask(ME, conversation, NewMessage(content="Hello"))
        return run, await self.model.next_stream()

    async def message(self, run: Run) -> Message:
        return await self.store.message(ME, run.conversation, run.id)

    async def die(self, run: Run) -> None:
        """As `kill -9` would: nothing of it is written any more."""
        self.leases.settle = _never  # type: ignore[method-assign]
        assert run.task is not None
        run.task.cancel()
        with suppress(asyncio.CancelledError):
            await run.task


async def _never(*_: Any) -> None:
    pass


@pytest.fixture
async def one(make_parts: Any, model: Any) -> Instance:
    parts = await make_parts("chat", instance="chat-0", clients=Clients(inference=model))
    return Instance(parts, model)


@pytest.fixture
async def other(one: Instance, make_parts: Any, model: Any) -> Instance:
    return Instance(await make_parts("chat", instance="chat-1", clock=one.clock), model)


@pytest.fixture
async def conversation(one: Instance) -> str:
    return (await one.store.create(ME, NewConversation())).id


async def feed(run: Run, stream: Any, data: bytes, size: int) -> None:
    """Feed and wait until it has arrived."""
    stream.feed(data)
    async with asyncio.timeout(2.0):
        while run.answer.size < size:
            await asyncio.sleep(0)


async def test_a_beat_stores_what_has_arrived(one: Instance, conversation: str, wire: Any) -> None:
    run, stream = await one.begin(conversation)
    await feed(run, stream, wire.chunk("Half"), 4)
    assert (await one.message(run)).content == ""
    await one.runner.beat()
    message = await one.message(run)
    assert (message.status, message.content) == (Status.STREAMING, "Half")
    await one.runner.drain(0.0)


async def test_the_answer_of_a_dead_instance_is_interrupted_with_its_text(
    one: Instance, other: Instance, conversation: str, wire: Any
) -> None:
    run, stream = await one.begin(conversation)
    await feed(run, stream, wire.chunk("Half"), 4)
    await one.runner.beat()
    await one.die(run)
    await other.runner.sweep()
    assert (await other.message(run)).status is Status.STREAMING
    with pytest.raises(Conflict):
        await other.chat.ask(ME, conversation, NewMessage(content="x"))
    assert isinstance(one.clock, ManualClock)
    one.clock.advance(LEASE + 0.1)
    await other.runner.sweep()
    message = await other.message(run)
    assert (message.status, message.content) == (Status.INTERRUPTED, "Half")


async def test_a_dead_answer_does_not_block_the_next_question(
    one: Instance, other: Instance, conversation: str
) -> None:
    run, _ = await one.begin(conversation)
    await one.die(run)
    assert isinstance(one.clock, ManualClock)
    one.clock.advance(LEASE + 0.1)
    await other.begin(conversation)
    assert (await other.message(run)).status is Status.INTERRUPTED
    await other.runner.drain(0.0)


async def test_a_living_answer_is_not_swept_however_long_it_is_silent(
    one: Instance, other: Instance, conversation: str
) -> None:
    run, _ = await one.begin(conversation)
    assert isinstance(one.clock, ManualClock)
    for _ in range(4):
        one.clock.advance(LEASE / 2)
        await one.runner.beat()
        await other.runner.sweep()
    assert (await other.message(run)).status is Status.STREAMING
    await one.runner.drain(0.0)


async def test_an_instance_taken_for_dead_stops_its_answer(
    one: Instance, other: Instance, conversation: str
) -> None:
    run, stream = await one.begin(conversation)
    assert isinstance(one.clock, ManualClock)
    one.clock.advance(LEASE + 0.1)
    await other.runner.sweep()
    await one.runner.beat()
    await asyncio.wait_for(run.ended.wait(), 2.0)
    assert stream.outcome is Outcome.CANCELLED
    assert (await one.message(run)).status is Status.INTERRUPTED


async def test_cancelling_through_another_instance(
    one: Instance, other: Instance, conversation: str, wire: Any
) -> None:
    run, stream = await one.begin(conversation)
    await feed(run, stream, wire.chunk("Half"), 4)
    cancelling = asyncio.create_task(other.chat.cancel(ME, conversation, run.id))
    async with asyncio.timeout(2.0):
        while not run.ended.is_set():
            assert isinstance(one.clock, ManualClock)
            one.clock.advance(LEASE / 4)
            await one.runner.beat()
            await asyncio.sleep(0.01)
    message = await cancelling
    assert (message.status, message.content) == (Status.CANCELLED, "Half")
    assert stream.outcome is Outcome.CANCELLED


async def test_joining_through_another_instance(
    one: Instance, other: Instance, conversation: str, wire: Any
) -> None:
    run, stream = await one.begin(conversation)
    await feed(run, stream, wire.chunk("one "), 4)
    await one.runner.beat()
    events = await other.chat.join(ME, conversation, run.id)
    text = (await anext(events)).decode()
    assert wire.words(text) == "one "
    stream.feed(wire.chunk("two") + wire.DONE)
    stream.finish()
    async for event in events:
        text += event.decode()
    assert wire.words(text) == "one two"
    assert text.endswith("data: [DONE]\n\n")


async def test_draining_waits_for_answers_and_interrupts_the_late(
    one: Instance, conversation: str, wire: Any
) -> None:
    quick, stream = await one.begin(conversation)
    slow, held = await one.begin((await one.store.create(ME, NewConversation())).id)
    await feed(slow, held, wire.chunk("Half"), 4)
    stream.feed(wire.chunk("all") + wire.DONE)
    stream.finish()
    await one.runner.drain(0.05)
    assert (await one.message(quick)).status is Status.COMPLETED
    message = await one.message(slow)
    assert (message.status, message.content) == (Status.INTERRUPTED, "Half")
    assert held.outcome is Outcome.CANCELLED


async def test_an_answer_has_a_longest_time(make_parts: Any, model: Any) -> None:
    one = Instance(await make_parts("chat"), model, answer_seconds=0.02)
    run, stream = await one.begin((await one.store.create(ME, NewConversation())).id)
    await asyncio.wait_for(run.ended.wait(), 2.0)
    message = await one.message(run)
    assert message.status is Status.FAILED
    assert message.error is not None
    assert message.error.code == "deadline_exceeded"
    assert stream.outcome is Outcome.CANCELLED


async def test_no_done_before_the_answer_is_stored(
    one: Instance, conversation: str, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moonpool.services.chat.runner._SETTLE_DELAYS", (0.0, 0.0))
    settle, tries = one.leases.settle, 0

    async def full(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        raise Unavailable("the disk is full")

    one.leases.settle = full  # type: ignore[method-assign]
    run, stream = await one.begin(conversation)
    stream.feed(wire.chunk("Hi") + wire.DONE)
    stream.finish()
    text = b"".join([event async for event in run.follow()]).decode()
    assert tries == 3
    assert "[DONE]" not in text
    assert "could not be stored" in text

    one.leases.settle = settle  # type: ignore[method-assign]
    assert isinstance(one.clock, ManualClock)
    one.clock.advance(LEASE + 0.1)
    again, stream = await one.begin(conversation)
    stream.fail(StreamStalled("silence"))
    await asyncio.wait_for(again.ended.wait(), 2.0)
    assert (await one.message(again)).status is Status.FAILED


async def test_two_instances_begin_one_answer(one: Instance, other: Instance, conversation: str) -> None:
    asks = [instance.chat.ask(ME, conversation, NewMessage(content="x")) for instance in (one, other) * 3]
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 5
    await one.runner.drain(0.0)
    await other.runner.drain(0.0)


async def test_the_application_drains_until_the_deadline_it_was_given(
    make_parts: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await make_parts("chat", clients=Clients(inference=model))
    drained: list[float] = []

    async def drain(self: Runner, seconds: float) -> None:
        drained.append(seconds)

    monkeypatch.setattr(Runner, "drain", drain)
    parts.shutdown.begin(20.0)
    async with AsyncTestClient(create(parts)):
        assert not drained
    (seconds,) = drained
    assert 10.0 < seconds <= 19.0  # what the start took on a busy machine is off


async def test_who_starts_in_the_slot_of_the_dead_frees_their_conversations_at_once(
    make_parts: Any, model: Any, wire: Any
) -> None:
    """No time passes: nobody gets a 409 until a lease has run out."""
    parts = await make_parts("chat", instance="chat-1-a", clients=Clients(inference=model))
    dead = Instance(parts, model)
    living = Instance(await make_parts("chat", instance="chat-10-a", clock=parts.clock), model)
    first, second = [(await dead.store.create(ME, NewConversation())).id for _ in range(2)]
    run, stream = await dead.begin(first)
    await feed(run, stream, wire.chunk("Half"), 4)
    await dead.runner.beat()
    await dead.die(run)
    other_run, _ = await living.begin(second)
    successor = await make_parts(
        "chat", instance="chat-1-b", slot="chat-1", clock=parts.clock, clients=parts.clients
    )
    async with AsyncTestClient(create(successor)):
        message = await dead.message(run)
        assert (message.status, message.content) == (Status.INTERRUPTED, "Half")
        again, _ = await Instance(successor, model).begin(first)
        assert (await living.message(other_run)).status is Status.STREAMING
        again.stop(Status.INTERRUPTED)
    await living.runner.drain(0.0)
