"""The events of an answer, kept small until somebody wants to read them. Pure.

The events of a stream are the same again and again but for a word. What two of them have in common at their
beginning and at their end is looked for once; of those that follow only the middle is kept, a comparison and
a slice each. Middles are packed in batches, and batches, when there are many, compressed together: a
compressor is dear to start.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

BATCH = 32
"""Middles that are packed together."""
LARGE = 4096
"""Bytes of events with which a batch is full."""
LOOSE = 8192
"""Packed bytes, some thousand usual events, that are compressed in one go."""
SEARCHES = 8
"""How often a stream's events are searched for what they have in common, a few microseconds each; what fits
nothing after that is kept whole."""
WORTH = 32
"""Bytes in common from which it is worth the while."""
ENDING = 3
"""Bytes of an event, `}` and its blank line, that are of its end and not of its beginning even if it is the
same as the one before it."""
_NOTHING = b"\0"
"""What no event begins with: nothing is known yet."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode

Judge = Callable[[bytes, bytes], bool]
"""What it says of a beginning and an end is `KeptEvents.plain` as long as events have these in common."""


class _Batch(NamedTuple):
    head: bytes
    tail: bytes
    packed: bytes
    compressed: bool = False

    def middles(self) -> list[bytes]:
        return _decode(zlib.decompress(self.packed) if self.compressed else self.packed)

    def events(self) -> list[bytes]:
        return [self.head + middle + self.tail for middle in self.middles()]


class KeptEvents:
    """In the order in which they came. `size` is, in bytes, that of those that have been packed.

    Whoever would save the frame of `add` puts what is between `head` and `tail` to the `middles` himself: of
    an event that has both (`common` bytes) and is not LARGE, while there are fewer than BATCH.
    """

    __slots__ = (
        "_batches",
        "_judge",
        "_loose",
        "_loose_size",
        "_searches",
        "begin",
        "common",
        "end",
        "head",
        "middles",
        "plain",
        "size",
        "tail",
    )

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._batches: list[_Batch] | None = None
        self._loose = self._loose_size = 0
        """How many of the last batches, all of one head and tail, are not compressed; and their bytes."""
        self._searches = 0
        self.middles: list[bytes] = []
        self.size = 0
        self._set(_NOTHING, b"")
        self.plain = False

    def _set(self, head: bytes, tail: bytes) -> None:
        self.head, self.tail = head, tail
        self.common = len(head) + len(tail)
        self.begin, self.end = len(head), (-len(tail) or None)
        self._loose = self._loose_size = 0

    def add(self, events: bytes) -> None:
        """One whole event or several."""
        size, middles = len(events), self.middles
        if not (size >= self.common and events.startswith(self.head) and events.endswith(self.tail)):
            self._search(events)
        elif len(middles) >= BATCH or size > LARGE:
            self._pack()
        middles.append(events[self.begin : self.end])

    @property
    def last(self) -> bytes:
        """What was added last; nothing when nothing was, or all of it was taken."""
        if self.middles:
            return self.head + self.middles[-1] + self.tail
        return self._batches[-1].events()[-1] if self._batches else b""

    def take(self) -> list[bytes]:
        """All that was added; from here on nothing of it is kept."""
        self._pack()
        events = [event for batch in self._batches or () for event in batch.events()]
        self._batches, self._loose, self._loose_size = None, 0, 0
        return events

    def clear(self) -> None:
        """What was added is wanted no more."""
        self._batches, self._loose, self._loose_size = None, 0, 0
        self.middles.clear()
        self.size = 0

    def _search(self, events: bytes) -> None:
        """Find what `events`, which does not fit what was known, has in common with what came before it."""
        before = self.last
        self._pack()
        if self._searches >= SEARCHES:
            self._set(b"", b"")
        else:
            self._searches += 1
            least = min(len(before), len(events))
            head = min(_common(before, events), max(0, least - ENDING))
            tail = min(_common(before[::-1], events[::-1]), least - head)
            if head + tail >= WORTH:
                self._set(events[:head], events[len(events) - tail :])
            else:  # as if it was all in common: the next one tells what is
                cut = len(events) - ENDING if len(events) > WORTH else len(events)
                self._set(events[:cut], events[cut:])
        self.plain = self._judge(self.head, self.tail)

    def _pack(self) -> None:
        middles = self.middles
        if middles:
            self.size += sum(map(len, middles)) + self.common * len(middles)
            if self._batches is None:
                self._batches = []
            packed = _encode(middles)
            middles.clear()
            self._batches.append(_Batch(self.head, self.tail, packed))
            self._loose += 1
            self._loose_size += len(packed)
            if self._loose_size >= LOOSE:
                self._compress(self._batches)

    def _compress(self, batches: list[_Batch]) -> None:
        middles = [middle for batch in batches[-self._loose :] for middle in batch.middles()]
        packed = zlib.compress(_encode(middles), 1)
        batches[-self._loose :] = [_Batch(self.head, self.tail, packed, compressed=True)]
        self._loose = self._loose_size = 0


def _common(one: bytes, other: bytes) -> int:
    """How many bytes they begin with that are the same, by halving: slices are compared in one go."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        half = (least + most + 1) // 2
        if one[least:half] == other[least:half]:
            least = half
        else:
            most = half - 1
    return least
