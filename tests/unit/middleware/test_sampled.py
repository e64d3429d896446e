"""The last value that could be had."""

import asyncio

from moonpool.core.errors import Unavailable
from moonpool.middleware.sampled import Sampled


async def test_the_last_value_stays_while_the_source_is_away() -> None:
    values: list[int | None] = [7, None, 9]

    async def source() -> int:
        value = values.pop(0)
        if value is None:
            raise Unavailable("away")
        return value

    sampled = Sampled(source, 0)
    seen = [sampled()]
    for _ in range(3):
        await sampled.refresh()
        seen.append(sampled())
    assert seen == [0, 7, 7, 9]
    assert sampled.failures == 1


async def test_it_looks_by_itself_from_the_start() -> None:
    looked = asyncio.Event()

    async def source() -> int:
        looked.set()
        return 1

    sampled = Sampled(source, 0, interval=3600)
    await sampled.start()
    await asyncio.wait_for(looked.wait(), 5)
    await sampled.stop()
    assert sampled() == 1
