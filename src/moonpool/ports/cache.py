"""A shared store of short-lived bytes."""

from typing import Protocol


class Cache(Protocol):
    """Keys are text, values bytes, `ttl` seconds. Raises Unavailable when the store is away."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, *, ttl: float) -> None: ...

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set only if absent; whether it was set. Atomic."""

    async def delete(self, key: str) -> None: ...

    async def increment(self, key: str, by: int = 1, *, ttl: float) -> int:
        """Atomic; the new value. A new counter starts at 0 and lives `ttl` seconds from its creation."""

    async def ping(self) -> None: ...
