"""An error that an endpoint tells in the place of a stream's first event, between real sockets."""

from typing import Any

TOO_LONG = {"message": "at most 8 tokens", "type": "invalid_request_error", "code": "context_length_exceeded"}
FULL = {"message": "no room", "type": "overloaded_error", "code": 503}


async def test_a_refusal_of_the_request_is_the_client_s(running: Any) -> None:
    house = await running("alpha", "beta")
    for endpoint in house.endpoints:
        endpoint.refuses = TOO_LONG
    answer = await house.ask(stream=True, status=400)
    assert answer.json()["error"] == {**TOO_LONG, "param": None}
    assert len(house.named.seen[-1].attempts) == 1, "nobody else would say anything else"
    assert house.journal.closed == []
    assert not house.held()


async def test_what_another_one_may_better_is_bettered(running: Any) -> None:
    house = await running("alpha", "beta")
    house.endpoints[0].refuses = FULL
    for _ in range(4):
        assert '"content": "beta"' in (await house.ask(stream=True)).text
    house.endpoints[1].refuses = FULL
    answer = await house.ask(stream=True, status=503)
    assert answer.json()["error"]["message"] == "no room"
    assert [event["outcome"] for event in house.journal.closed] == ["completed"] * 4
    assert not house.held()
