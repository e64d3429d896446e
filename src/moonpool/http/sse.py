"""Server-sent events, without I/O: decode, encode, and find the events in a relayed body.

After the WHATWG HTML standard, §9.2.5 and §9.2.6 (parsing and interpreting an event stream).
`Decoder` interprets; `EventScanner` only cuts, for relays that pass the bytes on as they are.
"""

import re
from typing import NamedTuple

from moonpool.core.errors import UpstreamMalformed

EVENT_LIMIT = 1024 * 1024
"""Bytes of one event: far beyond any token, short of what hurts."""

_BOM = b"\xef\xbb\xbf"
_BOUNDARY = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
"""Two line ends; atomic, since a CRLF is one of them and never two."""


class Event(NamedTuple):
    """`id` is the last id seen so far, as the standard has it; `retry` in milliseconds."""

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class Decoder:
    """Bytes, split anywhere, to events. Raises UpstreamMalformed when one grows beyond `limit`."""

    __slots__ = (
        "_data",
        "_data_size",
        "_event",
        "_id",
        "_limit",
        "_partial",
        "_retry",
        "_size",
        "_skip_newline",
        "_start",
    )

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._partial: list[bytes] = []
        self._skip_newline = False
        self._start = True
        self._data: list[str] = []
        self._data_size = 0
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        if not data:
            return []
        if self._skip_newline and data[0] == 0x0A:
            data = data[1:]
            self._skip_newline = False
            if not data:
                return []
        self._skip_newline = data[-1] == 0x0D
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[Event] = []
        if b"\n" not in data:
            self._partial.append(data)
            self._grow(len(data))
            return events
        self._partial.append(data)
        lines = b"".join(self._partial).split(b"\n")
        rest = lines.pop()
        self._partial = [rest] if rest else []
        for line in lines:
            self._line(line, events)
        self._size = self._data_size + len(rest)
        self._grow(0)
        return events

    def _grow(self, count: int) -> None:
        self._size += count
        if self._size > self._limit:
            raise UpstreamMalformed(f"an event is larger than {self._limit} bytes")

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self._start:
            self._start = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
            self._data_size += len(line) + 1
            if self._data_size > self._limit:
                raise UpstreamMalformed(f"an event is larger than {self._limit} bytes")
        elif name == b"event":
            self._event = text
        elif name == b"id":
            if "\0" not in text:
                self._id = text
        elif name == b"retry" and text.isascii() and text.isdigit():
            self._retry = int(text[:9])

    def _dispatch(self, events: list[Event]) -> None:
        if self._data:
            events.append(Event("\n".join(self._data), self._event or "message", self._id, self._retry))
            self._data = []
            self._data_size = 0
        self._event = ""
        self._retry = None


def encode(data: str, event: str = "", id: str = "") -> bytes:
    """One event. Raises ValueError when `event` or `id` has a line break."""
    if any(c in event + id for c in "\r\n\0"):
        raise ValueError("an event's name and id are one line each")
    lines = [f"event: {event}\n"] if event else []
    if id:
        lines.append(f"id: {id}\n")
    text = data.replace("\r\n", "\n").replace("\r", "\n")
    lines += [f"data: {line}\n" for line in text.split("\n")]
    lines.append("\n")
    return "".join(lines).encode()


def comment(text: str = "keep-alive") -> bytes:
    """Bytes that clients ignore and that keep connections open."""
    return f": {text}\n\n".encode()


class EventScanner:
    """Cuts a body into its events, as raw bytes, each with its blank line, looking at nothing else.

    `b"".join` of all events and `held` is the body: what is relayed is what came. The usual chunk (one
    event, LF) costs two searches and no copy. Raises UpstreamMalformed beyond `limit` bytes.
    """

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._held = bytearray()
        self._limit = limit

    @property
    def held(self) -> bytes:
        """The beginning of an event whose end has not come."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, in order."""
        held = self._held
        if not held and data.find(b"\n\n") == len(data) - 2 >= 0 and b"\r" not in data:
            return [data]
        start = max(0, len(held) - 3)  # no boundary is longer than four bytes
        held += data
        events: list[bytes] = []
        begin = 0
        for match in _BOUNDARY.finditer(held, start):
            end = match.end()
            if end == len(held) and held[-1] == 0x0D:
                break  # a line feed may follow and would belong to this event
            events.append(bytes(held[begin:end]))
            begin = end
        del held[:begin]
        if len(held) > self._limit:
            raise UpstreamMalformed(f"an event is larger than {self._limit} bytes")
        return events

    def finish(self) -> bytes | None:
        """At the end of the body: the last event if it is complete but for a lone CR's doubt."""
        held = bytes(self._held)
        if _BOUNDARY.search(held) is None:
            return None
        self._held.clear()
        return held


def whole_events(data: bytes) -> tuple[bytes, bytes]:
    """Those that end in `data`, lines ended by LF alone; and the rest, to be put before what comes next.

    Raises UpstreamMalformed when the rest is too long for an event.
    """
    doubt = b""  # a last CR may be half of a line's end
    if b"\r" in data:
        if data.endswith(b"\r"):
            data, doubt = data[:-1], b"\r"
        data = data.replace(b"\r\n", b"\n")
    end = data.rfind(b"\n\n")
    cut = 0 if end < 0 else end + 2
    held = data[cut:] + doubt
    if len(held) > EVENT_LIMIT:
        raise UpstreamMalformed(f"an event is larger than {EVENT_LIMIT} bytes")
    return data[:cut], held


def data_of(event: bytes) -> bytes | None:
    """The data of a raw event, joined by LF; None when it has none (a comment, a blank line)."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    values = [
        line[5:].removeprefix(b" ") if line[4:5] == b":" else b""
        for line in re.split(rb"\r\n|\n|\r", event.removeprefix(_BOM))
        if line.startswith(b"data:") or line == b"data"
    ]
    return b"\n".join(values) if values else None
