"""The models that this process runs, and one run of one of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from moonpool.core.errors import BadRequest
from moonpool.services.inference.engine import Engine, Finished, Generation, Piece
from moonpool.services.inference.rates import Rates
from moonpool.services.inference.slots import Slots


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """`name` is the alias that clients use. Embeddings queue apart from generations (`vectors`)."""

    name: str
    engine: Engine
    slots: Slots
    vectors: Slots
    rates: Rates = field(default_factory=Rates)


class Load(Struct, frozen=True, kw_only=True):
    """What the inference balancer asks about a model. Rates are tokens a second, 0 when unknown."""

    running: int
    waiting: int
    slots: int
    wait_seconds: float
    prefill_rate: float
    decode_rate: float
    context: int
    revision: str


class Job(Struct, frozen=True, kw_only=True):
    """One choice: number `index` of the answer, for prompt number `prompt`. `echo` is said first; `whole`
    makes, of the end of what runs here, the end of an answer that began elsewhere."""

    index: int
    prompt: int
    start: Callable[[], Generation]
    echo: str = ""
    whole: Callable[[Finished], Finished] | None = None


def load_of(model: LocalModel) -> Load:
    return Load(
        running=model.slots.running,
        waiting=model.slots.waiting,
        slots=model.slots.limit,
        wait_seconds=model.slots.wait_estimate(),
        prefill_rate=model.rates.prefill,
        decode_rate=model.rates.decode,
        context=model.engine.info.context,
        revision=model.engine.info.revision,
    )


async def run(
    model: LocalModel, jobs: Sequence[Job], *, param: str
) -> AsyncGenerator[tuple[Job, Piece | Finished], None]:
    """All jobs of one request in one slot, one after the other.

    A request with many choices hence never takes more than its share, and each choice after the first
    finds the prompt in the slot's cache. Close the generator to cancel: the slot is free when that returns.
    `param` is what an over-long prompt is blamed on.
    """
    async with model.slots.slot():
        for job in jobs:
            if job.echo:
                yield job, Piece(text=job.echo)
            generation = job.start()
            try:
                async for part in generation:
                    if isinstance(part, Finished):
                        model.rates.observe(part)
                        yield job, part if job.whole is None else job.whole(part)
                    else:
                        yield job, part
            except BadRequest as error:
                if error.code == "context_length_exceeded":
                    error.param = param
                raise
            finally:
                generation.cancel()
                await _closed(generation)


async def _closed(generation: Generation) -> None:
    """Wait until the engine holds nothing for it, also when cancelled meanwhile: the slot is still in use."""
    closing = asyncio.ensure_future(generation.wait_closed())
    cancelled: asyncio.CancelledError | None = None
    while not closing.done():
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
