"""Which endpoint has seen the beginning of a prompt before, and so has it in its cache.

A prompt's text is cut into blocks; block k is named by a hash over all text up to its end, so equal
names mean equal prefixes. The index remembers which endpoints were sent each block, least recently used
first out: its memory is bounded whatever is asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

BLOCK = 256
"""Bytes of prompt text a block covers: about 64 tokens."""
MAX_BLOCKS = 64
"""Blocks of one prompt that are looked at: what lies beyond 16 KiB hardly changes who has the prefix."""
CAPACITY = 65_536
"""Blocks remembered, about 150 bytes each."""


def blocks(text: bytes) -> list[bytes]:
    """Names of the prefixes of `text`, shortest first; a last part shorter than a block has none."""
    digest = blake2b(digest_size=12)
    names = []
    for start in range(0, min(len(text), BLOCK * MAX_BLOCKS) - BLOCK + 1, BLOCK):
        digest.update(text[start : start + BLOCK])
        names.append(digest.copy().digest())
    return names


class PrefixIndex:
    """Bounded memory: `capacity` blocks, each with the instances it was sent to last."""

    def __init__(self, capacity: int = CAPACITY, holders: int = 4) -> None:
        self._capacity = capacity
        self._holders = holders
        self._index: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._index)

    def matches(self, names: Sequence[bytes]) -> dict[str, int]:
        """For each instance, how many leading blocks of the prompt it was sent before."""
        depth: dict[str, int] = {}
        alive: set[str] | None = None
        for number, name in enumerate(names, 1):
            holders = self._index.get(name)
            if holders is None:
                break
            self._index.move_to_end(name)
            alive = set(holders) if alive is None else alive.intersection(holders)
            if not alive:
                break
            for instance in alive:
                depth[instance] = number
        return depth

    def record(self, names: Sequence[bytes], instance: str) -> None:
        """The prompt was sent to `instance`."""
        index = self._index
        for name in names:
            holders = index.get(name, ())
            if not holders or holders[0] != instance:
                others = tuple(holder for holder in holders if holder != instance)
                index[name] = (instance, *others)[: self._holders]
            index.move_to_end(name)
        while len(index) > self._capacity:
            index.popitem(last=False)

    def forget(self, instance: str) -> None:
        """`instance` is gone, and its cache with it."""
        for name, holders in list(self._index.items()):
            if instance in holders:
                rest = tuple(holder for holder in holders if holder != instance)
                if rest:
                    self._index[name] = rest
                else:
                    del self._index[name]
