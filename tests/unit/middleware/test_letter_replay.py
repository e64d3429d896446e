import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.letters import MemoryLetters, make_letter
from moonpool.core.body import Stream
from moonpool.core.clock import ManualClock
from moonpool.core.errors import ConnectFailed, NotFound, StreamTruncated, Unavailable
from moonpool.core.message import Response
from moonpool.middleware.letter_claim import LEASE
from moonpool.middleware.letter_policy import SWITCHED_OFF_WAIT
from moonpool.middleware.letter_replay import ANSWER_LIMIT, Outcome, Replays
from moonpool.middleware.letter_worker import KEPT_FOR, LetterWorker
from moonpool.middleware.switched_off import CODE as SWITCHED_OFF
from moonpool.ports.dead_letters import Letter, State, Which

ERROR = b'{"error":{"message":"no room","code":"full"}}'


class Upstream:
    """Answers as scripted, then well; remembers what it was sent and what it did."""

    def __init__(self, *script: Response | Exception) -> None:
        self.script = list(script)
        self.sent: list[str] = []
        self.done: list[str] = []
        self.hang: asyncio.Event | None = None

    async def __call__(self, letter: Letter) -> Response:
        self.sent.append(letter.note.request_id)
        await asyncio.sleep(0)
        if self.hang is not None:
            await self.hang.wait()
        step = self.script.pop(0) if self.script else Response(200, [(b"content-type", b"t")], b"yes")
        if isinstance(step, Exception):
            raise step
        if step.status < 400:
            self.done.append(letter.note.request_id)
        return step


class Log:
    def __getattr__(self, level: str):
        return lambda *args, **fields: None


class House:
    def __init__(self, *script: Response | Exception, paid: str = "") -> None:
        self.clock, self.letters = ManualClock(), MemoryLetters()
        self.upstream = Upstream(*script)
        self.slept: list[float] = []
        self.replays = Replays(self.letters, self.upstream, self.clock, Random(1), Log(), sleep=self.sleep)
        self.away: set[str] = set()
        self.off: set[tuple[str, str]] = set()
        self.worker = LetterWorker(
            self.letters,
            self.replays,
            lambda: self.away,
            self.clock,
            Log(),
            paid=lambda note: note.service == paid,
            off=lambda: self.off,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def put(self, *ids: str, **fields: object) -> None:
        for id in ids:
            now = self.clock.time()
            await self.letters.put(make_letter(id, created_at=now, updated_at=now, next_at=now, **fields))

    async def work(self, seconds: float, step: float = 1.0) -> None:
        for _ in range(int(seconds / step)):
            await self.worker.tick()
            await self.worker.idle()
            self.clock.advance(step)

    def note(self, id: str):
        return self.letters.letters[id].note


async def test_an_answer_is_kept_and_nothing_is_sent_twice() -> None:
    house = House()
    await house.put("dl_1", state=State.DEAD)
    assert (await house.replays.one("dl_1")).outcome is Outcome.ANSWERED
    again = await house.replays.one("dl_1")
    assert (again.outcome, again.status) == (Outcome.ALREADY, 200)
    assert house.upstream.sent == ["req_dl_1"]
    answer = house.letters.letters["dl_1"].answer
    assert (answer.status, answer.headers, answer.body) == (200, {"content-type": "t"}, b"yes")
    assert (await house.replays.one("dl_2")).outcome is Outcome.GONE


@pytest.mark.parametrize(
    ("step", "outcome", "cause"),
    [
        (ConnectFailed("no"), Outcome.WAITING, "upstream_connect_failed"),
        (Response(503, [], ERROR), Outcome.WAITING, "full"),
        (Response(500, [], b"<html>"), Outcome.WAITING, "status_500"),
        (Response(422, [], ERROR), Outcome.DEAD, "full"),
        (NotFound("gone"), Outcome.DEAD, "not_found"),
        (ZeroDivisionError(), Outcome.WAITING, "internal_error"),
        (Response(200, [], b"x" * (ANSWER_LIMIT + 1)), Outcome.DEAD, "payload_too_large"),
    ],
)
async def test_what_failures_lead_to(step, outcome, cause) -> None:
    house = House(step)
    await house.put("dl_1")
    result = await house.replays.one("dl_1")
    note = house.note("dl_1")
    assert (result.outcome, note.cause, note.attempts, note.leased_until) == (outcome, cause, 1, 0.0)
    assert len(house.letters.letters) == 1


async def test_a_stream_that_breaks_is_no_answer() -> None:
    stream = Stream()
    stream.feed(b"data: half")
    stream.fail(StreamTruncated("cut"))
    house = House(Response(200, [], stream))
    await house.put("dl_1")
    assert (await house.replays.one("dl_1")).outcome is Outcome.WAITING
    assert house.note("dl_1").cause == "upstream_truncated"


async def test_a_failed_replay_of_a_dead_letter_leaves_it_dead_with_its_count() -> None:
    house = House(*[ConnectFailed("no")] * 3)
    await house.put("dl_1", state=State.DEAD)
    for attempts in (1, 2, 3):
        assert (await house.replays.one("dl_1")).outcome is Outcome.DEAD
        assert house.note("dl_1").attempts == attempts
    assert list(house.letters.letters) == ["dl_1"]


async def test_two_at_once_send_once() -> None:
    house = House()
    house.upstream.hang = asyncio.Event()
    await house.put("dl_1")
    first = asyncio.create_task(house.replays.one("dl_1"))
    while not house.upstream.sent:
        await asyncio.sleep(0)
    assert (await house.replays.one("dl_1")).outcome is Outcome.BUSY
    house.upstream.hang.set()
    assert (await first).outcome is Outcome.ANSWERED
    assert house.upstream.sent == ["req_dl_1"]


async def test_a_cancelled_attempt_gives_the_letter_back_as_it_was() -> None:
    house = House()
    house.upstream.hang = asyncio.Event()
    await house.put("dl_1")
    task = asyncio.create_task(house.replays.one("dl_1"))
    while not house.upstream.sent:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    note = house.note("dl_1")
    assert (note.state, note.attempts, note.leased_until) == (State.WAITING, 0, 0.0)


async def test_a_sender_that_died_holds_a_letter_for_its_lease_only() -> None:
    house = House()
    await house.put("dl_1")
    now = house.clock.time()
    await house.letters.claim("dl_1", now=now, until=now + LEASE)
    await house.work(5)
    assert house.upstream.sent == []
    house.clock.advance(LEASE)
    await house.work(1)
    assert house.upstream.sent == ["req_dl_1"]


async def test_many_at_a_pace_and_in_parts() -> None:
    house = House()
    await house.put(*(f"dl_{n}" for n in range(5)), state=State.DEAD)
    report = await house.replays.many(Which(), limit=3, rate=4.0)
    assert [each.id for each in report.results] == ["dl_0", "dl_1", "dl_2"]
    assert (report.has_more, report.stopped, report.after, house.slept) == (True, False, "dl_2", [0.25] * 2)
    report = await house.replays.many(Which(), limit=3, rate=4.0, after=report.after)
    assert [each.id for each in report.results] == ["dl_3", "dl_4"]
    assert not report.has_more


async def test_the_rest_is_left_alone_when_the_first_fail() -> None:
    house = House(*[ConnectFailed("no")] * 10)
    await house.put(*(f"dl_{n}" for n in range(8)), state=State.DEAD)
    report = await house.replays.many(Which(), limit=8, rate=100.0)
    assert (len(report.results), report.stopped) == (3, True)
    assert len(house.upstream.sent) == 3


async def test_refused_requests_are_no_canaries() -> None:
    house = House(*[Response(400, [], ERROR)] * 4)
    await house.put(*(f"dl_{n}" for n in range(6)), state=State.DEAD)
    report = await house.replays.many(Which(), limit=8, rate=100.0)
    assert (report.stopped, [each.outcome for each in report.results][4:]) == (False, [Outcome.ANSWERED] * 2)


# ── the worker ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_fails_seven_times_answers_in_the_end() -> None:
    house = House(*[ConnectFailed("no")] * 7)
    await house.put("dl_1")
    await house.work(1000, 5.0)
    note = house.note("dl_1")
    assert (note.state, note.attempts, house.upstream.done) == (State.ANSWERED, 8, ["req_dl_1"])


async def test_ten_attempts_and_no_more() -> None:
    house = House(*[Response(503, [], ERROR)] * 50)
    await house.put("dl_1")
    await house.work(10_000, 50.0)
    assert (house.note("dl_1").state, len(house.upstream.sent)) == (State.DEAD, 10)


async def test_while_a_service_is_away_nothing_is_tried_and_on_return_all_is() -> None:
    house = House()
    house.away = {"inference"}
    await house.put("dl_1", "dl_2")
    await house.put("dl_3", service="chat")
    await house.work(30)
    assert house.upstream.sent == ["req_dl_3"]
    assert house.note("dl_1").attempts == 0
    house.away = set()
    await house.work(2)
    assert sorted(house.upstream.done) == ["req_dl_1", "req_dl_2", "req_dl_3"]


async def test_while_a_route_is_off_nothing_is_tried_and_once_it_is_on_all_is() -> None:
    house = House()
    house.off = {("POST", "/v1/chat/completions")}
    await house.put("dl_1")
    await house.put("dl_2", route="/v1/embeddings")
    await house.work(3600, 10.0)
    assert house.upstream.sent == ["req_dl_2"]
    assert house.note("dl_1").attempts == 0
    house.off = set()
    await house.work(1)
    assert house.note("dl_1").state is State.ANSWERED
    house.off = {("POST", "/v1/chat/completions")}
    await house.put("dl_3")
    await house.work(KEPT_FOR + 120, 60.0)
    assert "dl_3" not in house.letters.letters, "for a week, as every letter"


OFF = Unavailable("POST /v1/chat/completions is switched off.", code=SWITCHED_OFF)


TOLD = Response(503, [], b'{"error":{"message":"it is switched off","code":"route_disabled"}}')
"""As tracing renders it, which is in the chains of gateways."""


@pytest.mark.parametrize("off", [OFF, TOLD], ids=["raised", "rendered"])
async def test_a_route_that_is_switched_off_meanwhile_costs_no_attempt(off: Response | Exception) -> None:
    house = House(off)
    await house.put("dl_1")
    await house.put("dl_2")
    await house.work(1)
    assert house.upstream.done == ["req_dl_2"], "others are not slowed by it"
    note = house.note("dl_1")
    assert (note.state, note.attempts, note.cause) == (State.WAITING, 0, "upstream_reset")
    await house.work(SWITCHED_OFF_WAIT - 2)
    assert len(house.upstream.sent) == 2, "nor asked again and again"
    await house.work(2)
    assert house.note("dl_1").state is State.ANSWERED


async def test_an_operator_is_told_that_the_route_is_off() -> None:
    house = House(*[OFF] * 5)
    await house.put(*(f"dl_{number}" for number in range(6)), state=State.DEAD)
    report = await house.replays.many(Which(), limit=10, rate=100.0)
    assert [result.outcome for result in report.results] == [Outcome.OFF] * 5 + [Outcome.ANSWERED]
    assert {result.message for result in report.results[:5]} == {OFF.message}
    note = house.note("dl_0")
    assert (note.state, note.attempts, note.leased_until, note.next_at) == (
        State.DEAD,
        0,
        0.0,
        note.created_at,
    )


async def test_what_waited_long_is_due_when_its_service_returns() -> None:
    house = House(*[ConnectFailed("no")] * 6)
    await house.put("dl_1")
    await house.work(200)
    house.upstream.script.clear()
    waits = house.note("dl_1").next_at - house.clock.time()
    assert waits > 20
    house.away = {"inference"}
    await house.work(1)
    house.away = set()
    await house.work(2)
    assert house.note("dl_1").state is State.ANSWERED


async def test_a_hundred_letters_are_no_herd_on_a_service_that_still_fails() -> None:
    house = House(*[ConnectFailed("no")] * 1000)
    await house.put(*(f"dl_{n:03}" for n in range(100)))
    await house.work(60)
    assert len(house.upstream.sent) <= 4 + 6  # the first four at once, then 1, 2, 4, 8 … seconds apart
    house.upstream.script.clear()
    await house.work(120)
    assert len(house.upstream.done) == len(set(house.upstream.done)) == 100


async def test_the_worker_sends_at_once_when_woken_and_gives_back_when_stopped() -> None:
    house = House()
    await house.worker.start()
    await asyncio.sleep(0)
    house.upstream.hang = asyncio.Event()
    await house.put("dl_1")
    house.worker.wake()
    async with asyncio.timeout(0.9):  # sooner than its next look
        while not house.upstream.sent:
            await asyncio.sleep(0)
    await house.worker.stop()
    assert (house.note("dl_1").state, house.note("dl_1").leased_until) == (State.WAITING, 0.0)


async def under_way(house: House, *ids: str) -> None:
    house.upstream.hang = house.upstream.hang or asyncio.Event()
    await house.worker.tick()
    async with asyncio.timeout(1.0):
        while len(house.upstream.sent) < len(ids):
            await asyncio.sleep(0)


async def test_who_drains_takes_nothing_more_and_hands_back_what_services_do() -> None:
    house = House()
    await house.put("dl_1", service="training")
    await under_way(house, "dl_1")
    await house.put("dl_2", service="training")

    await house.worker.drain(30.0)
    await house.work(3)

    note = house.note("dl_1")
    assert (note.state, note.attempts, note.leased_until) == (State.WAITING, 0, 0.0)
    assert house.upstream.sent == ["req_dl_1"]
    with pytest.raises(Unavailable, match="ending"):
        await house.replays.one("dl_2")
    assert house.note("dl_2").leased_until == 0.0


async def test_who_drains_lets_an_answer_that_is_nearly_there_arrive() -> None:
    house = House()
    await house.put("dl_1", service="training")
    await under_way(house, "dl_1")
    draining = asyncio.create_task(house.worker.drain(30.0))
    await asyncio.sleep(0)
    house.upstream.hang.set()
    await draining
    assert house.note("dl_1").state is State.ANSWERED


async def test_an_answer_that_is_paid_for_ends_while_there_is_time() -> None:
    house = House(paid="inference")
    await house.put("dl_1", service="inference")
    await house.put("dl_2", service="training")
    await under_way(house, "dl_1", "dl_2")
    draining = asyncio.create_task(house.worker.drain(30.0))
    async with asyncio.timeout(5.0):
        while house.note("dl_2").leased_until:
            await asyncio.sleep(0.01)
    assert house.note("dl_1").leased_until > 0.0
    house.upstream.hang.set()
    await draining
    assert (house.note("dl_1").state, house.note("dl_2").state) == (State.ANSWERED, State.WAITING)


async def test_an_answer_that_is_paid_for_is_handed_back_when_the_time_is_over() -> None:
    house = House(paid="inference")
    await house.put("dl_1", service="inference")
    await under_way(house, "dl_1")
    await house.worker.drain(0.01)
    assert (house.note("dl_1").state, house.note("dl_1").leased_until) == (State.WAITING, 0.0)


async def test_who_ends_while_a_claim_is_written_gives_it_back() -> None:
    house = House()
    await house.put("dl_1")
    house.letters.slow = asyncio.Event()
    task = asyncio.create_task(house.replays.one("dl_1"))
    while not house.note("dl_1").leased_until:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    house.letters.slow.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (house.note("dl_1").leased_until, house.upstream.sent) == (0.0, [])


async def test_many_stop_where_they_are_when_the_process_ends() -> None:
    house = House()
    await house.put("dl_1", "dl_2", "dl_3", state=State.DEAD)

    async def end(seconds: float) -> None:
        house.replays.close()

    house.replays._sleep = end
    report = await house.replays.many(Which(), limit=10, rate=5.0)
    assert [result.id for result in report.results] == ["dl_1"]
    assert (report.stopped, report.has_more, report.after) == (False, True, "dl_1")
    assert house.upstream.done == ["req_dl_1"]


async def test_a_store_that_is_away_does_not_end_the_worker() -> None:
    house = House()
    house.letters.away = True
    with pytest.raises(Exception, match="away"):
        await house.worker.tick()
    house.letters.away = False
    await house.put("dl_1")
    await house.work(1)
    assert house.upstream.done == ["req_dl_1"]


async def test_old_letters_go() -> None:
    house = House()
    await house.put("dl_1")
    await house.work(1)
    house.clock.advance(24 * 3600 + 1)
    await house.work(1)
    assert house.letters.letters == {}


# ── whatever is done to them ───────────────────────────────────────────────────────────────────────────

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("replay"), st.integers(0, 4)),
        st.tuples(st.just("twice at once"), st.integers(0, 4)),
        st.tuples(st.just("all"), st.just(0)),
        st.tuples(st.just("work"), st.integers(1, 400)),
        st.tuples(st.just("put again"), st.integers(0, 4)),
        st.tuples(st.just("fail"), st.sampled_from([400, 429, 500, 503])),
        st.tuples(st.just("cancel"), st.integers(0, 4)),
    ),
    max_size=30,
)


@given(ACTIONS, st.sampled_from([State.DEAD, State.WAITING]))
@settings(max_examples=120, deadline=None)
def test_replay_never_duplicates_and_the_queue_never_grows(actions, state) -> None:
    async def run() -> None:
        house = House()
        ids = [f"dl_{n}" for n in range(5)]
        await house.put(*ids, state=state)
        for action, value in actions:
            if action == "replay":
                await house.replays.one(ids[value])
            elif action == "twice at once":
                await asyncio.gather(*(house.replays.one(ids[value]) for _ in range(2)))
            elif action == "all":
                await house.replays.many(Which(), limit=10, rate=1000.0)
            elif action == "work":
                await house.work(value, 20.0)
            elif action == "put again":
                await house.letters.put(make_letter("dl_9", dedupe=f"dedupe {ids[value]}"))
            elif action == "fail":
                house.upstream.script.append(Response(value, [], ERROR))
            else:
                task = asyncio.create_task(house.replays.one(ids[value]))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert sorted(house.letters.letters) == ids
        assert len(house.upstream.done) == len(set(house.upstream.done))
        for letter in house.letters.letters.values():
            assert (letter.note.state is State.ANSWERED) == (letter.note.request_id in house.upstream.done)
            assert len(letter.failures) <= min(letter.note.attempts, 10)
            assert letter.note.leased_until == 0.0

    asyncio.run(run())
