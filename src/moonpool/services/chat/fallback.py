"""While the chat service is down: history from what is known, and new messages answered all the same.

    POST …/messages ──► the turns that are known ──► inference ──► the client
                                                        └─► the exchange, kept for …/exchanges on recovery

As in the service, the last event (`[DONE]`) is sent after the exchange is safe: here in the queue of
deferred requests, from where it is stored once when the service is back.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from moonpool.contracts.asked import Asked, asked
from moonpool.contracts.config import DEFAULT_MODEL
from moonpool.contracts.fallback import Fallback, FallbackParts, ReadOnly
from moonpool.core.context import Context
from moonpool.core.errors import MoonpoolError, PlatformError, StreamTruncated, Unavailable
from moonpool.core.ids import new_id
from moonpool.core.message import Body, Request, Response
from moonpool.http.reading import from_iterator
from moonpool.openai.parse import parse
from moonpool.services.chat.answer import DONE, Answer
from moonpool.services.chat.endings import Refused
from moonpool.services.chat.events import check_answer, read_events
from moonpool.services.chat.history import Turn, compose
from moonpool.services.chat.schema import (
    Conversation,
    ConversationPage,
    Ended,
    Exchange,
    Message,
    MessagePage,
    NewMessage,
    Status,
)

_ALL = "/api/conversations"
_MESSAGES = _ALL + "/{conversation_id}/messages"
_EXCHANGES = _ALL + "/{conversation_id}/exchanges"


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = True


class _Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    messages: list[Turn]
    stream: bool
    stream_options: _StreamOptions
    temperature: float | None = None
    max_tokens: int | None = None


def create(parts: FallbackParts) -> Fallback:
    return _Chat(parts, "conversations are")


class _Chat(ReadOnly):
    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        asks = request.method == "POST" and ctx.route.path == _MESSAGES
        if not asks or self.parts.inference is None:
            return await super().answer(ctx, request, cause)
        exchange = _Exchanging(self.parts, ctx, _read(request), _asked(ctx, request))
        response = await self.parts.inference.chat(
            ctx.principal, exchange.body(), request_id=exchange.answer_id
        )
        try:
            await check_answer(response)
        except Refused as refused:
            if refused.failure.status < 500:  # the model's own word about this message
                return response
            raise Unavailable(refused.failure.error.message, code=refused.failure.error.code) from None
        return await exchange.respond(response.body)


class _Exchanging:
    """One question and its answer."""

    def __init__(self, parts: FallbackParts, ctx: Context, new: NewMessage, name: Asked | None) -> None:
        self._parts = parts
        self._ctx = ctx
        self._new = new
        self._name = name
        self._id = ctx.parameters["conversation_id"]
        self._conversation = self._find()
        self._answer = Answer()
        self._asked_at = parts.clock.time()
        self.question_id = new_id("msg", parts.clock)
        self.answer_id = new_id("msg", parts.clock)
        configured = next(iter(parts.config.models), DEFAULT_MODEL)
        self._model = new.model or (self._conversation and self._conversation.model) or configured

    def body(self) -> bytes:
        """The request to inference, with as much of the history as is known and fits."""
        new = self._new
        context = self._parts.config.engine.context
        budget = context - min(new.max_tokens or context // 4, context // 2)
        system = self._conversation.system_prompt if self._conversation else None
        ask = _Ask(
            model=self._model,
            messages=compose(system, self._history(), new.content, budget=budget),
            stream=True,
            stream_options=_StreamOptions(),
            temperature=new.temperature,
            max_tokens=new.max_tokens,
        )
        return msgspec.json.encode(ask)

    async def respond(self, body: Body) -> Response:
        headers = [
            (b"x-moonpool-message", self.answer_id.encode()),
            (b"x-moonpool-question", self.question_id.encode()),
            (b"cache-control", b"no-store"),
        ]
        events = self._events(body)
        if self._new.stream:
            headers.append((b"content-type", b"text/event-stream"))
            return Response(200, headers, from_iterator(events))
        async with aclosing(events):
            async for _ in events:
                pass
        headers.append((b"content-type", b"application/json"))
        return Response(201, headers, msgspec.json.encode(self._message()))

    async def _events(self, body: Body) -> AsyncGenerator[bytes, None]:
        """The model's events. What has arrived is kept however it ends, and `[DONE]` comes after that."""
        status: Ended = "interrupted"
        done = False
        try:
            async with aclosing(read_events(body)) as events:
                async for data in events:
                    if data == DONE:
                        done = True
                        continue
                    self._answer.add(data)
                    yield b"data: " + data + b"\n\n"
            if self._answer.error is not None:
                raise Unavailable(self._answer.error.message, code=self._answer.error.code)
            if not done:
                raise StreamTruncated("The model's answer broke off.")
            status = "completed"
        except MoonpoolError:
            status = "failed"
            raise
        finally:
            await self._keep(status)
        yield b"data: [DONE]\n\n"

    async def _keep(self, status: Ended) -> None:
        exchange = Exchange(
            question_id=self.question_id,
            answer_id=self.answer_id,
            content=self._new.content,
            answer=self._answer.content,
            reasoning=self._answer.reasoning,
            status=status,
            model=self._model,
            finish_reason=self._answer.finish_reason,
            usage=self._answer.usage,
            asked_at=self._asked_at,
            answered_at=self._parts.clock.time(),
            asked=self._name,
        )
        request = Request(
            "POST",
            f"{_ALL}/{self._id}/exchanges",
            "",
            {b"content-type": b"application/json", b"idempotency-key": self.answer_id.encode()},
            msgspec.json.encode(exchange),
        )
        await self._parts.later.defer(
            self._ctx, request, reason="answered while chat was away", route=_EXCHANGES
        )

    def _message(self) -> Message:
        return Message(
            id=self.answer_id,
            conversation=self._id,
            parent=self.question_id,
            role="assistant",
            content=self._answer.content,
            reasoning=self._answer.reasoning,
            status=Status.COMPLETED,
            model=self._model,
            finish_reason=self._answer.finish_reason,
            usage=self._answer.usage,
            created_at=self._asked_at,
            updated_at=self._parts.clock.time(),
        )

    # ── what is known ──────────────────────────────────────────────────────────────────────────────

    def _find(self) -> Conversation | None:
        known = self._parts.known.latest(self._ctx, f"{_ALL}/{self._id}")
        if known is not None:
            return msgspec.json.decode(known.body, type=Conversation)
        listed = self._parts.known.latest(self._ctx, _ALL)
        if listed is None:
            return None
        page = msgspec.json.decode(listed.body, type=ConversationPage)
        return next((each for each in page.data if each.id == self._id), None)

    def _history(self) -> list[Message]:
        known = self._parts.known.latest(self._ctx, f"{_ALL}/{self._id}/messages")
        if known is None:
            return []
        page = msgspec.json.decode(known.body, type=MessagePage)
        return sorted(page.data, key=lambda message: message.id)  # ids sort by time


def _read(request: Request) -> NewMessage:
    assert isinstance(request.body, bytes)
    return parse(NewMessage, request.body, {})


def _asked(ctx: Context, request: Request) -> Asked | None:
    """As the service names it, which may have stored the question and was killed then."""
    assert isinstance(request.body, bytes)
    return asked(
        tenant=ctx.principal.tenant,
        user=ctx.principal.user,
        method=request.method,
        path=_MESSAGES.format_map(ctx.parameters),
        request_id=ctx.request_id,
        key=request.headers.get(b"idempotency-key", b"").decode("latin-1"),
        body=request.body,
    )
