"""Where the platform's configuration comes from and how it changes."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T", covariant=True)


class ConfigSource(Protocol, Generic[T]):
    """`current` is always valid: a document that is refused changes nothing."""

    async def start(self) -> None:
        """Raises StartupError with file and line when the first document is broken."""

    async def stop(self) -> None: ...

    @property
    def current(self) -> T: ...

    def subscribe(self, callback: Callable[[T], None]) -> None:
        """Called in the event loop with every new, valid document."""
