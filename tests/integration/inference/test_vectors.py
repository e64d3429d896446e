"""Embeddings of the real model."""

import base64
import math
import struct

import pytest

pytestmark = pytest.mark.real_model

PATH = "/v1/embeddings"
TEXTS = [
    "The quick brown fox jumps over the lazy dog and",
    "The quick brown fox jumps over the lazy cat",
    "Hello",
    "The quick brown fox",
]


async def vectors(platform, text, **more) -> list:
    response = await platform.post(PATH, {"model": "smollm2", "input": text, **more})
    assert response.status_code == 200, response.text
    return [item["embedding"] for item in response.json()["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_alone_in_a_list_and_after_a_completion_are_equal(platform) -> None:
    together = await vectors(platform, TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        completion = {"model": "smollm2", "prompt": TEXTS[0], "max_tokens": 2}
        await platform.post("/v1/completions", completion)
        [alone] = await vectors(platform, text)
        assert cosine(alone, vector) == pytest.approx(1.0, abs=1e-5)
    assert cosine(together[0], together[2]) < 0.95


async def test_equal_while_others_are_answered(platform, start) -> None:
    [before] = await vectors(platform, TEXTS[0])
    busy = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 400, "temperature": 1}
    start(platform.post("/v1/completions", busy))
    await platform.until(lambda load: load["running"] == 1)
    [meanwhile] = await vectors(platform, TEXTS[0])
    assert cosine(before, meanwhile) == pytest.approx(1.0, abs=1e-3)


async def test_dimensions_are_cut_and_of_length_one(platform) -> None:
    [full] = await vectors(platform, TEXTS[0])
    [short] = await vectors(platform, TEXTS[0], dimensions=64)
    assert len(short) == 64
    assert math.sqrt(cosine(short, short)) == pytest.approx(1.0, abs=1e-6)
    assert short[0] / short[1] == pytest.approx(full[0] / full[1], rel=1e-4)
    response = await platform.post(PATH, {"model": "smollm2", "input": "x", "dimensions": 100_000})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "dimensions"


async def test_base64_is_the_same_vector(platform) -> None:
    [plain] = await vectors(platform, TEXTS[0])
    [encoded] = await vectors(platform, TEXTS[0], encoding_format="base64")
    unpacked = struct.unpack(f"<{len(plain)}f", base64.b64decode(encoded))
    assert list(unpacked) == pytest.approx(plain, abs=1e-6)


async def test_tokens_are_as_good_as_text_and_counted(platform) -> None:
    response = (await platform.post(PATH, {"model": "smollm2", "input": [28120, 905]})).json()
    text = (await platform.post(PATH, {"model": "smollm2", "input": "hello world"})).json()
    assert response["usage"] == text["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert cosine(response["data"][0]["embedding"], text["data"][0]["embedding"]) > 0.999


async def test_a_text_beyond_the_context_is_refused_with_its_place(platform) -> None:
    body = {"model": "smollm2", "input": ["short", "word " * 3000]}
    response = await platform.post(PATH, body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input[1]"
    assert response.json()["error"]["code"] == "context_length_exceeded"
