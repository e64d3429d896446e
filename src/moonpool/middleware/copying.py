"""A copy of a body on its way, for those who keep answers."""


class Copy:
    """A transform that changes nothing. Beyond `limit` bytes it keeps none: a part is of no use."""

    __slots__ = ("_left", "_pieces")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._pieces: list[bytes] = []

    @property
    def whole(self) -> bool:
        """Whether nothing was left out so far."""
        return self._left >= 0

    @property
    def data(self) -> bytes:
        return b"".join(self._pieces)

    def chunk(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left >= 0:
            self._pieces.append(data)
        elif self._pieces:
            self._pieces.clear()
        return data

    def finish(self) -> bytes:
        return b""
