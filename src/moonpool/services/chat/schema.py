"""What clients send to the chat service and what it answers. Times are Unix seconds (floats)."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from moonpool.contracts.asked import Asked
from moonpool.contracts.names import END, ONE_LINE
from moonpool.contracts.usage import Usage

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=ONE_LINE)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256, pattern=ONE_LINE)]
Text = Annotated[str, Meta(min_length=1, max_length=1_000_000)]


class Status(StrEnum):
    """The life of a message: an answer is STREAMING until it is one of the others."""

    STREAMING = "streaming"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its process ended first; `content` is what had arrived."""


class NewConversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: Title | None = None
    model: ModelName | None = None
    system_prompt: Text | None = None


class ConversationChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: Title


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Text
    model: ModelName | None = None
    stream: bool = True
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["conversation"] = "conversation"
    title: str | None
    model: str | None
    system_prompt: str | None
    created_at: float
    updated_at: float


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """The OpenAI error object's inside."""

    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`parent` is the message that this one follows; `reasoning` what a thinking model thought."""

    id: str
    object: Literal["conversation.message"] = "conversation.message"
    conversation: str
    parent: str | None
    role: Literal["user", "assistant"]
    content: str
    reasoning: str | None = None
    status: Status
    model: str | None = None
    finish_reason: str | None = None
    error: ErrorDetail | None = None
    usage: Usage | None = None
    created_at: float
    updated_at: float


Ended = Literal["completed", "failed", "cancelled", "interrupted"]
"""The states of Status that an answer had elsewhere can be in."""
MessageId = Annotated[str, Meta(pattern=r"^msg_[0-9a-z]{26}" + END)]


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A question with its answer that were had while this service was away. `question_id` and `answer_id`
    are the asker's own, so that adding the same one again changes nothing. `asked` is the request that the
    message came with: this service may have heard it before it went away."""

    question_id: MessageId
    answer_id: MessageId
    content: Text
    answer: Annotated[str, Meta(max_length=4_000_000)]
    reasoning: Annotated[str, Meta(max_length=4_000_000)] | None = None
    status: Ended
    model: ModelName | None = None
    finish_reason: Annotated[str, Meta(max_length=64)] | None = None
    usage: Usage | None = None
    asked_at: float
    answered_at: float
    asked: Asked | None = None


class ConversationPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Conversation]
    has_more: bool


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Message]
    has_more: bool


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True
