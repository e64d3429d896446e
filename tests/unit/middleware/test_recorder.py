"""What is kept of requests: bounded, the notable first, and never a prompt or a key."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.requests import RequestRecord
from moonpool.core.body import Outcome
from moonpool.core.context import Attempt
from moonpool.core.decisions import Flag
from moonpool.core.errors import Unavailable
from moonpool.middleware import recorder as module
from moonpool.middleware.recorder import SHARE, Finished, Recorder


class Events:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.records: list[RequestRecord] = []

    async def append(self, topic: str, events) -> None:
        if self.error is not None:
            raise self.error
        assert topic == "requests"
        for event in events:
            record = msgspec.json.decode(event.value, type=RequestRecord)
            assert event.id == event.key == record.id
            self.records.append(record)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def lines() -> list[dict]:
    return []


@pytest.fixture
def make(events, clock, log, lines):
    def recorder(keep: int = 1000, access: bool = True) -> Recorder:
        def write(batch) -> None:
            lines.extend(map(msgspec.json.decode, batch))

        return Recorder(events, clock, log, keep=keep, access=write if access else None)

    return recorder


@pytest.fixture
def finished(make_ctx, clock):
    def make(id: str, status: int = 200, outcome: Outcome = Outcome.COMPLETED, **fields) -> Finished:
        ctx = make_ctx(request_id=id, **fields)
        return Finished(ctx, "POST", "10.0.0.1", status, 42, None, clock.monotonic() + 0.25, outcome)

    return make


async def test_everything_has_a_line_and_a_record(make, finished, events, lines, clock) -> None:
    recorder = make()
    one = finished("r", release="v1")
    attempt = Attempt("inference-0", "v1", one.ctx.started + 0.1)
    attempt.ended, attempt.status = one.ctx.started + 0.2, 200
    one.ctx.attempts.append(attempt)
    one.ctx.decide("balancer", "inference-0", "only one")
    recorder.add(one)
    await recorder.stop()
    (record,) = events.records
    assert record.at == pytest.approx(clock.time())
    assert (record.status, record.duration_ms, record.bytes_out, record.outcome) == (
        200,
        250.0,
        42,
        "completed",
    )
    assert (record.user, record.tenant, record.key, record.peer) == ("user_1", "org_1", "key_1", "10.0.0.1")
    assert (record.attempts[0].started_ms, record.attempts[0].ended_ms) == (100.0, 200.0)
    assert record.decisions[0].filter == "balancer"
    (line,) = lines
    assert (line["event"], line["request_id"], line["release"], line["ms"]) == (
        "access",
        "r",
        "inference@v1",
        250.0,
    )
    assert line["attempts"][0]["endpoint"] == "inference-0"


async def test_found_before_and_after_a_round(make, finished) -> None:
    recorder = make()
    recorder.add(finished("r"))
    assert recorder.find("r").id == "r"
    await recorder.stop()
    assert recorder.find("r").id == "r"
    assert recorder.find("x") is None


async def test_prompts_are_let_go(make, finished) -> None:
    recorder = make()
    one = finished("r", payload={"messages": ["secret"]})
    recorder.add(one)
    assert one.ctx.payload is None


async def test_the_ring_is_bounded(make, finished) -> None:
    recorder = make(keep=10)
    for n in range(30):
        recorder.add(finished(f"r{n}"))
        if n % 7 == 0:
            await recorder._round()
    await recorder.stop()
    assert len(recorder._ring) == 10
    assert recorder.find("r29") is not None
    assert recorder.find("r19") is None


async def test_the_share_comes_back_with_every_round(make, finished) -> None:
    recorder = make()
    for n in range(SHARE + 3):
        recorder.add(finished(f"r{n}"))
    assert recorder.find(f"r{SHARE - 1}") is not None
    assert recorder.find(f"r{SHARE}") is None
    await recorder._round()
    recorder.add(finished("later"))
    assert recorder.find("later") is not None


async def test_lines_are_written_before_they_pile_up(make, finished, lines) -> None:
    recorder = make()
    for n in range(module.LINES + 1):
        recorder.add(finished(f"r{n}"))
    assert len(lines) == module.LINES


@pytest.mark.parametrize(
    ("fields", "notable"),
    [
        ({}, False),
        ({"status": 404}, False),
        ({"outcome": Outcome.CANCELLED}, False),
        ({"status": 503}, True),
        ({"outcome": Outcome.FAILED}, True),
        ({"flags": [Flag.STALE]}, True),
    ],
)
def test_what_is_notable(finished, fields, notable: bool) -> None:
    assert finished("r", **fields).notable == notable


async def test_the_notable_are_kept_and_a_share_of_the_others(make, finished, events, lines) -> None:
    recorder = make()
    for n in range(500):
        recorder.add(finished(f"r{n}", status=503 if n % 100 == 0 else 200))
    await recorder.stop()
    assert [record.status for record in events.records].count(503) == 5
    assert len(events.records) == 5 + SHARE
    assert len(lines) == 500


async def test_a_storm_of_errors_is_bounded(make, finished, events) -> None:
    recorder = make(access=False)
    for n in range(SHARE * 20):
        recorder.add(finished(f"r{n}", status=503))
    await recorder.stop()
    assert len(events.records) == SHARE * 10


async def test_without_the_event_log_requests_are_still_logged(make, finished, events, lines, log) -> None:
    events.error = Unavailable("away")
    recorder = make()
    recorder.add(finished("r"))
    await recorder.stop()
    assert len(lines) == 1
    assert [line[0] for line in log.lines] == ["warning"]
    assert recorder.find("r") is not None


async def test_a_round_that_fails_is_not_the_last(events, clock, log, finished, monkeypatch) -> None:
    """A log that cannot be written (a full disk) may not end recording for good."""
    monkeypatch.setattr(module, "INTERVAL", 0.005)
    written = asyncio.Event()
    failures = [OSError(28, "No space left on device")]

    def write(batch) -> None:
        if failures:
            raise failures.pop()
        written.set()

    recorder = Recorder(events, clock, log, access=write)
    await recorder.start()
    recorder.add(finished("a"))
    async with asyncio.timeout(5):
        while failures:
            await asyncio.sleep(0.005)
        recorder.add(finished("b"))
        await written.wait()
    await recorder.stop()
    assert [line[0] for line in log.lines] == ["error"]
