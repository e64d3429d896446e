"""Done requests: one row with the change it tells of, or neither."""

import asyncio
from typing import Any

import pytest

from moonpool.asgi.caller import Caller
from moonpool.asgi.once import Once, asked
from moonpool.contracts.asked import LONGEST_KEY
from moonpool.core.errors import BadRequest, Unprocessable
from moonpool.core.principal import Principal
from moonpool.services.training.store import done_requests

ME = Principal(user="user_1", tenant="org_1")


def caller(who: Principal = ME, **fields: str) -> Caller:
    wanted = {"request_id": "req_1", "method": "POST", "path": "/things", **fields}
    return Caller(who, "gateway", **wanted)


@pytest.fixture
async def parts(make_parts: Any) -> Any:
    return await make_parts("training")


@pytest.fixture
def once(parts: Any) -> Once:
    return Once(done_requests, parts.database, parts.clock)


async def test_the_second_is_told_what_the_first_has_made(once: Once, parts: Any) -> None:
    name = asked(caller(), b"{}")
    async with parts.database.transaction() as connection:
        assert await once.claim(connection, name, "thing_1") is None
    async with parts.database.transaction() as connection:
        assert await once.claim(connection, name, "thing_2") == "thing_1"
        with pytest.raises(Unprocessable):
            await once.claim(connection, asked(caller(), b'{"other":1}'), "thing_3")
        await once.replace(connection, name, "thing_4")
        assert await once.claim(connection, name, "thing_5") == "thing_4"


async def test_what_was_not_committed_was_not_done(once: Once, parts: Any) -> None:
    name = asked(caller(), b"{}")

    async def fail() -> None:
        async with parts.database.transaction() as connection:
            assert await once.claim(connection, name, "thing_1") is None
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await fail()
    async with parts.database.transaction() as connection:
        assert await once.claim(connection, name, "thing_2") is None


async def test_two_at_the_same_time(once: Once, parts: Any) -> None:
    made: list[str] = []

    async def make(thing: str) -> str:
        async with parts.database.transaction() as connection:
            before = await once.claim(connection, name, thing)
            if before is not None:
                return before
            await asyncio.sleep(0)
            made.append(thing)
            return thing

    name = asked(caller(), b"{}")
    answers = await asyncio.gather(*(make(f"thing_{number}") for number in range(5)))
    assert len(made) == 1
    assert set(answers) == set(made)


async def test_without_a_name_everything_is_new(once: Once, parts: Any) -> None:
    assert asked(caller(request_id="")) is None
    async with parts.database.transaction() as connection:
        assert [await once.claim(connection, None, "thing") for _ in range(2)] == [None, None]
        await once.replace(connection, None, "thing")


def test_a_replay_has_the_name_of_the_first_arrival() -> None:
    first = asked(caller())
    assert first == asked(caller(idempotency_key="req_1"))
    assert first == asked(caller(idempotency_key="req_1", request_id="req_of_the_retry"))
    others = [
        caller(request_id="req_2"),
        caller(idempotency_key="mine"),
        caller(path="/other"),
        caller(method="DELETE"),
        caller(Principal(user="user_2", tenant="org_1")),
        caller(Principal(user="user_1", tenant="org_2")),
        caller(Principal(user="1", tenant="org_1user_")),
    ]
    names = {name.name for name in map(asked, others) if name is not None}
    assert first is not None
    assert len(names - {first.name}) == len(others)


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequest):
        asked(caller(idempotency_key="x" * (LONGEST_KEY + 1)))
