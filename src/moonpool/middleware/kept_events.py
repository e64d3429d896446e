"""The events of an answer, kept small until somebody wants to read them. Pure.

The events of a stream are the same again and again but for a word. What two of them have in common at their
beginning and at their end is looked for once; of those that follow only the middle is kept, a comparison and
a slice each, and packed in batches.
"""

import zlib
from typing import NamedTuple

import msgspec

BATCH = 32
"""Middles that are packed together: less would cost more, more would keep more."""
LARGE = 4096
"""Bytes of a middle with which a batch is full."""
WINDOW = 13
"""Two to this power bytes are looked back on when packing: a batch of usual middles."""
SEARCHES = 8
"""How often a stream's events are searched for what they have in common, a few microseconds each; what fits
nothing after that is kept whole."""
WORTH = 32
"""Bytes in common from which it is worth the while."""
_NOTHING = b"\0"
"""What no event begins with: nothing is known yet."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class _Batch(NamedTuple):
    head: bytes
    tail: bytes
    packed: bytes

    def events(self) -> list[bytes]:
        return [self.head + middle + self.tail for middle in _decode(zlib.decompress(self.packed))]


class KeptEvents:
    """In the order in which they came. `size` is, in bytes, that of those that have been packed."""

    __slots__ = ("_batches", "_common", "_head", "_middles", "_searches", "_tail", "size")

    def __init__(self) -> None:
        self._batches: list[_Batch] = []
        self._middles: list[bytes] = []
        self._head = _NOTHING
        self._tail = b""
        self._common = 1
        """Bytes of both."""
        self._searches = 0
        self.size = 0

    def add(self, events: bytes) -> None:
        """One whole event or several."""
        size, middles = len(events), self._middles
        if not (size >= self._common and events.startswith(self._head) and events.endswith(self._tail)):
            self._search(events)
        elif len(middles) >= BATCH or size > LARGE:
            self._pack()
        middles.append(events[len(self._head) : size - len(self._tail)])

    @property
    def last(self) -> bytes:
        """What was added last; nothing when nothing was, or all of it was taken."""
        if self._middles:
            return self._head + self._middles[-1] + self._tail
        return self._batches[-1].events()[-1] if self._batches else b""

    def take(self) -> list[bytes]:
        """All that was added; from here on nothing of it is kept."""
        self._pack()
        events = [event for batch in self._batches for event in batch.events()]
        self._batches.clear()
        return events

    def clear(self) -> None:
        """What was added is wanted no more."""
        self._batches.clear()
        self._middles.clear()
        self.size = 0

    def _search(self, events: bytes) -> None:
        """Find what `events`, which does not fit what was known, has in common with what came before it."""
        before = self.last
        self._pack()
        if self._searches >= SEARCHES:
            self._head = self._tail = b""
        else:
            self._searches += 1
            head = _common(before, events)
            tail = min(_common(before[::-1], events[::-1]), min(len(before), len(events)) - head)
            if head + tail >= WORTH:
                self._head, self._tail = events[:head], events[len(events) - tail :]
            else:  # as if it was all in common: the next one tells what is
                self._head, self._tail = events, b""
        self._common = len(self._head) + len(self._tail)

    def _pack(self) -> None:
        middles = self._middles
        if middles:
            self.size += sum(map(len, middles)) + self._common * len(middles)
            packer = zlib.compressobj(1, wbits=WINDOW, memLevel=5)
            packed = packer.compress(_encode(middles)) + packer.flush()
            self._batches.append(_Batch(self._head, self._tail, packed))
            middles.clear()


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
