import asyncio

import pytest
import structlog

from moonpool.asgi.background import Backoff, background


def test_backoff_doubles_up_to_its_ceiling_and_starts_again() -> None:
    backoff = Backoff(base=1.0, ceiling=5.0, chance=lambda: 0.0)
    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_backoff_takes_up_to_half_off() -> None:
    assert Backoff(base=2.0, chance=lambda: 1.0).next() == 1.0


def test_backoff_survives_a_very_long_outage() -> None:
    backoff = Backoff(base=1.0, ceiling=5.0, chance=lambda: 0.0)
    assert [backoff.next() for _ in range(5000)][-1] == 5.0


async def test_a_job_ends_with_the_application() -> None:
    running = asyncio.Event()
    ended = False

    async def job() -> None:
        nonlocal ended
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    async with background("job", job, structlog.get_logger())(None):  # type: ignore[arg-type]
        await running.wait()
    assert ended


async def test_a_job_that_crashes_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next", lambda self: 0.0)
    twice = asyncio.Event()
    runs = 0

    async def job() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            twice.set()
        raise ZeroDivisionError

    async with background("job", job, structlog.get_logger())(None):  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            await twice.wait()
