"""The bridge between the engine's threads and the event loop, over a server that does as it is told."""

import asyncio
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from moonpool.core.errors import BadRequest, InternalError, StartupError, StreamTruncated
from moonpool.services.inference import llama
from moonpool.services.inference.engine import Finished, ModelInfo, Piece, Sampling
from moonpool.services.inference.llama import LlamaEngine
from moonpool.services.inference.llama_start import Running, default_threads
from moonpool.services.inference.llama_vectors import Vectors
from moonpool.services.inference.side_door import SideDoor

INFO = ModelInfo(context=10, knows_tools=False, revision="r", load_seconds=0)
END = {
    "choices": [{"text": "", "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


def said(text: str) -> bytes:
    return msgspec.json.encode({"choices": [{"text": text}]})


class Server:
    """Calls back with `events`; waits for `gate` before each, as a model that computes."""

    def __init__(self, *events: bytes | Exception) -> None:
        self.events = events
        self.gate = threading.Semaphore(1000)
        self.stopped = False

    def handle_completions(self, prompt, callback) -> None:
        for event in self.events:
            self.gate.acquire()
            if isinstance(event, Exception):
                raise event
            if callback(event):
                self.stopped = True
                return

    handle_chat_completions = handle_completions

    def handle_embeddings(self, prompt: bytes) -> bytes:
        if isinstance(self.events[0], Exception):
            raise self.events[0]
        return self.events[0]


@pytest.fixture
async def engine_of():
    engines = []

    def make(*events: bytes | Exception) -> tuple[LlamaEngine, Server]:
        server = Server(*events)
        running = Running(server, SideDoor())

        async def start() -> Running:
            return running

        engines.append(LlamaEngine(running, INFO, Vectors(start), slots=1))
        return engines[-1], server

    yield make
    for engine in engines:
        await engine.close()


async def test_events_become_parts(engine_of) -> None:
    engine, _ = engine_of(said("a"), said("b"), msgspec.json.encode(END))
    parts = [part async for part in engine.complete("x", Sampling())]
    assert parts[:2] == [Piece(text="a"), Piece(text="b")]
    assert isinstance(parts[2], Finished)


async def test_cancel_stops_the_engine_at_its_next_event(engine_of) -> None:
    engine, server = engine_of(*[said("a")] * 100)
    server.gate = threading.Semaphore(1)
    generation = engine.complete("x", Sampling())
    async for _ in generation:
        break
    generation.cancel()
    server.gate.release()
    await generation.wait_closed()
    assert server.stopped


async def test_cancelled_before_it_began_it_never_runs(engine_of) -> None:
    engine, server = engine_of(said("a"), said("a"), msgspec.json.encode(END))
    server.gate = threading.Semaphore(0)
    first, second = engine.complete("x", Sampling()), engine.complete("y", Sampling())
    second.cancel()
    for _ in range(3):
        server.gate.release()
    await second.wait_closed()
    assert not server.stopped
    assert len([part async for part in first]) == 3


@pytest.mark.parametrize(
    ("raised", "expected"), [(ValueError("bad"), BadRequest), (RuntimeError("bad"), InternalError)]
)
async def test_what_the_engine_throws(engine_of, raised, expected) -> None:
    engine, _ = engine_of(raised)
    with pytest.raises(expected):
        async for _ in engine.complete("x", Sampling()):
            pass
    with pytest.raises(expected):
        await engine.embed("x")


async def test_an_answer_without_its_end_is_truncated(engine_of) -> None:
    engine, _ = engine_of(said("a"))
    with pytest.raises(StreamTruncated):
        async for _ in engine.complete("x", Sampling()):
            pass


async def test_a_cancelled_embedding_holds_on_until_the_engine_is_done(engine_of, settle) -> None:
    engine, server = engine_of(b"{}")
    begun, gate = threading.Event(), threading.Event()

    def handle(prompt: bytes) -> bytes:
        begun.set()
        gate.wait(5)
        return b"{}"

    server.handle_embeddings = handle
    task = asyncio.create_task(engine.embed("x"))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await settle()
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(StartupError) as caught:
        await llama.load(Path("x.gguf"), slots=1, context=10)
    assert "pip install 'moonpool[local]'" in str(caught.value)


def test_threads() -> None:
    assert [default_threads(cores) for cores in (1, 2, 3, 8)] == [1, 1, 2, 7]


def test_a_revision_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF1")
    first = llama.revision_of(path)
    path.write_bytes(b"GGUF22")
    assert llama.revision_of(path) != first
    assert first.startswith("m-")


async def test_the_folder_of_the_side_door_goes_with_the_engine(engine_of) -> None:
    engine, _ = engine_of()
    folder = Path(engine._door.path).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    await engine.close()
    assert not folder.exists()
    await engine.close()


async def test_the_engine_of_vectors_is_started_once_and_only_when_needed() -> None:
    starts = 0

    async def start() -> Running:
        nonlocal starts
        starts += 1
        await asyncio.sleep(0)
        return Running(Server(b'{"data": [{"embedding": [1.0]}]}'), SideDoor())

    vectors = Vectors(start)
    await vectors.close()
    vectors = Vectors(start)
    assert starts == 0
    found = await asyncio.gather(*[vectors.embed("x") for _ in range(3)])
    assert starts == 1
    assert [vector.values for vector in found] == [[1.0]] * 3
    await vectors.close()
