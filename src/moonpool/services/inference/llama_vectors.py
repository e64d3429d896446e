"""Embeddings by a llama.cpp of their own, started when the first one is asked for.

The engine does not mix embeddings and generations in a batch: beside busy slots a vector would wait for
ever. The weights are mapped from the same file, and hence are in memory once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from moonpool.services.inference.engine import Prompt, Vector
from moonpool.services.inference.llama_start import Running
from moonpool.services.inference.llama_wire import read_vector, refusal


class Vectors:
    """One text at a time: vectors of a list must not share a batch either."""

    def __init__(self, start: Callable[[], Awaitable[Running]]) -> None:
        self._start = start
        self._running: Running | None = None
        self._starting = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="embedding")

    async def embed(self, text: Prompt) -> Vector:
        """Raises the engine's refusal, or StartupError when it cannot be started."""
        async with self._starting:
            if self._running is None:
                self._running = await self._start()
        handle = self._running.server.handle_embeddings
        body = msgspec.json.encode({"input": text, "model": ""})
        call = asyncio.get_running_loop().run_in_executor(self._worker, handle, body)
        try:
            return read_vector(await asyncio.shield(call))
        except asyncio.CancelledError:
            await asyncio.wait([call])  # it cannot be stopped: whoever asks next has to wait for it
            raise
        except (ValueError, RuntimeError) as error:
            raise refusal(error) from None

    async def close(self) -> None:
        await asyncio.to_thread(self._worker.shutdown)
        running, self._running = self._running, None
        if running is not None:
            running.door.close()
