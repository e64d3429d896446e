import msgspec
import pytest

from moonpool.contracts.manifest import Access
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest
from moonpool.core.message import Request
from moonpool.gateway.fallbacks import FallbackAdministration
from moonpool.middleware.causes import HALF_LIFE, Cause, Causes


async def test_top_causes() -> None:
    causes = Causes(ManualClock())
    for n, kind in enumerate(["stale", "degraded", "degraded"]):
        causes.note(Cause(kind, "chat", "GET /x", f"c{n // 2}"), request_id=f"r{n}")
    causes.note(Cause("degraded", "chat", "GET /x", "c1"))
    ((route, handler),) = FallbackAdministration(causes, HALF_LIFE).routes()
    assert (route.path, route.access) == ("/admin/fallbacks", Access.ADMIN)

    async def ask(query: str) -> list[tuple[str, str, int]]:
        page = msgspec.json.decode((await handler(Context(), Request("GET", "/x", query))).body)
        assert page["half_life"] == HALF_LIFE
        return [(each["kind"], each["cause"], each["count"]) for each in page["data"]]

    assert await ask("") == [("degraded", "c1", 2), ("degraded", "c0", 1), ("stale", "c0", 1)]
    assert await ask("kind=stale") == [("stale", "c0", 1)]
    assert await ask("limit=1&service=chat") == [("degraded", "c1", 2)]
    assert await ask("service=user") == []
    for query in ("limit=0", "limit=x", "limit=1001", "limit=²", "limit=" + "9" * 5000):
        with pytest.raises(BadRequest):
            await ask(query)
