"""An answer so far, as its client has it, read from the events of its stream. Pure."""

from array import array

import msgspec

from moonpool.contracts.continuation import GAP, MARK, Begun, Untold
from moonpool.http.sse import data_of

UNTOLD = -1
"""Stands among the tokens for text of which they are not known."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: dict[str, msgspec.Raw] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    """Only whether it is there is of interest."""


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class Head(msgspec.Struct, frozen=True):
    """What every chunk of a stream repeats."""

    id: str | None = None
    created: int | None = None
    model: str | None = None
    system_fingerprint: str | None = None


_chunk = msgspec.json.Decoder(_Chunk)
_head = msgspec.json.Decoder(Head)


class Transcript:
    """An answer so far, as its client has it. `choices` is how many were asked for; with a `fault` from the
    beginning (see `never`) no text is kept.

    `fault` says why it cannot be continued, whoever would; `count` is its tokens: exact where the endpoint
    told them, otherwise its events with text.
    """

    def __init__(self, choices: int = 1, fault: str | None = None) -> None:
        self._choices = choices
        self._finished: set[int] = set()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._tokens = array("i")
        self._untold: list[Untold] = []
        self.head: Head | None = None
        self.count = 0
        self.reasoning_count = 0
        self.traced = True
        """Whether all of the answer came with a line of tokens."""
        self.fault = fault
        self.usage_told = False
        self.done = False

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason: nothing but the ceremony is missing."""
        return len(self._finished) >= self._choices

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    def begun(self) -> Begun:
        """For another instance of the model."""
        untold = iter(self._untold)
        head = self.head or Head()
        return Begun(
            answer=[next(untold) if token == UNTOLD else token for token in self._tokens],
            id=head.id or "",
            created=head.created or 0,
            fingerprint=head.system_fingerprint or "",
        )

    def read(self, event: bytes) -> None:
        """One whole event, as it came."""
        line, event = _cut(event)
        data = data_of(event)
        if data is None:
            return
        if data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _chunk.decode(data)
            if self.head is None:
                self.head = _head.decode(data)
        except msgspec.DecodeError:
            self.give_up("an event of it cannot be read")
            return
        if chunk.usage is not None:
            self.usage_told = True
        for choice in chunk.choices or ():
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
            if self.fault is None:
                self._add(choice, line)

    def _add(self, choice: _Choice, line: bytes) -> None:
        text = choice.text or ""
        delta = choice.delta
        thought = ""
        if delta is not None:
            if delta.tool_calls or delta.function_call:
                self.give_up("it calls a tool")
                return
            if delta.refusal:
                self.give_up("it is a refusal")
                return
            text = delta.content or ""
            thought = delta.reasoning_content or delta.reasoning or ""
        if choice.index:
            self.give_up("it has several choices")
            return
        if text or thought:
            self._extend(text, thought, line)

    def _extend(self, text: str, thought: str, line: bytes) -> None:
        self._texts.append(text)
        if thought:
            self._thoughts.append(thought)
            self.reasoning_count += 1
        if not line:
            self.traced = False
            self.count += 1
        elif line.startswith(GAP):
            count = int(line[len(GAP) :])
            self._tokens.append(UNTOLD)
            self._untold.append(Untold(text, count))
            self.count += count
        else:
            tokens = [int(token) for token in line.split(b".")]
            self._tokens.extend(tokens)
            self.count += len(tokens)

    def give_up(self, fault: str) -> None:
        self.fault = fault
        self._texts.clear()
        self._thoughts.clear()
        self._untold.clear()
        self._tokens = array("i")


def _cut(event: bytes) -> tuple[bytes, bytes]:
    """The tokens of an event's line, and the event without it."""
    place = event.find(MARK)
    return (b"", event) if place < 0 else (event[place + len(MARK) : -2], event[:place] + b"\n\n")
