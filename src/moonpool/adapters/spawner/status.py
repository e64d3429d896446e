"""What a child says on its status pipe: text, and notes between.

    \\0 N \\n   a note: I know what it means to be replaced, and N requests are under way
    \\0 \\n     the same of a program that cannot tell how many
    text       why it could not start (a StartupError's)

Notes are sent only to supervisors that know them (`ModuleSettings.replaced_drain_timeout`): to any other
all of it would be text. Pure.
"""

TELL_EVERY = 1.0
"""Seconds between the notes of a child that drains."""


def note(under_way: int | None = None) -> bytes:
    return b"\0\n" if under_way is None else b"\0%d\n" % under_way


class Said:
    """`notes` came, `tells` is whether they had numbers, `under_way` the last of them."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._note: bytearray | None = None
        self.notes = 0
        self.tells = False
        self.under_way = 0

    @property
    def text(self) -> str:
        return self._text.decode("utf-8", "replace")

    def feed(self, data: bytes) -> None:
        """In whatever pieces it comes."""
        for byte in data:
            if self._note is None and byte:
                self._text.append(byte)
            elif self._note is None or not byte:
                self._note = bytearray()
            elif byte == ord("\n"):
                self._noted(bytes(self._note))
                self._note = None
            else:
                self._note.append(byte)

    def _noted(self, number: bytes) -> None:
        self.notes += 1
        if number.isdigit():
            self.tells, self.under_way = True, int(number)
