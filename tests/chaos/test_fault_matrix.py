"""Every fault of an endpoint, streamed or not, with another instance or without: what the client gets.

The specification is in fault_table.py. One platform, whose models' endpoints are two injectors: one fails as
each cell wants it, the other is well. A cell has an alias of its own, so that all can run at the same time.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil
import pytest

from chaos.fault_table import BAD, SHARES, TABLE, WELL, Expect
from chaos.faulty_answers import LENGTH, text_of
from harness.books import held, record
from harness.exchanges import Ending, Seen, ask, chatting
from harness.injector import Injector, injecting
from harness.platform import Platform, running, wait_until
from moonpool.contracts.config import PlatformConfig

RESILIENCE: dict[str, Any] = {
    "timeouts": {"total": 15.0, "connect": 3.0, "first_token": 4.0, "whole": 4.0, "between_tokens": 3.0},
    "retry": {"budget_per_second": 1000.0},
}
"""What the platform of this file is told beside the defaults. Short times, since tests wait for them, but
several times what all these requests at once take on a busy machine (0.6 s). And a budget that does not end,
since all failures of a year come in ten seconds (test_fault_recovery.py has the one that everybody has)."""
TIMED = "resilience" in PlatformConfig.__struct_fields__


REQUESTS = 20
"""Of a cell with a share."""
TRIES = 30
"""Requests after which the balancer should have tried the instance that fails."""


class Cell(NamedTuple):
    fault: str
    stream: bool
    other: bool

    @property
    def alias(self) -> str:
        return "-".join(
            (self.fault.replace("%", "pct"), *("stream",) * self.stream, *("other",) * self.other)
        )

    @property
    def expected(self) -> Expect:
        chosen = TABLE[self.fault]
        return (chosen.other if self.other else chosen.alone)[self.stream]

    @property
    def injected(self) -> dict[str, Any]:
        if self.fault in SHARES:
            share = SHARES[self.fault]
            return {"kind": "status", "status": 500, "share": share, "seed": seed_of(share)}
        chosen = TABLE[self.fault]
        fault = (chosen.stream if self.stream else chosen.whole) or {}
        return {**fault, "when_seen": True} if self.breaks else fault

    @property
    def breaks(self) -> bool:
        """After its first words."""
        return self.stream and self.fault in TABLE and bool((TABLE[self.fault].stream or {}).get("after"))


def seed_of(share: float) -> int:
    """A seed whose first draws have as many hits as the share promises, one of them early (half of the draws
    may go to another instance), and no run of them that would be taken for the end of the endpoint."""
    wanted = round(share * REQUESTS)

    def fits(seed: int) -> bool:
        chance = random.Random(seed)
        draws = "".join("x" if chance.random() < share else "." for _ in range(REQUESTS))
        return draws.count("x") == wanted and "x" in draws[:3] and (share == 1.0 or "xxxx" not in draws)

    return next(filter(fits, itertools.count()))


ALL = [
    cell
    for fault, stream, other in itertools.product([*TABLE, *SHARES], (False, True), (False, True))
    if (cell := Cell(fault, stream, other)).injected
]
CELLS = [cell for cell in ALL if TIMED or cell.injected["kind"] != "stall"]
SINGLE = [cell for cell in CELLS if cell.fault in TABLE]
SHARED = [cell for cell in CELLS if cell.fault in SHARES]
HEALTHY = "healthy"
CONCURRENT = 64
"""Places of the key that all requests are made with: one that is kept would be missed."""


@dataclass
class Stage:
    """A platform with its two endpoints."""

    platform: Platform
    faulty: Injector
    healthy: Injector
    key: str
    refusing: int

    @property
    def gateway(self) -> psutil.Process:
        return psutil.Process(self.platform.modules()["gateway"]["pid"])

    def connections(self) -> int:
        """TCP connections of the gateway, to clients and to endpoints."""
        self.faulty.close_idle()
        self.healthy.close_idle()
        return sum(c.status != psutil.CONN_LISTEN for c in self.gateway.net_connections("tcp"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with injecting() as faulty, injecting() as healthy:
        refusing = faulty.listen()
        models: dict[str, Any] = {HEALTHY: {"targets": [{"url": healthy.url}]}}
        for cell in CELLS:
            refuses = cell.injected["kind"] == "refuse"
            targets = [{"url": f"http://127.0.0.1:{refusing}/v1" if refuses else faulty.url}]
            models[cell.alias] = {"targets": [*targets, {"url": healthy.url}] if cell.other else targets}
            if not refuses:
                faulty.fault(cell.alias, **cell.injected)
        faulty.refuse(refusing)
        plenty = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000, "concurrent": 1000}
        config = {"models": models, "limits": {"default": plenty}, "telemetry": {"keep_requests": 5000}}
        if TIMED:
            config["resilience"] = RESILIENCE
        with running(tmp_path_factory.mktemp("matrix") / "data", config) as platform:
            wish = {"name": "chaos", "limits": {**plenty, "concurrent": CONCURRENT}}
            made = platform.request("POST", "/api/auth/keys", wish)
            assert made.status in (200, 201), made.body
            yield Stage(platform, faulty, healthy, made.json()["key"], refusing)


@pytest.fixture(scope="module")
def base(stage: Stage) -> int:
    """TCP connections of the gateway before anything has failed."""
    assert stage.platform.chat("Hi", model=HEALTHY).status == 200
    wait_until(lambda: stage.healthy.stats()["connections"] == 0 or stage.healthy.close_idle(), "rest")
    return stage.connections()


@pytest.fixture(scope="module")
def outcomes(stage: Stage, base: int) -> dict[Cell, list[Seen]]:
    """What every cell's requests came to; of a cell with another instance, the last one is that which the
    failing instance got first."""
    return asyncio.run(run_all(stage))


async def run_all(stage: Stage) -> dict[Cell, list[Seen]]:
    room = asyncio.Semaphore(CONCURRENT // 2)
    async with chatting(stage.platform.url, stage.key) as client:

        async def one(cell: Cell, number: int = 0) -> Seen:
            text = prompt(cell, number)

            async def go_on() -> None:
                await asyncio.to_thread(stage.faulty.seen, text)

            async with room:
                on_text = go_on if cell.breaks else None
                return await ask(client, cell.alias, text, stream=cell.stream, on_text=on_text)

        async def single(cell: Cell) -> list[Seen]:
            seen = [await one(cell)]
            while cell.other and len(seen) < TRIES and not hit(stage, cell, seen[-1]):
                seen.append(await one(cell, len(seen)))
            return seen

        async def shared(cell: Cell) -> list[Seen]:
            return list(await asyncio.gather(*(one(cell, number) for number in range(REQUESTS))))

        singles = asyncio.gather(*map(single, SINGLE))
        shares = asyncio.gather(*map(shared, SHARED))
        return dict(zip([*SINGLE, *SHARED], [*await singles, *await shares], strict=True))


def hit(stage: Stage, cell: Cell, last: Seen) -> bool:
    """Whether the failing instance was asked. One that refuses cannot tell; then the answer does."""
    if cell.injected["kind"] == "refuse":
        return last.attempts > 1 or last.ending is not Ending.ANSWERED
    return stage.faulty.count(cell.alias) > 0


def prompt(cell: Cell, number: int) -> str:
    return f"{cell.alias} {number}"


def explained(platform: Platform, request_id: str) -> dict[str, Any]:
    """The record of a request; published some time after the answer."""
    return wait_until(lambda: record(platform, request_id), f"a record of {request_id}", 3)


def ids(cells: list[Cell]) -> list[str]:
    return [cell.alias for cell in cells]


def test_times_are_configured() -> None:
    """Without it, the cells that stall are not run at all: nobody should believe that they passed."""
    assert TIMED, f"not asserted: {', '.join(cell.alias for cell in ALL if cell not in CELLS)}"


@pytest.mark.parametrize("cell", SINGLE, ids=ids(SINGLE))
def test_a_fault(stage: Stage, outcomes: dict[Cell, list[Seen]], cell: Cell) -> None:
    *before, last = outcomes[cell]
    expected = cell.expected

    for number, seen in enumerate(before):
        assert (seen.ending, seen.text) == (Ending.ANSWERED, text_of(prompt(cell, number))), seen
    if cell.other:
        assert hit(stage, cell, last), f"the failing instance was never asked in {len(outcomes[cell])} tries"
    assert last.ending is expected.ending, last
    assert last.status == expected.status, last
    whole = text_of(prompt(cell, len(before)))
    if expected.ending is Ending.ANSWERED:
        assert last.text == whole
        assert last.usage is not None
        assert last.usage["completion_tokens"] == LENGTH, "metered once"
        assert last.usage["prompt_tokens"] == len(prompt(cell, 0).split())
    else:
        assert last.code in expected.codes, last
        assert whole.startswith(last.text)
    check_headers(cell, expected, last)
    if expected is not WELL:  # of plain answers a share is kept only
        check_record(expected, last, explained(stage.platform, last.request_id))


def check_headers(cell: Cell, expected: Expect, seen: Seen) -> None:
    assert seen.request_id
    if expected.ending is Ending.REFUSED:
        assert int(seen.headers["retry-after"]) >= 1
        assert seen.headers.get("x-should-retry") != "false", "waiting helps, and the budget is not spent"
        assert 1 <= seen.attempts <= 3
    elif expected.retried:
        assert seen.attempts == 2
    else:
        assert seen.attempts == 1, "of a stream that breaks: when its head left"
    allowed = {expected.fallback} | ({"failover"} if expected.retried else set())
    assert seen.fallback in allowed, seen


def check_record(expected: Expect, seen: Seen, record: dict[str, Any]) -> None:
    """What an operator is told agrees with what the client got."""
    verdicts = {(each["filter"], each["verdict"]) for each in record["decisions"]}
    filters = {name for name, _ in verdicts}
    failed = [each for each in record["attempts"] if each["error"] or (each["status"] or 0) >= 400]
    assert record["status"] == seen.status
    if expected.retried:
        assert len(record["attempts"]) == 2
        assert len(failed) == 1
        assert filters & {"retry", "failover"}, verdicts
    elif expected.continued:
        assert len(record["attempts"]) == 2
        assert "MG" in record["flags"]
        assert filters & {"retry", "failover"}, verdicts
    elif expected.ending is not Ending.ANSWERED:
        assert len(failed) == len(record["attempts"]) >= 1
        assert record["flags"] or BAD in expected.codes
        if expected.fallback:
            assert ("fallback", expected.fallback) in verdicts


@pytest.mark.parametrize("cell", SHARED, ids=ids(SHARED))
def test_a_share_of_failures(stage: Stage, outcomes: dict[Cell, list[Seen]], cell: Cell) -> None:
    seen = outcomes[cell]
    endings = [each.ending for each in seen]
    answered, refusals = endings.count(Ending.ANSWERED), endings.count(Ending.REFUSED)

    assert answered + refusals == REQUESTS, [
        each for each in seen if each.ending not in (Ending.ANSWERED, Ending.REFUSED)
    ]
    for number, each in enumerate(seen):
        if each.ending is Ending.ANSWERED:
            assert each.text == text_of(prompt(cell, number))
        else:
            assert each.status == 503
            assert int(each.headers["retry-after"]) >= 1
    if cell.other or cell.fault == "5%":
        assert refusals == 0, [each for each in seen if each.ending is Ending.REFUSED][:3]
    elif cell.fault == "50%":
        assert answered > REQUESTS // 4
    else:
        assert answered == 0
    assert stage.faulty.count(cell.alias, "faulted") > 0


def test_nothing_is_held_afterwards(stage: Stage, base: int, outcomes: dict[Cell, list[Seen]]) -> None:
    wait_until(lambda: stage.faulty.stats()["active"] == 0, "the failing endpoint works on nothing")
    assert stage.healthy.stats()["active"] == 0
    wait_until(
        lambda: stage.connections() <= base, f"{base} connections again, not {stage.connections()}", 10
    )
    assert held(stage.platform) == {}


def test_no_place_is_kept(stage: Stage, outcomes: dict[Cell, list[Seen]]) -> None:
    """All places of the key can be taken at once, and not one more: no request has kept its own."""
    stage.healthy.fault(HEALTHY, delay=1.0)

    async def crowd() -> list[Seen]:
        async with chatting(stage.platform.url, stage.key) as client:
            asked = (ask(client, HEALTHY, str(number), stream=False) for number in range(CONCURRENT + 1))
            return list(await asyncio.gather(*asked))

    statuses = [each.status for each in asyncio.run(crowd())]

    assert stage.healthy.count(HEALTHY, "peak") == CONCURRENT
    assert sorted(statuses) == [200] * CONCURRENT + [429]
