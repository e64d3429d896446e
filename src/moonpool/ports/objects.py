"""A store of immutable byte objects: files, artefacts, pages."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec


class ObjectInfo(msgspec.Struct, frozen=True):
    """`size` in bytes, `modified` in Unix seconds, `etag` changes when the content does."""

    key: str
    size: int
    modified: float
    etag: str


class Objects(Protocol):
    """Keys are slash-separated; a key that leaves the store's root is refused with BadRequest.

    Raises NotFound for a missing key, Unavailable when the store is away or full.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> ObjectInfo:
        """All or nothing: readers never see a part."""

    async def head(self, key: str) -> ObjectInfo: ...

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""

    async def delete(self, key: str) -> None:
        """Deleting what is not there is no error."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]: ...

    async def ping(self) -> None: ...
