"""What the engine made → a whole answer, and the usage of it. Pure; streams are made by `events`.

An answer has choices (`index`), each ending with its own `Finished`. Usage is counted here, over all of
them: a prompt once however many choices it has, its cached part as its first choice found it.
"""

from typing import Protocol, TypeVar

from msgspec import UNSET, Struct

from moonpool.contracts.usage import Usage
from moonpool.openai.chunks import (
    ChatCompletion,
    Choice,
    FunctionCall,
    Logprobs,
    Message,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    TokenLogprob,
    ToolCall,
    wire_usage,
)
from moonpool.services.inference.engine import Finished, Piece


class Head(Struct, frozen=True, kw_only=True):
    """What every chunk of one answer repeats. `created` is Unix seconds, once for all of them."""

    id: str
    created: int
    model: str
    fingerprint: str


class Tally:
    """The usage of one request."""

    def __init__(self) -> None:
        self._prompts: set[int] = set()
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0
        self._reasoning_tokens = 0

    def piece(self, piece: Piece) -> None:
        self._reasoning_tokens += bool(piece.reasoning)  # the engine sends a piece a token

    def finished(self, prompt: int, end: Finished) -> None:
        """A choice for the prompt with this number has ended."""
        if prompt not in self._prompts:
            self._prompts.add(prompt)
            self._prompt_tokens += end.prompt_tokens
            self._cached_tokens += end.cached_tokens
        self._completion_tokens += end.completion_tokens

    @property
    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            reasoning_tokens=min(self._reasoning_tokens, self._completion_tokens),
        )


class _Collected:
    """One choice so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.calls: dict[int, ToolCall] = {}
        self.reason = "stop"

    def add(self, piece: Piece) -> None:
        self.text.append(piece.text)
        self.reasoning.append(piece.reasoning)
        self.logprobs.extend(piece.logprobs)
        for call in piece.tool_calls:
            index = 0 if call.index is UNSET else call.index
            before = self.calls.get(index)
            self.calls[index] = call if before is None else _joined(before, call)


def _joined(before: ToolCall, more: ToolCall) -> ToolCall:
    name = before.function.name if more.function.name is UNSET else more.function.name
    return ToolCall(
        index=before.index,
        id=before.id if more.id is UNSET else more.id,
        type=before.type if more.type is UNSET else more.type,
        function=FunctionCall(name=name, arguments=before.function.arguments + more.function.arguments),
    )


A_co = TypeVar("A_co", covariant=True)


class Collector(Protocol[A_co]):
    """Makes a whole answer."""

    def piece(self, index: int, piece: Piece) -> None: ...

    def finished(self, index: int, end: Finished) -> None: ...

    def answer(self, usage: Usage) -> A_co: ...


class _Choices:
    def __init__(self, head: Head, count: int) -> None:
        self._head = head
        self._choices = [_Collected() for _ in range(count)]

    def piece(self, index: int, piece: Piece) -> None:
        self._choices[index].add(piece)

    def finished(self, index: int, end: Finished) -> None:
        self._choices[index].reason = end.reason


class ChatCollector(_Choices):
    def answer(self, usage: Usage) -> ChatCompletion:
        head = self._head
        return ChatCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=[self._choice(index, found) for index, found in enumerate(self._choices)],
            usage=wire_usage(usage),
            system_fingerprint=head.fingerprint,
        )

    def _choice(self, index: int, found: _Collected) -> Choice:
        text = "".join(found.text)
        calls = [
            ToolCall(id=call.id, type="function", function=call.function)
            for _, call in sorted(found.calls.items())
        ]
        message = Message(
            content=text if text or not calls else None,
            reasoning_content="".join(found.reasoning) or UNSET,
            tool_calls=calls or UNSET,
        )
        logprobs = Logprobs(found.logprobs) if found.logprobs else None
        return Choice(index=index, message=message, logprobs=logprobs, finish_reason=found.reason)


class TextCollector(_Choices):
    def answer(self, usage: Usage) -> TextCompletion:
        head = self._head
        return TextCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=[
                TextChoice(
                    index=index,
                    text="".join(found.text),
                    logprobs=text_logprobs(found.logprobs),
                    finish_reason=found.reason,
                )
                for index, found in enumerate(self._choices)
            ],
            usage=wire_usage(usage),
            system_fingerprint=head.fingerprint,
        )


def text_logprobs(
    entries: list[TokenLogprob] | tuple[TokenLogprob, ...], offset: int = 0
) -> TextLogprobs | None:
    """The legacy shape of completions. `offset` is where the first token stands in the text."""
    if not entries:
        return None
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry.token)
    return TextLogprobs(
        tokens=[entry.token for entry in entries],
        token_logprobs=[entry.logprob for entry in entries],
        top_logprobs=[{top.token: top.logprob for top in entry.top_logprobs} for entry in entries],
        text_offset=offsets,
    )
