"""Where events are safe before they are on their way: a spool beside the process that makes them.

`open`, `progress` and `close` return when the record survives the death of the process. What was
opened and never closed is published by whoever finds the journal, as it was opened, with its progress.
"""

from typing import Protocol


class Journal(Protocol):
    """`id` has no blanks; `value` is one line of JSON.

    `close` never raises: what cannot be written (disk full) is held and written later; `healthy` tells.
    """

    def open(self, id: str, value: bytes) -> None: ...

    def progress(self, id: str, count: int) -> None: ...

    def close(self, id: str, value: bytes) -> None: ...

    @property
    def healthy(self) -> bool: ...
