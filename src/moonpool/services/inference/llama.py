"""The llama.cpp engine, in this process through xllamacpp.

event loop ──generate──► worker thread (one a slot) ──► handle_*(body, callback)   blocks, without the GIL
     ▲                        callback(event) ◄── engine thread: continuous batching over all slots
     └──call_soon_threadsafe──────┘  returns True to stop: the engine drops the task and frees the slot
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from moonpool.core.errors import MoonpoolError, StreamTruncated
from moonpool.services.inference.engine import (
    ChatPrompt,
    Finished,
    Generation,
    ModelInfo,
    Piece,
    Prompt,
    Sampling,
    Vector,
)
from moonpool.services.inference.llama_start import Callback, Running, Server, start
from moonpool.services.inference.llama_vectors import Vectors
from moonpool.services.inference.llama_wire import (
    EventReader,
    chat_body,
    completion_body,
    refusal,
    schema_param,
)

Handle = Callable[[bytes, Callback], None]


async def load(path: Path, *, slots: int, context: int, threads: int = 0) -> "LlamaEngine":
    """The model of a GGUF file. Raises StartupError."""
    started = time.monotonic()
    running = await start(path, slots=slots, context=context, threads=threads)
    seconds = time.monotonic() - started
    properties = await running.door.properties()
    capabilities = properties.chat_template_caps
    info = ModelInfo(
        context=properties.default_generation_settings.n_ctx or context,
        knows_tools=capabilities.supports_tools or capabilities.supports_tool_calls,
        revision=revision_of(path),
        load_seconds=seconds,
    )

    async def start_vectors() -> Running:
        return await start(path, slots=1, context=info.context, threads=threads, embedding=True)

    return LlamaEngine(running, info, Vectors(start_vectors), slots=slots)


def revision_of(path: Path) -> str:
    """Changes when the file does, without reading it all."""
    status = path.stat()
    return f"{path.stem}-{status.st_size:x}-{int(status.st_mtime):x}"


class LlamaEngine:
    """See engine.Engine."""

    def __init__(self, running: Running, info: ModelInfo, vectors: Vectors, *, slots: int) -> None:
        self.info = info
        self._server: Server | None = running.server
        self._door = running.door
        self._vectors = vectors
        self._workers = ThreadPoolExecutor(slots, thread_name_prefix="generation")

    def chat(self, prompt: ChatPrompt, sampling: Sampling) -> Generation:
        handle = self._running().handle_chat_completions
        return LlamaGeneration(
            self._workers, handle, chat_body(prompt, sampling), sampling, schema_param(prompt)
        )

    def complete(self, prompt: Prompt, sampling: Sampling) -> Generation:
        handle = self._running().handle_completions
        return LlamaGeneration(self._workers, handle, completion_body(prompt, sampling), sampling)

    async def embed(self, text: Prompt) -> Vector:
        return await self._vectors.embed(text)

    async def tokenize(self, text: str) -> list[int]:
        return await self._door.tokenize(text)

    async def prompt_tokens(self, prompt: ChatPrompt | Prompt) -> list[int]:
        if isinstance(prompt, ChatPrompt):
            prompt = await self._door.template(prompt.messages)
        return await self._door.tokenize(prompt, special=True) if isinstance(prompt, str) else prompt

    async def answer_tokens(self, parts: Sequence[int | str]) -> list[int]:
        return await self._door.tokenize(parts)

    async def detokenize(self, tokens: list[int]) -> str:
        return await self._door.detokenize(tokens)

    async def close(self) -> None:
        """After every generation has ended or was cancelled."""
        await self._vectors.close()
        if self._server is not None:
            await asyncio.to_thread(self._workers.shutdown)
            self._server = None  # the last reference: its destructor ends the engine's threads
            self._door.close()

    def _running(self) -> Server:
        assert self._server is not None, "the engine is closed"
        return self._server


class LlamaGeneration:
    """See engine.Generation. Its worker thread ends with it."""

    def __init__(
        self,
        workers: ThreadPoolExecutor,
        handle: Handle,
        body: bytes,
        sampling: Sampling,
        schema: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[bytes | MoonpoolError | None] = asyncio.Queue()
        self._reader = EventReader(logprobs=sampling.logprobs, traced=sampling.traced, schema=schema)
        self._schema = schema
        self._cancelled = threading.Event()
        self._work = self._loop.run_in_executor(workers, self._run, handle, body)

    async def __aiter__(self) -> AsyncIterator[Piece | Finished]:
        while True:
            event = await self._events.get()
            if event is None:
                if not self._reader.finished:
                    raise StreamTruncated("The engine ended its answer early.")
                return
            if isinstance(event, MoonpoolError):
                raise event
            for part in self._reader.feed(event):
                yield part

    def cancel(self) -> None:
        self._cancelled.set()

    async def wait_closed(self) -> None:
        await asyncio.wait([self._work])

    def _run(self, handle: Handle, body: bytes) -> None:
        """In the worker thread."""
        try:
            if not self._cancelled.is_set():
                handle(body, self._on_event)
        except (ValueError, RuntimeError) as error:
            self._tell(refusal(error, self._schema))
        finally:
            self._tell(None)

    def _on_event(self, data: bytes) -> bool:
        """In the worker thread; True stops the engine."""
        if self._cancelled.is_set():
            return True
        self._tell(data)
        return False

    def _tell(self, event: bytes | MoonpoolError | None) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)
