"""The service's HTTP surface over a fake engine: parsing, errors, streams, readiness."""

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from moonpool.contracts.config import ModelConfig, PlatformConfig
from moonpool.core.errors import InternalError, StartupError
from moonpool.services.inference import llama
from moonpool.services.inference.app import _load_all
from moonpool.services.inference.configured import Configured
from moonpool.services.inference.engine import Piece

CHAT = {"model": "mine", "messages": [{"role": "user", "content": "Hi"}]}


def config_of(**target: str) -> PlatformConfig:
    return PlatformConfig(models={"mine": msgspec.convert({"targets": [target]}, ModelConfig)})


@pytest.fixture
async def service(make_parts, run_service, engine, monkeypatch, tmp_path: Path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")

    async def load(path: Path, **settings: int):
        return engine

    monkeypatch.setattr(llama, "load", load)
    return await run_service(await make_parts("inference", config=config_of(local=str(path))))


async def test_a_whole_answer(service) -> None:
    response = await service.call("POST", "/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["choices"][0]["message"]["content"] == "Hello"


async def test_a_stream(service) -> None:
    response = await service.call("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["/v1/completions", "/beta/completions"])
async def test_completions(service, path: str) -> None:
    response = await service.call("POST", path, json={"model": "mine", "prompt": "Oh"})
    assert response.json()["choices"][0]["text"] == "Hello"
    assert response.json()["object"] == "text_completion"
    streamed = await service.call("POST", path, json={"model": "mine", "prompt": "Oh", "stream": True})
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_vectors(service) -> None:
    response = await service.call("POST", "/v1/embeddings", json={"model": "mine", "input": "Oh"})
    assert response.json()["data"][0]["embedding"] == [3.0, 4.0, 12.0]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"model": "mine", "model": "mine", "messages": []}', "duplicate_key"),
        (b'{"model": "x", "messages": [{"role": "user", "content": "Hi"}]}', "model_not_found"),
        (b'{"model": "mine", "messages": [{"role": "user", "content": "Hi"}], "top_k": -1}', "invalid_value"),
    ],
)
async def test_refusals(service, body: bytes, code: str) -> None:
    response = await service.call("POST", "/v1/chat/completions", content=body)
    assert response.json()["error"]["code"] == code


async def test_a_failure_in_a_stream_is_its_last_event(service, engine) -> None:
    engine.steps = [Piece(text="Hel"), InternalError("The engine failed.")]
    response = await service.call("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
    assert response.status_code == 200
    last = response.text.removesuffix("\n\n").split("\n\n")[-1]
    assert msgspec.json.decode(last[6:])["error"]["code"] == "internal_error"


async def test_the_load(service) -> None:
    load = (await service.call("GET", "/internal/load")).json()["mine"]
    assert (load["running"], load["waiting"], load["slots"]) == (0, 0, 4)
    await service.call("POST", "/v1/chat/completions", json=CHAT)
    metrics = (await service.client.get("/metrics")).text
    assert 'moonpool_inference_tokens_total{kind="completion",model="mine"} 2.0' in metrics
    assert 'moonpool_inference_slots{model="mine"} 4.0' in metrics


async def test_ready_with_a_model(service) -> None:
    response = await service.client.get("/readyz")
    assert response.json()["status"] == "ready"


async def test_its_own_part_of_the_api_description(service) -> None:
    described = (await service.call("GET", "/internal/openapi.json")).json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"} <= set(described["paths"])


async def test_ready_without_a_local_model(make_parts, run_service) -> None:
    service = await run_service(await make_parts("inference", config=config_of(url="http://x/v1")))
    response = await service.client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    answer = await service.call("POST", "/v1/chat/completions", json=CHAT)
    assert answer.status_code == 404


async def test_a_missing_file_keeps_it_from_starting(make_parts, run_service, tmp_path: Path) -> None:
    parts = await make_parts("inference", config=config_of(local=str(tmp_path / "gone.gguf")))
    with pytest.raises(StartupError, match=r"gone\.gguf"):
        await run_service(parts)


async def test_the_engine_is_closed_with_the_service(make_parts, engine, monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")

    async def load(path: Path, **settings: int):
        return engine

    monkeypatch.setattr(llama, "load", load)
    parts = await make_parts("inference")
    models = {}
    async with AsyncExitStack() as stack:
        await _load_all(parts, {"one": path, "two": path}, Configured(models), stack)
        assert models["one"].slots is models["two"].slots
    assert engine.closed
