"""The chat service's HTTP surface: /api/conversations."""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from moonpool.asgi.app import AnyRequest
from moonpool.asgi.caller import Caller
from moonpool.asgi.once import asked
from moonpool.services.chat.endings import ErrorBody, Failure
from moonpool.services.chat.exchanges import add_exchange
from moonpool.services.chat.schema import (
    Conversation,
    ConversationChange,
    ConversationPage,
    Deleted,
    Exchange,
    Message,
    MessagePage,
    NewConversation,
    NewMessage,
)
from moonpool.services.chat.service import Chat
from moonpool.services.chat.store import Order

ANSWER_HEADER = "x-moonpool-message"
QUESTION_HEADER = "x-moonpool-question"
"""The stored messages' ids: a chat stream has no room for events of our own (SDKs trip over them)."""

_ALL = "/api/conversations"
_ONE = _ALL + "/{conversation_id:str}"
_MESSAGES = _ONE + "/messages"
_MESSAGE = _MESSAGES + "/{message_id:str}"

CallerOf = NamedDependency[Caller]
Id = FromPath[str]
After = FromQuery[str | None]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]


def routes(chat: Chat) -> list[ControllerRouterHandler]:
    return [*_conversations(chat), *_messages(chat)]


def _conversations(chat: Chat) -> list[ControllerRouterHandler]:
    @post(_ALL, summary="Start a conversation")
    async def create(caller: CallerOf, request: AnyRequest, data: JSONBody[NewConversation]) -> Conversation:
        return await chat.store.create(caller.principal, data, asked(caller, await request.body()))

    @get(_ALL, summary="List conversations")
    async def index(caller: CallerOf, limit: Limit = 20, after: After = None) -> ConversationPage:
        data, more = await chat.store.conversations(caller.principal, limit=limit, after=after)
        return ConversationPage(data=data, has_more=more)

    @get(_ONE, summary="One conversation")
    async def show(caller: CallerOf, conversation_id: Id) -> Conversation:
        return await chat.store.conversation(caller.principal, conversation_id)

    @patch(_ONE, summary="Rename a conversation")
    async def rename(
        caller: CallerOf, conversation_id: Id, data: JSONBody[ConversationChange]
    ) -> Conversation:
        return await chat.store.rename(caller.principal, conversation_id, data.title)

    @delete(_ONE, status_code=200, summary="Delete a conversation")
    async def remove(caller: CallerOf, conversation_id: Id) -> Deleted:
        await chat.delete(caller.principal, conversation_id, asked(caller))
        return Deleted(id=conversation_id)

    return [create, index, show, rename, remove]


def _messages(chat: Chat) -> list[ControllerRouterHandler]:
    @get(_MESSAGES, summary="List messages")
    async def index(
        caller: CallerOf,
        conversation_id: Id,
        limit: Limit = 50,
        after: After = None,
        order: FromQuery[Order] = "asc",
    ) -> MessagePage:
        data, more = await chat.store.messages(
            caller.principal, conversation_id, limit=limit, after=after, order=order
        )
        return MessagePage(data=data, has_more=more)

    @post(
        _MESSAGES,
        summary="Ask, and get the answer streamed or whole",
    )
    async def ask(
        caller: CallerOf, request: AnyRequest, conversation_id: Id, data: JSONBody[NewMessage]
    ) -> Response[bytes] | Stream:
        name = asked(caller, await request.body())
        run, begun = await chat.ask(caller.principal, conversation_id, data, name)
        headers = {ANSWER_HEADER: begun.answer.id, QUESTION_HEADER: begun.question.id}
        if run is None:
            if data.stream:
                return _events(await chat.join(caller.principal, conversation_id, begun.answer.id), headers)
            return _message(await chat.ended(caller.principal, conversation_id, begun.answer.id), headers)
        await (run.opened if data.stream else run.ended).wait()
        if run.failure is not None and not (data.stream and run.streaming):
            return _failure(run.failure, headers)
        if data.stream:
            return _events(run.follow(), headers)
        return _message(await chat.store.message(caller.principal, conversation_id, run.id), headers)

    @post(_ONE + "/exchanges", summary="Add a question with its answer")
    async def add(caller: CallerOf, conversation_id: Id, data: JSONBody[Exchange]) -> Message:
        await add_exchange(chat.store, caller.principal, conversation_id, data)
        return await chat.store.message(caller.principal, conversation_id, data.answer_id)

    @get(_MESSAGE, summary="One message")
    async def show(caller: CallerOf, conversation_id: Id, message_id: Id) -> Message:
        return await chat.store.message(caller.principal, conversation_id, message_id)

    @get(_MESSAGE + "/stream", summary="Join an answer")
    async def join(caller: CallerOf, conversation_id: Id, message_id: Id) -> Stream:
        events = await chat.join(caller.principal, conversation_id, message_id)
        return _events(events, {ANSWER_HEADER: message_id})

    @post(
        _MESSAGE + "/cancel",
        status_code=200,
        summary="Stop an answer",
    )
    async def cancel(caller: CallerOf, conversation_id: Id, message_id: Id) -> Message:
        return await chat.cancel(caller.principal, conversation_id, message_id)

    return [index, ask, add, show, join, cancel]


def _events(events: AsyncIterator[bytes], headers: dict[str, str]) -> Stream:
    return Stream(
        events,
        status_code=200,
        media_type="text/event-stream",
        headers={**headers, "cache-control": "no-store", "x-accel-buffering": "no"},
    )


def _message(message: Message, headers: dict[str, str]) -> Response[bytes]:
    return Response(
        msgspec.json.encode(message), status_code=201, headers=headers, media_type="application/json"
    )


def _failure(failure: Failure, headers: dict[str, str]) -> Response[bytes]:
    told = {name.decode("latin-1"): value.decode("latin-1") for name, value in failure.headers}
    return Response(
        msgspec.json.encode(ErrorBody(failure.error)),
        status_code=failure.status,
        headers={**told, **headers},
        media_type="application/json",
    )
