"""The engine takes SIGTERM and SIGINT for itself; after loading they are the process's own again."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.real_model

SCRIPT = """
import asyncio, os, signal, uvloop
from moonpool.services.inference import llama, weights

async def main():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    engine = await llama.load(weights.packaged_weights(), slots=1, context=256)
    await engine.embed("starts the second engine")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(told.wait(), 5)
    generation = engine.complete("Once", llama.Sampling(max_tokens=1))
    assert [part async for part in generation], "the engine still works"
    await engine.close()
    print("told and ended")

asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
"""


def test_sigterm_reaches_the_event_loop_and_not_the_engine() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "told and ended\n", ended.stderr
    assert ended.returncode == 0
