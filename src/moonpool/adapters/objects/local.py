"""Objects as files in a folder.

Ours rather than obstore's LocalStore: that one follows symlinks out of its root and does not make a put
durable before it answers, and a service would carry its library for what is a few system calls here.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from io import FileIO
from itertools import islice
from os import pread
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from moonpool.adapters.objects.local_folder import Folder, Writer
from moonpool.adapters.objects.local_key import check_prefix, split_key
from moonpool.core.errors import BadRequest, MoonpoolError, NotFound, StartupError, Unavailable
from moonpool.ports.objects import ObjectInfo

P = ParamSpec("P")
R = TypeVar("R")

CHUNK = 256 * 1024
"""Bytes that are read or written with one call to a thread."""
_PAGE = 500

# EFBIG: the process's own limit (ulimit -f), which acts as a disk that is full.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_log = structlog.get_logger(__name__)


class LocalObjects:
    """Implements ports.objects.Objects. A key cannot at once be an object and the folder of others."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder: Folder | None = None

    async def start(self) -> None:
        try:
            self._folder = await asyncio.to_thread(Folder, self._root)
        except OSError as error:
            raise StartupError(
                f"the object store cannot be opened: {error.strerror}",
                where=str(self._root),
                hint="Make the folder writable for this user, or choose another with --data.",
            ) from error

    async def stop(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> ObjectInfo:
        parts = split_key(key)
        writer = Writer(self._opened())
        try:
            if isinstance(data, bytes):
                await _call(writer.write, data)
            else:
                await _write_all(writer, data)
            return await _call(writer.publish, parts)
        except BaseException:
            # Waits for a call that is still at work in its thread, then removes what it wrote.
            await asyncio.shield(asyncio.to_thread(writer.discard))
            raise

    async def head(self, key: str) -> ObjectInfo:
        return await _call(self._opened().head, split_key(key))

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if start < 0 or (end is not None and end < start):
            raise BadRequest("The range of bytes is not valid.", param="range")
        with await _call(self._opened().open, split_key(key)) as file:
            position = start
            while end is None or position < end:
                size = CHUNK if end is None else min(CHUNK, end - position)
                data = await _call(_read, file, size, position)
                if not data:
                    return
                position += len(data)
                yield data

    async def delete(self, key: str) -> None:
        await _call(self._opened().delete, split_key(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        found = self._opened().scan(prefix)
        while page := await _call(lambda: [*islice(found, _PAGE)]):
            for info in page:
                yield info

    async def ping(self) -> None:
        await _call(self._opened().ping)

    def _opened(self) -> Folder:
        if self._folder is None:
            raise Unavailable("The object store is closed.", retry_after=1.0)
        return self._folder


async def _write_all(writer: Writer, chunks: AsyncIterator[bytes]) -> None:
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        if len(held) >= CHUNK:
            await _call(writer.write, bytes(held))
            held.clear()
    await _call(writer.write, bytes(held))


def _read(file: FileIO, size: int, position: int) -> bytes:
    return pread(file.fileno(), size, position)


async def _call(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """In a thread, with errors of the operating system as the port's."""
    try:
        return await asyncio.to_thread(call, *args, **kwargs)
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> MoonpoolError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound("There is no such object.", param="key")
    if error.errno == errno.ELOOP:  # what O_NOFOLLOW says of a symlink
        return BadRequest("The object key leads out of the store.", param="key")
    if error.errno == errno.ENAMETOOLONG:
        return BadRequest("The object key is too long.", param="key")
    _log.error("object store error", error=str(error))
    if error.errno in _FULL:
        return Unavailable(
            "The object store cannot grow: the disk is full.",
            hint="Free disk space; nothing was half-written.",
            retry_after=30.0,
        )
    return Unavailable(f"The object store does not answer: {error.strerror}.", retry_after=30.0)
