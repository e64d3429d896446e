"""Starting llama.cpp in this process: its parameters, and what it takes for itself and has to give back.

Starting holds the GIL (the constructor does not release it): the process answers nobody meanwhile.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from moonpool.core.errors import StartupError
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
"""llama.cpp's LLAMA_POOLING_TYPE_LAST. The last token has seen the whole text also where that was read in
several batches, so that long texts can be embedded, and a vector depends on nothing but its text."""

VALUES_BF16 = 30
"""llama.cpp's GGML_TYPE_BF16, for the values in the attention cache beside keys in half precision. With both
in half precision its attention on a processor takes one kernel for few tokens, another for 64 and more, and a
third for one token beyond 512 on several threads, each rounding in its own way. What is read at once then
differs from what was written token by token: of answers continued after 34 to 89 tokens half were not the
undisturbed one at temperature 0. With two types there is one kernel, and none differed. It costs 3 to 7 % of
the prompt's speed and no memory."""

Callback = Callable[[bytes], bool]

SMALL = 1 << 30
"""Bytes of weights below which a model is small: about a billion parameters."""
SMALL_TEMPERATURE = 0.0
"""Of a small model when a request names none. At the engine's 0.8 the packaged model of 135 million
parameters names Paris as the capital of France in 18 of 32 answers, at 0.1 in 21 of 24 (and then may ramble
to the end of its context), at 0 in all 24. A request's own temperature stands above it."""


class Server(Protocol):
    """What is used of xllamacpp.Server."""

    def handle_chat_completions(self, prompt: bytes, callback: Callback) -> None: ...

    def handle_completions(self, prompt: bytes, callback: Callback) -> None: ...

    def handle_embeddings(self, prompt: bytes) -> bytes: ...


@dataclass(frozen=True)
class Running:
    server: Server
    door: SideDoor


def default_threads(cores: int) -> int:
    """All cores but one. The threads wait for each other by spinning: as soon as one of them has to share
    its core (with the gateway), all slow down tenfold."""
    return max(1, cores - 1)


async def start(path: Path, *, slots: int, context: int, threads: int, embedding: bool = False) -> Running:
    """Raises StartupError. `context` is the tokens of one slot; `threads` 0 is chosen from the cores."""
    try:
        import xllamacpp
    except ImportError as error:
        raise StartupError(
            f"the engine is not installed ({error})", where="xllamacpp", hint=f"{INSTALL}."
        ) from None
    door = SideDoor()
    params = _params(xllamacpp.CommonParams(), path, door.path)
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or default_threads(_cores())
    if embedding:
        params.embedding = True
        params.pooling_type = POOLING_LAST
        params.cache_prompt = False
    else:
        params.cache_type_v = VALUES_BF16
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
    _restore_signal_handlers()
    _be_nice(_thread_ids() - before - {thread.native_id for thread in threading.enumerate()})
    return Running(server, door)


def _params(params: "CommonParams", path: Path, socket_path: str) -> "CommonParams":
    params.model.path = str(path)
    params.hostnames = [socket_path]
    params.n_threads_http = 2
    params.ui = False
    params.verbosity = -1
    params.n_batch = params.n_ubatch = BATCH
    params.cache_ram_mib = 0
    params.warmup = False
    if path.stat().st_size < SMALL:
        params.sampling.temp = SMALL_TEMPERATURE
    params.fit_params = False  # would load the model twice to guess sizes that we give
    return params


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
