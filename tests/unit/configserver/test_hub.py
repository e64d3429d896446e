"""Each watcher at its own pace, and nobody waits for a slow one."""

import asyncio

import pytest

from moonpool.configserver.hub import BACKLOG, Hub
from moonpool.contracts.documents.wire import Beat, Changed, Snapshot, Stored

START = Snapshot(epoch="e", sequence=1)


def change(sequence: int) -> Changed:
    document = Stored(name="platform", version=sequence, content={}, author="a", sequence=sequence)
    return Changed(sequence=sequence, document=document)


@pytest.fixture
def hub() -> Hub:
    hub = Hub(beat=0.01)
    hub.publish(START, START)
    return hub


async def test_who_is_up_to_date_gets_a_beat_first_and_everybody_else_everything(hub: Hub) -> None:
    assert b'"beat"' in await anext(hub.watch("e:1"))
    for since in ("", "e:0", "other:1", "nonsense"):
        assert b'"snapshot"' in await anext(hub.watch(since))


async def test_beats_come_while_nothing_happens(hub: Hub) -> None:
    events = hub.watch("")
    await anext(events)
    assert b'"beat"' in await anext(events)
    assert b'"beat"' in await anext(events)


async def test_changes_come_in_order(hub: Hub) -> None:
    events = hub.watch("")
    await anext(events)
    for sequence in (2, 3):
        hub.publish(Snapshot(epoch="e", sequence=sequence), change(sequence))
    assert b'"sequence":2' in await anext(events)
    assert b'"sequence":3' in await anext(events)


async def test_a_watcher_that_does_not_keep_up_is_let_go(hub: Hub) -> None:
    events = hub.watch("")
    await anext(events)
    for _ in range(BACKLOG + 1):
        hub.publish(START, Beat(epoch="e", sequence=1))
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert hub.watchers == 0


async def test_closing_ends_every_watch(hub: Hub) -> None:
    events = [hub.watch(""), hub.watch("")]
    for each in events:
        await anext(each)
    waiting = [asyncio.ensure_future(anext(each, None)) for each in events]
    hub.close()
    assert await asyncio.gather(*waiting) == [None, None]
    assert hub.watchers == 0
