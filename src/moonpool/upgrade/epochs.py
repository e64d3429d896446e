"""What conversations are pinned by: the weights that held when they began. Pure.

Whoever writes a routing document passes it through `remembering`, so that it tells its own past. While one
release has everything there is nothing to remember, and a document at rest stays short.
"""

from msgspec.structs import replace

from moonpool.contracts.routing import Epoch, Routing

MOST = 64
"""As many as a document may hold; then the oldest go, and conversations from before them follow the first
that is left."""


def remembering(before: Routing | None, after: Routing, now: float) -> Routing:
    """`after`, which follows `before` at `now` (Unix seconds), with its epochs; unchanged without pins."""
    if after.pins is None:
        return after
    if len(after.shares) == 1:
        return replace(after, pins=replace(after.pins, epochs=()))
    epochs = before.pins.epochs if before is not None and before.pins is not None else ()
    if not epochs and before is not None:
        epochs = (Epoch(since=0.0, default=before.default, shares=before.shares),)
    if not epochs or (epochs[-1].shares, epochs[-1].default) != (after.shares, after.default):
        epochs = (*epochs, Epoch(since=now, default=after.default, shares=after.shares))
    return replace(after, pins=replace(after.pins, epochs=epochs[-MOST:]))
