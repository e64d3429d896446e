"""What the manager needs of others beside the fleet: the documents that gateways follow, and the releases."""

from typing import Protocol

import msgspec

from moonpool.contracts.releases import ReleaseList
from moonpool.contracts.routing import Routing


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """A service's routing document. `version` 0: there is none, and everything goes to what runs. `at` is
    Unix seconds of its last change."""

    routing: Routing | None = None
    version: int = 0
    at: float = 0.0


class Documents(Protocol):
    """All raise core.errors.Unavailable when the source is away."""

    async def routing(self, service: str) -> Followed: ...

    async def write(self, routing: Routing, *, version: int, why: str) -> None:
        """Put the document in the place of that `version`. Raises Conflict when another one is there."""

    async def releases(self) -> ReleaseList:
        """All that were added. What ran before any was (`contracts.releases.FIRST`) may be missing."""
