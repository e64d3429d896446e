"""Chat completions, completions and embeddings by local models: the domain, without HTTP."""

import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from moonpool.contracts.continuation import Begun
from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, Conflict, NotFound
from moonpool.core.ids import sortable
from moonpool.openai.chunks import (
    ChatCompletion,
    Embedding,
    EmbeddingList,
    EmbeddingUsage,
    TextCompletion,
    base64_vector,
)
from moonpool.openai.schema import EmbeddingRequest
from moonpool.services.inference.answers import ChatCollector, Collector, Head, Tally, TextCollector
from moonpool.services.inference.bounds import check_messages, check_prompt
from moonpool.services.inference.continuing import Nothing, continued_chat, continued_text
from moonpool.services.inference.engine import Engine, Finished, Generation, Piece, Prompt, Vector
from moonpool.services.inference.events import ChatEvents, Events, TextEvents
from moonpool.services.inference.models import Job, Load, LocalModel, load_of, run
from moonpool.services.inference.schema import ChatRequest, TextRequest
from moonpool.services.inference.translate import (
    chat_prompt,
    chat_sampling,
    check_text,
    text_sampling,
)

Answer = TypeVar("Answer")
Observer = Callable[[LocalModel, Tally], None]


class Inference:
    """`observer` is told of every answer that has ended, with its usage."""

    def __init__(
        self, models: Mapping[str, LocalModel], clock: Clock, observer: Observer = lambda model, tally: None
    ) -> None:
        self._models = models
        self._clock = clock
        self._observer = observer

    def load(self) -> dict[str, Load]:
        return {name: load_of(model) for name, model in self._models.items()}

    async def chat(self, request: ChatRequest) -> ChatCompletion:
        model = self._find(request.model)
        head = self._head(model, "chatcmpl")
        collector = ChatCollector(head, request.n or 1)
        return await self._collect(model, _chat_jobs(model.engine, request), collector, "messages")

    def chat_events(self, request: ChatRequest, *, traced: bool = False) -> AsyncGenerator[bytes, None]:
        """Raises, before the first event, what refuses the request. `traced`: with the tokens beside."""
        model = self._find(request.model)
        events = ChatEvents(self._head(model, "chatcmpl"), include_usage=request.includes_usage)
        return self._events(model, _chat_jobs(model.engine, request, traced=traced), events, "messages")

    async def continued_chat(self, request: ChatRequest, begun: Begun) -> AsyncGenerator[bytes, None]:
        """The rest of an answer that broke off elsewhere, traced like its beginning."""
        model = self._find(request.model)
        head = self._head(model, "chatcmpl", begun)
        events = ChatEvents(head, include_usage=request.includes_usage, begun=True)
        job = await continued_chat(model.engine, request, begun)
        async with aclosing(self._events(model, [job], events, "messages")) as stream:
            async for event in stream:
                yield event

    async def complete(self, request: TextRequest) -> TextCompletion:
        model = self._find(request.model)
        jobs = await _text_jobs(model.engine, request)
        collector = TextCollector(self._head(model, "cmpl"), len(jobs))
        return await self._collect(model, jobs, collector, "prompt")

    async def text_events(
        self, request: TextRequest, *, traced: bool = False, begun: Begun | None = None
    ) -> AsyncGenerator[bytes, None]:
        """`begun`: the rest of an answer that broke off elsewhere."""
        model = self._find(request.model)
        if begun is None:
            jobs = await _text_jobs(model.engine, request, traced=traced)
        else:
            jobs = [await continued_text(model.engine, request, begun)]
        head = self._head(model, "cmpl", begun)
        events = TextEvents(head, include_usage=request.includes_usage)
        async with aclosing(self._events(model, jobs, events, "prompt")) as stream:
            async for event in stream:
                yield event

    async def embed(self, request: EmbeddingRequest) -> EmbeddingList:
        """Every input on its own, so that a text's vector is the same alone and in a list."""
        model = self._find(request.model)
        data = []
        tokens = 0
        for index, text in enumerate(request.inputs()):
            check_prompt(text, model.engine.info.context, f"input[{index}]")
        async with model.vectors.slot():
            for index, text in enumerate(request.inputs()):
                vector = await _embed(model.engine, text, index)
                tokens += vector.tokens
                values = cut(vector.values, request.dimensions)
                encoded = base64_vector(values) if request.encoding_format == "base64" else values
                data.append(Embedding(index=index, embedding=encoded))
        tally = Tally()
        tally.finished(0, Finished(reason="", prompt_tokens=tokens, cached_tokens=0, completion_tokens=0))
        self._observer(model, tally)
        return EmbeddingList(data=data, model=model.name, usage=EmbeddingUsage(tokens, tokens))

    async def _collect(
        self, model: LocalModel, jobs: list[Job], collector: Collector[Answer], param: str
    ) -> Answer:
        tally = Tally()
        async with aclosing(run(model, jobs, param=param)) as parts:
            async for job, part in parts:
                if isinstance(part, Piece):
                    tally.piece(part)
                    collector.piece(job.index, part)
                else:
                    tally.finished(job.prompt, part)
                    collector.finished(job.index, part)
        self._observer(model, tally)
        return collector.answer(tally.usage)

    async def _events(
        self, model: LocalModel, jobs: list[Job], events: Events, param: str
    ) -> AsyncGenerator[bytes, None]:
        tally = Tally()
        async with aclosing(run(model, jobs, param=param)) as parts:
            async for job, part in parts:
                if isinstance(part, Piece):
                    tally.piece(part)
                    yield events.piece(job.index, part)
                else:
                    tally.finished(job.prompt, part)
                    yield events.finished(job.index, part)
        self._observer(model, tally)
        yield events.end(tally.usage)

    def _find(self, name: str) -> LocalModel:
        model = self._models.get(name)
        if model is None:
            raise NotFound(
                f"The model '{name}' does not exist here.",
                code="model_not_found",
                param="model",
                hint="GET /v1/models lists the models.",
            )
        return model

    def _head(self, model: LocalModel, prefix: str, begun: Begun | None = None) -> Head:
        """Raises Conflict when an answer was begun by another revision of the model."""
        fingerprint = f"fp_{model.engine.info.revision}"
        if begun is not None and begun.fingerprint and begun.fingerprint != fingerprint:
            raise Conflict("The answer was begun by another revision of the model.", code="other_revision")
        return Head(
            id=begun.id if begun and begun.id else f"{prefix}-{sortable(self._clock)}",
            created=begun.created if begun and begun.created else int(self._clock.time()),
            model=model.name,
            fingerprint=fingerprint,
        )


def cut(vector: list[float], dimensions: int | None) -> list[float]:
    """The first `dimensions` values, of length 1 again. Raises BadRequest when there are not so many."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise BadRequest(
            f"This model's vectors have {len(vector)} dimensions, fewer than {dimensions}.",
            code="invalid_value",
            param="dimensions",
        )
    kept = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in kept))
    return [value / length for value in kept] if length else kept


def _chat_jobs(engine: Engine, request: ChatRequest, *, traced: bool = False) -> list[Job]:
    check_messages(request.messages, engine.info.context)
    prompt = chat_prompt(request, knows_tools=engine.info.knows_tools)
    return [
        Job(
            index=index,
            prompt=0,
            start=partial(engine.chat, prompt, chat_sampling(request, index, traced=traced)),
        )
        for index in range(request.n or 1)
    ]


async def _text_jobs(engine: Engine, request: TextRequest, *, traced: bool = False) -> list[Job]:
    """OpenAI numbers choices prompt by prompt."""
    check_text(request)
    for prompt in request.prompts():
        check_prompt(prompt, engine.info.context, "prompt")
    jobs: list[Job] = []
    for number, prompt in enumerate(request.prompts()):
        echo = ""
        if request.echo:
            echo = prompt if isinstance(prompt, str) else await engine.detokenize(prompt)
        for start in _starts(engine, request, prompt, traced=traced):
            jobs.append(Job(index=len(jobs), prompt=number, start=start, echo=echo))
    return jobs


def _starts(
    engine: Engine, request: TextRequest, prompt: Prompt, *, traced: bool
) -> Iterator[Callable[[], Generation]]:
    for choice in range(request.n or 1):
        if request.max_tokens == 0:
            yield partial(Nothing, engine, prompt)
        else:
            yield partial(engine.complete, prompt, text_sampling(request, choice, traced=traced))


async def _embed(engine: Engine, text: Prompt, index: int) -> Vector:
    try:
        return await engine.embed(text)
    except BadRequest as error:
        error.param = f"input[{index}]"
        raise
