"""What the chat service does: asks models in conversations, lets clients join and cancel answers."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from moonpool.contracts.asked import Asked
from moonpool.contracts.catalogue import CatalogueClient
from moonpool.core.errors import BadRequest, MoonpoolError
from moonpool.core.principal import Principal
from moonpool.services.chat.begun import Begun
from moonpool.services.chat.history import Turn, compose
from moonpool.services.chat.replay import replay
from moonpool.services.chat.run import Run
from moonpool.services.chat.runner import Runner
from moonpool.services.chat.schema import Message, NewMessage, Status
from moonpool.services.chat.store import Store

CANCEL_WAIT = 3.0
"""Seconds to wait for a cancelled answer to be stored as such."""
POLL = 0.25
"""Seconds between looks at an answer that another instance runs."""


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = True


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request to inference: always streamed, so that what has arrived can be stored on the way."""

    model: str
    messages: list[Turn]
    stream: bool
    stream_options: _StreamOptions
    temperature: float | None = None
    max_tokens: int | None = None


class Chat:
    """`store` is for the routes as well: what needs no decision they read there."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        catalogue: CatalogueClient | None,
        *,
        default_model: str,
        default_context: int,
    ) -> None:
        self.store = store
        self._runner = runner
        self._catalogue = catalogue
        self._default_model = default_model
        self._default_context = default_context

    def use(self, default_model: str) -> None:
        """For questions that name no model, from now on."""
        self._default_model = default_model

    async def ask(
        self, principal: Principal, conversation: str, new: NewMessage, asked: Asked | None = None
    ) -> tuple[Run | None, Begun]:
        """Store the question and start its answer, which then runs whoever is listening. A request that has
        come before joins the answer it began; no run: that is over, or runs in another instance.

        Raises NotFound, Conflict (another answer is running), Overloaded.
        """
        self._runner.check_capacity()
        # Shielded: a client that leaves in between must not leave an answer that nobody runs.
        return await asyncio.shield(self._ask(principal, conversation, new, asked))

    async def _ask(
        self, principal: Principal, conversation: str, new: NewMessage, asked: Asked | None
    ) -> tuple[Run | None, Begun]:
        begun = await self.store.begin(
            principal, conversation, new, default_model=self._default_model, asked=asked
        )
        running = self._runner.get(begun.answer.id)
        if running is not None or not begun.first:  # of ours, and was taken for dead: it is not asked twice
            return running, begun
        model = begun.answer.model or self._default_model
        context = await self._context(model)
        budget = context - min(new.max_tokens or context // 4, context // 2)
        turns = compose(begun.conversation.system_prompt, begun.history, new.content, budget=budget)
        body = _Body(
            model=model,
            messages=turns,
            stream=True,
            stream_options=_StreamOptions(),
            temperature=new.temperature,
            max_tokens=new.max_tokens,
        )
        run = Run(begun.answer.id, conversation, metered_as=begun.metered_as)
        self._runner.start(run, principal, msgspec.json.encode(body))
        return run, begun

    async def _context(self, model: str) -> int:
        """Tokens of the model's context, or a cautious guess: the answer does not depend on it."""
        if self._catalogue is None:
            return self._default_context
        try:
            catalogue = await self._catalogue.catalogue()
        except MoonpoolError:
            return self._default_context
        contexts = {entry.id: entry.context for entry in catalogue.models}
        return contexts.get(model) or self._default_context

    async def join(self, principal: Principal, conversation: str, id: str) -> AsyncIterator[bytes]:
        """The answer's events from its beginning, then live, wherever it runs."""
        message = await self.store.message(principal, conversation, id)
        if message.role != "assistant":
            raise BadRequest("Only an answer can be streamed.", param="message_id")
        run = self._runner.get(id)
        if run is not None:
            return run.follow()
        return replay(message, lambda: self.store.message(principal, conversation, id), poll=POLL)

    async def ended(self, principal: Principal, conversation: str, id: str) -> Message:
        """The answer once it is over, wherever it runs."""
        message = await self.store.message(principal, conversation, id)
        while message.status is Status.STREAMING:
            await asyncio.sleep(POLL)
            message = await self.store.message(principal, conversation, id)
        return message

    async def cancel(self, principal: Principal, conversation: str, id: str) -> Message:
        """Stop the answer, wherever it runs; what had arrived stays. An answer that is over stays so."""
        message = await self.store.message(principal, conversation, id)
        if message.status is not Status.STREAMING:
            return message
        run = self._runner.get(id)
        try:
            async with asyncio.timeout(CANCEL_WAIT):
                if run is not None:
                    run.stop(Status.CANCELLED)
                    await run.ended.wait()
                    return await self.store.message(principal, conversation, id)
                await self.store.request_cancel(id)
                while message.status is Status.STREAMING:
                    await asyncio.sleep(POLL)
                    message = await self.store.message(principal, conversation, id)
        except TimeoutError:
            pass  # the request stands; the answer below says how far it is
        return await self.store.message(principal, conversation, id)

    async def delete(self, principal: Principal, conversation: str, asked: Asked | None = None) -> None:
        """Delete the conversation; its running answer is stopped."""
        await self.store.delete(principal, conversation, asked)
        for run in self._runner.of_conversation(conversation):
            run.stop(Status.CANCELLED)
