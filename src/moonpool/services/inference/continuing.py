"""The rest of an answer that broke off at another instance: its tokens are read after the prompt, and the
model writes on. The end counts the prompt once and all of the answer, as if it had been written here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from msgspec.structs import replace

from moonpool.contracts.continuation import Begun
from moonpool.core.errors import BadRequest
from moonpool.services.inference.bounds import check_messages, check_prompt
from moonpool.services.inference.engine import Engine, Finished, Generation, Piece, Prompt, Sampling
from moonpool.services.inference.models import Job
from moonpool.services.inference.schema import ChatRequest, TextRequest
from moonpool.services.inference.translate import chat_prompt, chat_sampling, check_text, text_sampling


async def continued_chat(engine: Engine, request: ChatRequest, begun: Begun) -> Job:
    """Raises BadRequest for what cannot be continued: the engine would have to know the state of a tool
    call or of a grammar, not only the text."""
    prompt = chat_prompt(request, knows_tools=engine.info.knows_tools)
    if prompt.tools or prompt.response_format or (request.n or 1) > 1:
        raise _impossible("tools, a response format or several choices")
    check_messages(request.messages, engine.info.context)
    tokens = await engine.prompt_tokens(prompt)
    return await _job(engine, tokens, begun, chat_sampling(request, 0, traced=True))


async def continued_text(engine: Engine, request: TextRequest, begun: Begun) -> Job:
    check_text(request)
    prompts = request.prompts()
    if len(prompts) * (request.n or 1) > 1 or request.echo or request.logprobs is not None:
        raise _impossible("several choices, 'echo' or 'logprobs'")
    check_prompt(prompts[0], engine.info.context, "prompt")
    tokens = await engine.prompt_tokens(prompts[0])
    return await _job(engine, tokens, begun, text_sampling(request, 0, traced=True))


async def _job(engine: Engine, prompt: list[int], begun: Begun, sampling: Sampling) -> Job:
    parts = begun.answer
    done = sum([1 if isinstance(part, int) else part.count for part in parts])
    known = [part for part in parts if isinstance(part, int)]
    answer = known
    if len(known) < len(parts):  # tokenised piece by piece: no token spans two events
        answer = await engine.answer_tokens([p if isinstance(p, int) else p.text for p in parts])
    left = None if sampling.max_tokens is None else sampling.max_tokens - done
    start: Callable[[], Generation]
    if (left is not None and left <= 0) or len(prompt) + len(answer) >= engine.info.context:
        start = partial(Nothing, engine, prompt)
    else:
        start = partial(engine.complete, prompt + answer, replace(sampling, max_tokens=left))

    def whole(end: Finished) -> Finished:
        return replace(
            end,
            prompt_tokens=len(prompt),
            cached_tokens=min(end.cached_tokens, len(prompt)),
            completion_tokens=done + end.completion_tokens,
        )

    return Job(index=0, prompt=0, start=start, whole=whole)


def _impossible(what: str) -> BadRequest:
    return BadRequest(f"An answer with {what} cannot be continued.", code="not_continuable")


class Nothing:
    """The generation of no tokens, which engines do not know: only the prompt is counted."""

    def __init__(self, engine: Engine, prompt: Prompt) -> None:
        self._engine = engine
        self._prompt = prompt

    async def __aiter__(self) -> AsyncIterator[Piece | Finished]:
        prompt = self._prompt
        tokens = await self._engine.tokenize(prompt) if isinstance(prompt, str) else prompt
        yield Finished(reason="length", prompt_tokens=len(tokens), cached_tokens=0, completion_tokens=0)

    def cancel(self) -> None:
        """Nothing runs."""

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)
