"""An engine without a model: it says what it is told to, step by step, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from moonpool.core.clock import ManualClock
from moonpool.core.errors import BadRequest, MoonpoolError
from moonpool.services.inference.engine import (
    ChatPrompt,
    Finished,
    ModelInfo,
    Piece,
    Prompt,
    Sampling,
    Vector,
)
from moonpool.services.inference.models import LocalModel
from moonpool.services.inference.service import Inference
from moonpool.services.inference.slots import Slots

Step = Piece | Finished | MoonpoolError | Exception
END = Finished(reason="stop", prompt_tokens=10, cached_tokens=4, completion_tokens=2)
HELLO: list[Step] = [Piece(text="Hel"), Piece(text="lo"), END]


class FakeGeneration:
    """`gate`, when there is one, is waited for before each step."""

    def __init__(self, steps: list[Step], gate: asyncio.Semaphore | None) -> None:
        self._steps = steps
        self._gate = gate
        self.cancelled = False
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Piece | Finished]:
        for step in self._steps:
            if self._gate is not None:
                await self._gate.acquire()
            if isinstance(step, Exception):
                raise step
            yield step

    def cancel(self) -> None:
        self.cancelled = True

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class FakeEngine:
    PROMPT = (90, 91, 92)
    """The tokens of every conversation."""

    def __init__(self) -> None:
        self.info = ModelInfo(context=100, knows_tools=False, revision="r1", load_seconds=0.0)
        self.steps: list[Step] = HELLO
        self.gate: asyncio.Semaphore | None = None
        self.asked: list[tuple[ChatPrompt | Prompt, Sampling]] = []
        self.generations: list[FakeGeneration] = []
        self.closed = False

    def chat(self, prompt: ChatPrompt, sampling: Sampling) -> FakeGeneration:
        return self._generate(prompt, sampling)

    def complete(self, prompt: Prompt, sampling: Sampling) -> FakeGeneration:
        return self._generate(prompt, sampling)

    def _generate(self, prompt: ChatPrompt | Prompt, sampling: Sampling) -> FakeGeneration:
        self.asked.append((prompt, sampling))
        self.generations.append(FakeGeneration(self.steps, self.gate))
        return self.generations[-1]

    async def embed(self, text: Prompt) -> Vector:
        if len(text) > self.info.context:
            raise BadRequest("Too long.", code="context_length_exceeded")
        return Vector([3.0, 4.0, 12.0], len(text))

    async def tokenize(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    async def prompt_tokens(self, prompt: ChatPrompt | Prompt) -> list[int]:
        if isinstance(prompt, ChatPrompt):
            return [*self.PROMPT]
        return await self.tokenize(prompt) if isinstance(prompt, str) else prompt

    async def answer_tokens(self, parts: list[int | str]) -> list[int]:
        return [part if isinstance(part, int) else ord(part) for part in parts]

    async def detokenize(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def model(engine: FakeEngine, clock: ManualClock) -> LocalModel:
    slots, vectors = (Slots(running=1, waiting=1, clock=clock) for _ in range(2))
    return LocalModel(name="tiny", engine=engine, slots=slots, vectors=vectors)


@pytest.fixture
def inference(model: LocalModel, clock: ManualClock) -> Inference:
    return Inference({model.name: model}, clock)


@pytest.fixture
def settle() -> Callable[[], object]:
    """Let every task run until it waits for something."""

    async def run() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    return run
