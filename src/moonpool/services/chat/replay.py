"""An answer's stream made from what is stored: for answers that are over, or that another instance runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec import UNSET, UnsetType

from moonpool.core.errors import NotFound
from moonpool.openai.chunks import ChatChunk, ChunkChoice, Delta, event
from moonpool.services.chat.endings import last_event
from moonpool.services.chat.schema import Message, Status


async def replay(
    message: Message, read: Callable[[], Awaitable[Message]], *, poll: float
) -> AsyncIterator[bytes]:
    """SSE bytes; `read` gives the message as it is now, asked every `poll` seconds while it runs."""
    content, reasoning = 0, 0
    role: str | UnsetType = "assistant"
    while True:
        delta = Delta(
            role=role,
            content=message.content[content:] or UNSET,
            reasoning_content=(message.reasoning or "")[reasoning:] or UNSET,
        )
        if delta != Delta():
            yield _event(message, delta)
        role, content, reasoning = UNSET, len(message.content), len(message.reasoning or "")
        if message.status is not Status.STREAMING:
            break
        await asyncio.sleep(poll)
        try:
            message = await read()
        except NotFound:  # deleted meanwhile
            yield _frame(last_event(Status.CANCELLED, None))
            return
    if message.status is Status.COMPLETED:
        yield _event(message, Delta(), message.finish_reason or "stop")
    yield _frame(last_event(message.status, message.error))


def _event(message: Message, delta: Delta, finish_reason: str | None = None) -> bytes:
    choice = ChunkChoice(index=0, delta=delta, finish_reason=finish_reason)
    created = int(message.created_at)
    return event(ChatChunk(id=message.id, created=created, model=message.model or "", choices=[choice]))


def _frame(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
