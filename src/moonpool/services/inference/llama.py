"""The llama.cpp engine, in this process through xllamacpp.

    event loop ──generate──► worker thread (one a slot) ──► handle_*(body, callback)   blocks, without the GIL
         ▲                        callback(event) ◄── engine thread: continuous batching over all slots
         └──call_soon_threadsafe──────┘  returns True to stop: the engine drops the task and frees the slot

Loading holds the GIL (the constructor does not release it): the process answers nobody meanwhile.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from moonpool.core.errors import MoonpoolError, StartupError, StreamTruncated
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
from moonpool.services.inference.llama_wire import (
    EventReader,
    chat_body,
    completion_body,
    read_vector,
    refusal,
)
from moonpool.services.inference.side_door import SideDoor
from moonpool.services.inference.weights import INSTALL

if TYPE_CHECKING:
    from xllamacpp import CommonParams

BATCH = 128
"""Prompt tokens read in one step. A step cannot be interrupted, and the other slots wait for it: this is
half a second on two cores, at hardly less prompt speed than with 512."""
NICENESS = 3
"""Added to the engine's threads only: on a small machine the gateway gets the processor first."""
POOLING_LAST = 3
"""llama.cpp's LLAMA_POOLING_TYPE_LAST. The last token has seen the whole text also where its beginning came
from a cache or another batch, so a vector does not depend on what else runs (the mean's does)."""

Callback = Callable[[bytes], bool]
Handle = Callable[[bytes, Callback], None]


class Server(Protocol):
    """What is used of xllamacpp.Server."""

    def handle_chat_completions(self, prompt: bytes, callback: Callback) -> None: ...

    def handle_completions(self, prompt: bytes, callback: Callback) -> None: ...

    def handle_embeddings(self, prompt: bytes) -> bytes: ...


def default_threads(cores: int) -> int:
    """All of two cores (the niceness keeps the gateway alive), and one less of more."""
    return cores if cores <= 2 else cores - 1


async def load(path: Path, *, slots: int, context: int, threads: int = 0) -> "LlamaEngine":
    """The model of a GGUF file. Raises StartupError."""
    try:
        import xllamacpp
    except ImportError as error:
        raise StartupError(
            f"the engine is not installed ({error})", where="xllamacpp", hint=f"{INSTALL}."
        ) from None
    door = SideDoor()
    params = _params(xllamacpp.CommonParams(), path, door.path, slots=slots, context=context, threads=threads)
    started = time.monotonic()
    before = _thread_ids()
    try:
        server: Server = await asyncio.to_thread(xllamacpp.Server, params)
    except RuntimeError:
        door.close()
        raise StartupError(
            "the engine cannot load the model",
            where=str(path),
            hint="The file is damaged, too new for this engine, or needs more memory than there is.",
        ) from None
    seconds = time.monotonic() - started
    _restore_signal_handlers()
    _be_nice(_thread_ids() - before)
    properties = await door.properties()
    capabilities = properties.chat_template_caps
    info = ModelInfo(
        context=properties.default_generation_settings.n_ctx or context,
        knows_tools=capabilities.supports_tools or capabilities.supports_tool_calls,
        revision=revision_of(path),
        load_seconds=seconds,
    )
    return LlamaEngine(server, door, info, slots=slots)


def revision_of(path: Path) -> str:
    """Changes when the file does, without reading it all."""
    status = path.stat()
    return f"{path.stem}-{status.st_size:x}-{int(status.st_mtime):x}"


def _params(
    params: "CommonParams", path: Path, socket_path: str, *, slots: int, context: int, threads: int
) -> "CommonParams":
    params.model.path = str(path)
    params.hostnames = [socket_path]
    params.n_threads_http = 2
    params.ui = False
    params.verbosity = -1
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.n_batch = params.n_ubatch = BATCH
    params.embedding = True
    params.pooling_type = POOLING_LAST
    params.cache_prompt = False  # by default; generations ask for it, embeddings must not have it
    params.cache_ram_mib = 0
    params.warmup = False
    params.fit_params = False  # would load the model twice to guess sizes that we give
    count = threads or default_threads(_cores())
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = count
    return params


class LlamaEngine:
    """See engine.Engine."""

    def __init__(self, server: Server, door: SideDoor, info: ModelInfo, *, slots: int) -> None:
        self.info = info
        self._server: Server | None = server
        self._door = door
        self._workers = ThreadPoolExecutor(slots, thread_name_prefix="generation")

    def chat(self, prompt: ChatPrompt, sampling: Sampling) -> Generation:
        handle = self._running().handle_chat_completions
        return LlamaGeneration(self._workers, handle, chat_body(prompt, sampling), sampling.logprobs)

    def complete(self, prompt: Prompt, sampling: Sampling) -> Generation:
        handle = self._running().handle_completions
        return LlamaGeneration(self._workers, handle, completion_body(prompt, sampling), sampling.logprobs)

    async def embed(self, text: Prompt) -> Vector:
        body = msgspec.json.encode({"input": text, "model": ""})
        handle = self._running().handle_embeddings
        call = asyncio.get_running_loop().run_in_executor(self._workers, handle, body)
        try:
            return read_vector(await asyncio.shield(call))
        except asyncio.CancelledError:
            await asyncio.wait([call])  # the engine cannot be stopped here: the slot is taken until it ends
            raise
        except (ValueError, RuntimeError) as error:
            raise refusal(error) from None

    async def tokenize(self, text: str) -> list[int]:
        return await self._door.tokenize(text)

    async def detokenize(self, tokens: list[int]) -> str:
        return await self._door.detokenize(tokens)

    async def close(self) -> None:
        """After every generation has ended or was cancelled."""
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
        self, workers: ThreadPoolExecutor, handle: Handle, body: bytes, logprobs: int | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[bytes | MoonpoolError | None] = asyncio.Queue()
        self._reader = EventReader(logprobs=logprobs)
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
            self._tell(refusal(error))
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


def _cores() -> int:
    """Those this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _thread_ids() -> set[int]:
    """None but on Linux, the only one to have a niceness by thread."""
    tasks = Path("/proc/self/task")
    return {int(entry.name) for entry in tasks.iterdir()} if tasks.is_dir() else set()


def _be_nice(threads: set[int]) -> None:
    """Linux gives each thread a niceness of its own, and new threads their maker's (setpriority(2))."""
    for thread in threads:
        try:
            os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
        except ProcessLookupError:
            continue


def _restore_signal_handlers() -> None:
    """llama.cpp takes SIGINT and SIGTERM for itself while it starts: give them back to Python."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler is not None:
            signal.signal(number, handler)
            if callable(handler):
                signal.siginterrupt(number, False)
