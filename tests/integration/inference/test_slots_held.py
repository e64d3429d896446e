"""Who holds a slot, who waits, who is refused; and that a client that leaves gives back what it held."""

import asyncio

import pytest

pytestmark = pytest.mark.real_model

LONG = {
    "model": "smollm2",
    "prompt": "Once upon a time",
    "max_tokens": 1800,
    "temperature": 1,
    "logit_bias": {"0": -100, "2": -100},
}
"""The bias keeps the model from ending by itself."""
PATIENCE = 12
"""Seconds: less than LONG takes on any two cores, enough on a busy machine."""


@pytest.fixture(autouse=True)
async def idle(platform):
    await platform.until(lambda load: load["running"] == 0)
    yield
    await platform.until(lambda load: load["running"] == 0 and load["waiting"] == 0)


async def test_a_stream_whose_client_leaves_frees_its_slot(platform) -> None:
    body = {**LONG, "stream": True}
    async with platform.client() as client, client.stream("POST", "/v1/completions", json=body) as response:
        async for _ in response.aiter_lines():
            break
        assert (await platform.load())["running"] == 1
    await platform.until(lambda load: load["running"] == 0, seconds=PATIENCE)


async def test_a_whole_answer_whose_client_leaves_frees_its_slot(platform, start) -> None:
    task = start(platform.post("/v1/completions", LONG))
    await platform.until(lambda load: load["running"] == 1)
    task.cancel()
    await platform.until(lambda load: load["running"] == 0, seconds=PATIENCE)


async def test_a_prompt_that_is_still_read_frees_its_slot(platform, start) -> None:
    """What was not read when the client left is not in the cache afterwards."""
    body = {"model": "smollm2", "prompt": "word " * 600, "max_tokens": 1}
    task = start(platform.post("/v1/completions", body))
    await platform.until(lambda load: load["running"] == 1)
    task.cancel()
    await platform.until(lambda load: load["running"] == 0)
    usage = (await platform.post("/v1/completions", body)).json()["usage"]
    assert usage["prompt_tokens"] > 600
    assert usage["prompt_cache_hit_tokens"] < 500


async def test_the_engines_own_slot_is_free_too(platform, start) -> None:
    """Two abandoned requests, then two answered at once: they would wait for the 1800 tokens of those."""
    tasks = [start(platform.post("/v1/completions", {**LONG, "prompt": f"Story {n}"})) for n in range(2)]
    await platform.until(lambda load: load["running"] == 2)
    for task in tasks:
        task.cancel()
    await platform.until(lambda load: load["running"] == 0)
    async with asyncio.timeout(PATIENCE):
        answers = await asyncio.gather(
            *[platform.post("/v1/completions", {**LONG, "max_tokens": 2}) for _ in range(2)]
        )
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_beyond_the_queue_requests_are_refused_and_the_waiting_can_leave(platform, start) -> None:
    for _ in range(2):
        start(platform.post("/v1/completions", LONG))
    await platform.until(lambda load: load["running"] == 2)
    waiting = start(platform.post("/v1/completions", LONG))
    await platform.until(lambda load: load["waiting"] == 1)
    for stream in (False, True):
        refused = await platform.post("/v1/completions", {**LONG, "stream": stream})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "server_is_overloaded"
        assert int(refused.headers["retry-after"]) >= 1
    waiting.cancel()
    load = await platform.until(lambda load: load["waiting"] == 0, seconds=PATIENCE)
    assert load["running"] == 2
