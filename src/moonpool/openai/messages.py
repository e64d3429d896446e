"""The messages of a conversation, a struct a role, and the parts that their contents may have.

Source: OpenAI API reference, "Create chat completion"; DeepSeek API reference (`prefix`,
`reasoning_content`). Fields that are not named here pass unseen.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1, max_length=256)]
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.\-]{1,128}$")]
Identifier = Annotated[str, Meta(min_length=1, max_length=512)]


class TextPart(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="text"):
    text: str


class PlainTextPart(Struct, frozen=True, omit_defaults=True, gc=False):
    """A text part where no other kind may stand: its `type`, no union's tag here, is still required."""

    type: Literal["text"]
    text: str


class RefusalPart(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Struct, frozen=True, omit_defaults=True, gc=False):
    url: Annotated[str, Meta(min_length=1)]
    detail: str | None = None


class ImagePart(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class AudioData(Struct, frozen=True, omit_defaults=True, gc=False):
    data: str
    format: str


class AudioPart(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="input_audio"):
    input_audio: AudioData


class FileData(Struct, frozen=True, omit_defaults=True, gc=False):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="file"):
    file: FileData


TextParts = Annotated[list[PlainTextPart], Meta(min_length=1)]
UserParts = Annotated[list[TextPart | ImagePart | AudioPart | FilePart], Meta(min_length=1)]
AssistantParts = Annotated[list[TextPart | RefusalPart], Meta(min_length=1)]


class FunctionCall(Struct, frozen=True, omit_defaults=True, gc=False):
    """`arguments` is JSON as the model wrote it: possibly not valid."""

    name: FunctionName
    arguments: str


class ToolCall(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="function"):
    id: Identifier
    function: FunctionCall


class CustomCall(Struct, frozen=True, omit_defaults=True, gc=False):
    name: FunctionName
    input: str


class CustomToolCall(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="custom"):
    id: Identifier
    custom: CustomCall


class SystemMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="system"):
    content: str | TextParts
    name: Name | None = None


class DeveloperMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="developer"):
    content: str | TextParts
    name: Name | None = None


class UserMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="user"):
    content: str | UserParts
    name: Name | None = None


class AssistantMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="assistant"):
    """`prefix` (last message only) asks that `content` be continued: DeepSeek's chat prefix completion."""

    content: str | AssistantParts | None = None
    refusal: str | None = None
    name: Name | None = None
    tool_calls: list[ToolCall | CustomToolCall] | None = None
    prefix: bool | None = None
    reasoning_content: str | None = None


class ToolMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="tool"):
    content: str | TextParts
    tool_call_id: Identifier


class FunctionMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="function"):
    """Deprecated by OpenAI in favour of tools; still documented."""

    name: FunctionName
    content: str | None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


def text_of(message: Message) -> str:
    """The text of a message's content, its parts joined; "" when it has none."""
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    return "\n".join(part.text for part in content if isinstance(part, TextPart | PlainTextPart))


def text_length(message: Message) -> int:
    """Characters of a message's content and tool calls: what a token estimate starts from."""
    content = message.content
    length = len(content) if type(content) is str else len(text_of(message))
    if type(message) is AssistantMessage and message.tool_calls:
        for call in message.tool_calls:
            length += len(call.function.arguments if isinstance(call, ToolCall) else call.custom.input)
    return length
