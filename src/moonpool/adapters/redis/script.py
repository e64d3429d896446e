"""A Lua script that the store runs as one step: nothing else happens in between."""

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from moonpool.adapters.redis.wire import Wire, Word


class Script:
    """Its text is in a file; the store knows it by its digest once it is loaded."""

    def __init__(self, file: Path) -> None:
        self._text = file.read_bytes()
        self._digest = sha1(self._text, usedforsecurity=False).hexdigest().encode()

    async def load(self, wire: Wire) -> None:
        await wire.send("SCRIPT", "LOAD", self._text)

    def words(self, keys: Sequence[Word], arguments: Sequence[Word]) -> tuple[Word, ...]:
        """What to send to run it."""
        return (b"EVALSHA", self._digest, len(keys), *keys, *arguments)
