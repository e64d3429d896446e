"""Every store of dead letters keeps this contract."""

import asyncio
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from random import Random

import msgspec
import pytest
import structlog

from harness.letters import MemoryLetters, make_letter
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.adapters.dead_letters.store import DatabaseDeadLetters
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.message import Response
from moonpool.middleware.letter_replay import Perform, Replays
from moonpool.middleware.letter_worker import LetterWorker
from moonpool.ports.dead_letters import Answered, DeadLetters, Failed, Letter, State, Which

MIGRATIONS = Path(str(resources.files("moonpool.adapters.dead_letters"))) / "migrations"


@pytest.fixture(params=["memory", "sqlite"])
async def letters(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DeadLetters]:
    store: DeadLetters = MemoryLetters()
    if request.param == "sqlite":
        store = DatabaseDeadLetters(SqliteDatabase(tmp_path / "letters.db", MIGRATIONS), [b"k" * 32])
    await store.start()
    yield store
    await store.stop()


async def test_what_is_put_comes_back(letters: DeadLetters) -> None:
    letter = make_letter(body=b"\x00\xff prompt", next_at=5.0)
    note = await letters.put(letter)
    back = await letters.get("dl_1")
    assert back is not None
    assert back.sent == letter.sent
    assert msgspec.structs.replace(back.note, dedupe="", size=0) == msgspec.structs.replace(
        letter.note, dedupe="", size=0
    )
    assert note.id == "dl_1"
    assert await letters.get("dl_2") is None


async def test_the_same_request_is_one_letter(letters: DeadLetters) -> None:
    await letters.put(make_letter("dl_1", dedupe="same"))
    assert (await letters.put(make_letter("dl_2", dedupe="same"))).id == "dl_1"
    assert await letters.count(Which()) == 1


async def test_many_at_once(letters: DeadLetters) -> None:
    """More than one batch, with the same request among them several times."""
    arrived = [make_letter(f"dl_{n:03}", dedupe=f"dedupe {n % 90}") for n in range(180)]
    notes = await asyncio.gather(*(letters.put(letter) for letter in arrived))
    assert [note.id for note in notes] == [f"dl_{n % 90:03}" for n in range(180)]
    assert await letters.count(Which()) == 90


async def test_lists_page_both_ways_and_filter(letters: DeadLetters) -> None:
    for n in range(5):
        state = State.DEAD if n % 2 else State.WAITING
        await letters.put(make_letter(f"dl_{n}", state=state, created_at=float(n)))
    await letters.put(make_letter("dl_9", tenant="t2", service="chat", route="/r", cause="c"))

    async def ids(limit: int = 9, after: str = "", oldest: bool = False, **which: object) -> str:
        notes = await letters.page(Which(**which), limit=limit, after=after, oldest=oldest)
        return "".join(note.id.removeprefix("dl_") for note in notes)

    assert await ids() == "943210"
    assert await ids(2, tenant="t1") == "43"
    assert await ids(2, tenant="t1", after="dl_3") == "21"
    assert await ids(2, tenant="t1", after="dl_1", oldest=True) == "23"
    assert await ids(states=(State.DEAD,)) == "31"
    assert await ids(tenant="t1", before=2.0) == "10"
    assert (
        await ids(service="chat")
        == await ids(route="/r")
        == await ids(cause="c")
        == await ids(id="dl_9")
        == "9"
    )
    assert await ids(id="dl_9", tenant="t1") == ""
    assert await letters.purge(Which(states=(State.DEAD,))) == 2
    assert await letters.count(Which(tenant="t1")) == 3


async def test_one_claim_at_a_time(letters: DeadLetters) -> None:
    await letters.put(make_letter())
    claims = await asyncio.gather(*(letters.claim("dl_1", now=10.0, until=20.0) for _ in range(5)))
    assert sum(claim is not None for claim in claims) == 1
    assert await letters.claim("dl_1", now=19.9, until=30.0) is None
    assert await letters.claim("dl_1", now=20.0, until=30.0) is not None
    assert await letters.claim("dl_7", now=0.0, until=1.0) is None


async def test_settling_ends_the_claim_and_keeps_what_happened(letters: DeadLetters) -> None:
    await letters.put(make_letter())
    letter = await letters.claim("dl_1", now=10.0, until=99.0)
    assert letter is not None
    failure = Failed(at=11.0, status=503, code="down", message="down")
    note = msgspec.structs.replace(letter.note, attempts=1, next_at=50.0, cause="down")
    await letters.settle(msgspec.structs.replace(letter, note=note, failures=(failure,)))
    again = await letters.claim("dl_1", now=12.0, until=99.0)
    assert again is not None
    assert (again.failures, again.note.attempts, again.note.cause) == ((failure,), 1, "down")
    note = msgspec.structs.replace(again.note, state=State.ANSWERED)
    answer = Answered(status=200, headers={"content-type": "x"}, body=b"\xffyes")
    await letters.settle(msgspec.structs.replace(again, note=note, answer=answer))
    assert await letters.claim("dl_1", now=1000.0, until=2000.0) is None
    done = await letters.get("dl_1")
    assert done is not None
    assert done.answer == answer


async def test_a_claim_is_prolonged_by_who_holds_it(letters: DeadLetters) -> None:
    await letters.put(make_letter())
    await letters.claim("dl_1", now=10.0, until=20.0)
    assert await letters.renew("dl_1", held=20.0, until=40.25)
    assert await letters.claim("dl_1", now=39.0, until=60.0) is None
    assert not await letters.renew("dl_1", held=20.0, until=80.0)
    assert await letters.claim("dl_1", now=41.0, until=70.0) is not None
    assert not await letters.renew("dl_1", held=40.25, until=80.0), "it is another's"
    assert not await letters.renew("dl_7", held=0.0, until=80.0)


async def test_who_was_held_up_does_not_undo_what_another_has_done(letters: DeadLetters) -> None:
    await letters.put(make_letter())
    late = await letters.claim("dl_1", now=10.0, until=20.0)
    other = await letters.claim("dl_1", now=21.0, until=30.0)
    assert late is not None
    assert other is not None
    done = msgspec.structs.replace(other.note, state=State.ANSWERED)
    assert await letters.settle(msgspec.structs.replace(other, note=done, answer=Answered(status=200)))
    assert not await letters.settle(late)
    assert (await letters.get("dl_1")).note.state is State.ANSWERED


async def test_what_was_purged_stays_so(letters: DeadLetters) -> None:
    await letters.put(make_letter())
    letter = await letters.claim("dl_1", now=1.0, until=2.0)
    assert letter is not None
    await letters.purge(Which(id="dl_1"))
    assert not await letters.settle(letter)
    assert await letters.get("dl_1") is None


async def test_due(letters: DeadLetters) -> None:
    await letters.put(make_letter("dl_1", next_at=30.0))
    await letters.put(make_letter("dl_2", next_at=10.0))
    await letters.put(make_letter("dl_3", next_at=20.0, service="chat"))
    await letters.put(make_letter("dl_4", next_at=0.0, state=State.DEAD))

    async def due(now: float, limit: int = 9, without: tuple[str, ...] = ()) -> list[str]:
        return [note.id for note in await letters.due(now=now, limit=limit, without=without)]

    assert await due(5.0) == []
    assert await due(30.0) == ["dl_2", "dl_3", "dl_1"]
    assert await due(30.0, 1) == ["dl_2"]
    assert await due(30.0, without=("inference",)) == ["dl_3"]
    await letters.claim("dl_2", now=30.0, until=40.0)
    assert await due(30.0) == ["dl_3", "dl_1"]
    assert await letters.hasten("inference", now=15.0) == 1
    assert await due(15.0) == ["dl_1"]


async def test_what_is_due_on_a_route_that_is_off_hides_nothing_else(letters: DeadLetters) -> None:
    for number in range(4):
        await letters.put(make_letter(f"dl_{number}", next_at=10.0, route="/off"))
    await letters.put(make_letter("dl_8", next_at=20.0, route="/off", method="PUT"))
    await letters.put(make_letter("dl_9", next_at=20.0, route="/on"))
    off = {("POST", "/off"), ("POST", "/other")}
    assert [note.id for note in await letters.due(now=30.0, limit=2, off=off)] == ["dl_8", "dl_9"]
    assert [note.id for note in await letters.due(now=30.0, limit=1)] == ["dl_0"]


async def test_retention(letters: DeadLetters) -> None:
    for id, state in (("dl_1", State.ANSWERED), ("dl_2", State.DEAD), ("dl_3", State.WAITING)):
        await letters.put(make_letter(id, state=state, updated_at=100.0, created_at=100.0))
    assert await letters.retain(answered_before=101.0, dead_before=50.0) == 1
    assert await letters.retain(answered_before=101.0, dead_before=101.0) == 2


async def test_what_one_process_hands_back_another_answers_within_a_second(tmp_path: Path) -> None:
    """Two workers on one store, as two gateways have them; the first one is drained while its upstream
    hangs. The lease is a thousand seconds."""
    hangs, began, done = asyncio.Event(), asyncio.Event(), list[str]()

    async def hang(letter: Letter) -> Response:
        began.set()
        await hangs.wait()
        return Response(200, [], b"never")

    async def answer(letter: Letter) -> Response:
        done.append(letter.note.request_id)
        return Response(200, [], b"yes")

    def process(perform: Perform) -> tuple[DatabaseDeadLetters, LetterWorker]:
        store = DatabaseDeadLetters(SqliteDatabase(tmp_path / "letters.db", MIGRATIONS), [b"k" * 32])
        replays = Replays(store, perform, SYSTEM_CLOCK, Random(1), structlog.get_logger())
        return store, LetterWorker(store, replays, tuple, SYSTEM_CLOCK, structlog.get_logger())

    (one, draining), (two, other) = process(hang), process(answer)
    for component in (one, two, draining):
        await component.start()
    async with asyncio.timeout(10.0):
        await one.put(make_letter("dl_1", service="training", created_at=SYSTEM_CLOCK.time()))
        draining.wake()
        await began.wait()
        await other.start()
        handed_back = SYSTEM_CLOCK.monotonic()
        await draining.drain(30.0)
        while (await two.get("dl_1")).note.state is not State.ANSWERED:
            await asyncio.sleep(0.01)
    assert SYSTEM_CLOCK.monotonic() - handed_back < 1.0
    assert done == ["req_dl_1"]
    assert (await two.get("dl_1")).note.attempts == 1
    for component in (draining, other, one, two):
        await component.stop()
