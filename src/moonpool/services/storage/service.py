"""What the storage service does with files: all or nothing.

upload ──► object (unnamed until whole) ──► row ──► a file
                 └── no row: the object is removed at once, or by `sweep` if the process was killed
delete ──► row gone: no file any more ──► object removed, or by `sweep`
"""

from collections.abc import AsyncIterator

from structlog.typing import FilteringBoundLogger

from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, MoonpoolError
from moonpool.core.ids import new_id
from moonpool.core.principal import Principal
from moonpool.ports.objects import Objects
from moonpool.services.storage.schema import PURPOSES, File
from moonpool.services.storage.store import Store
from moonpool.services.storage.upload import Upload

PREFIX = "files/"
ORPHAN_AGE = 6 * 3600.0
"""Seconds after which an object without a row is nobody's: longer than any upload may take."""
_BATCH = 200
_NAME_LENGTH = 255


class Files:
    def __init__(self, store: Store, objects: Objects, clock: Clock, log: FilteringBoundLogger) -> None:
        self.store = store
        self._objects = objects
        self._clock = clock
        self._log = log

    async def upload(self, principal: Principal, upload: Upload) -> File:
        """Raises BadRequest, PayloadTooLarge, Unavailable; then nothing is kept."""
        await upload.until_file()
        _check_purpose(upload.fields.get("purpose"), required=False)
        filename = _clean(upload.filename)
        id = new_id("file", self._clock)
        key = _key(id)
        info = await self._objects.put(key, upload.file())
        try:
            await upload.rest()
            purpose = _check_purpose(upload.fields.get("purpose"), required=True)
            now = int(self._clock.time())
            file = File(id=id, bytes=info.size, created_at=now, filename=filename, purpose=purpose)
            await self.store.add(principal, file)
        except BaseException:  # also when the client leaves: nothing half-made may stay
            await self._discard(key)
            raise
        return file

    async def content(self, principal: Principal, id: str) -> tuple[File, AsyncIterator[bytes]]:
        file = await self.store.find(principal.tenant, id)
        await self._objects.head(_key(id))  # before the answer's head is sent: it must be there
        return file, self._objects.get(_key(id))

    async def delete(self, principal: Principal, id: str) -> None:
        await self.store.delete(principal.tenant, id)
        await self._discard(_key(id))

    async def sweep(self) -> int:
        """Remove objects that no row names; how many they were."""
        before = self._clock.time() - ORPHAN_AGE
        old = [info.key async for info in self._objects.list(PREFIX) if info.modified < before]
        removed = 0
        for start in range(0, len(old), _BATCH):
            keys = {key.rpartition("/")[2]: key for key in old[start : start + _BATCH]}
            for id in keys.keys() - await self.store.known(keys):
                await self._objects.delete(keys[id])
                removed += 1
        if removed:
            self._log.info("removed what unfinished uploads left", count=removed)
        return removed

    async def _discard(self, key: str) -> None:
        try:
            await self._objects.delete(key)
        except MoonpoolError as error:  # the sweep will find it
            self._log.warning("an object could not be removed", key=key, error=error.message)


def _key(id: str) -> str:
    """Spread over folders by the random part's end, so that none grows too large."""
    return f"{PREFIX}{id[-2:]}/{id}"


def _check_purpose(purpose: str | None, *, required: bool) -> str:
    if purpose is None and not required:
        return ""
    if purpose not in PURPOSES:
        told = "A file needs a purpose." if purpose is None else f"Unknown purpose '{purpose[:64]}'."
        raise BadRequest(told, param="purpose", code="invalid_value", hint=f"One of {', '.join(PURPOSES)}.")
    return purpose


def _clean(filename: str) -> str:
    """A name without a path or control characters: it is shown, and offered to browsers."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in name if character.isprintable()).strip()
    if not name:
        raise BadRequest("The file has no name.", param="file", hint="Give the part a filename.")
    return name[:_NAME_LENGTH]
