"""What a platform has written down about requests: its records, its bills, and what it still holds."""

import math
import time
from typing import Any

from harness.platform import Platform

HELD = ("active", "waiting", "queued", "inflight", "in_flight", "held", "leases", "permits", "reserved")
"""Last words of the names of gauges that must be zero when there are no requests."""


def record(platform: Platform, request_id: str) -> dict[str, Any] | None:
    """The record of a request, as `moonpool explain` looks for it; None when it is not kept (any more)."""
    for place in ("/admin/recent", "/admin/requests"):
        answer = platform.request("GET", f"{place}/{request_id}")
        if answer.status == 200:
            found: dict[str, Any] = answer.json()
            return found
    return None


def billed(platform: Platform) -> dict[str, dict[str, Any]]:
    """All usage events by id, page after page, newest first. Pages overlap in events of equal time."""
    events: dict[str, dict[str, Any]] = {}
    before = time.time() + 60
    while True:
        answer = platform.request("GET", f"/api/billing/usage?limit=100&before={before!r}")
        assert answer.status == 200, answer.body
        page = answer.json()
        events |= {event["id"]: event for event in page["recent"]}
        if not page["has_more"]:
            return events
        before = math.nextafter(page["recent"][-1]["at"], math.inf)


def held(platform: Platform) -> dict[str, float]:
    """The gateway's gauges of what it holds for requests, where they are not zero."""
    news = 'service="model"'  # the gateway's own question for news of the catalogue waits for its answer
    values = {}
    for line in platform.request("GET", "/internal/metrics").body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("moonpool_") and name.partition("{")[0].endswith(HELD):
            values[name] = float(value)
    assert "moonpool_requests_active" in values
    return {name: value for name, value in values.items() if value and news not in name}
