"""No request is a failure of the service that gets it: 5xx are, and five of them open its breaker to all."""

from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from harness.odd_requests import making, odd_requests
from moonpool.adapters.objects.local import LocalObjects
from moonpool.contracts.auth import Verdict
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import SERVICES
from moonpool.core.message import Response
from moonpool.core.principal import Principal, Role

OWNER = Principal(user="user_owner", tenant="org_test", key="", role=Role.OWNER)
ANSWER = b'data: {"choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
JUDGED_BY_PARSE = {"inference"}
"""Reads bodies by openai/parse.py alone, and has no other parameters."""


async def _caller(service: Any) -> Principal:
    """Whom auth itself knows; the others believe the gateway."""
    file: Path = service.parts.data / "admin.key"
    if not file.exists():
        return OWNER
    verdict = await service.call(
        "POST",
        "/internal/verify",
        caller=Principal(service="gateway"),
        json={"key": file.read_text().strip()},
    )
    principal = msgspec.json.decode(verdict.content, type=Verdict).principal
    assert principal is not None
    return principal


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in JUDGED_BY_PARSE])
async def test_no_request_is_a_failure_of_the_service(name, make_parts, run_service, tmp_path) -> None:
    inference = AsyncMock()
    inference.chat.return_value = Response(200, [(b"content-type", b"text/event-stream")], ANSWER)
    clients = Clients(
        auth=AsyncMock(), model=AsyncMock(), inference=inference, probe=AsyncMock(), budgets=AsyncMock()
    )
    objects = LocalObjects(tmp_path / "objects")
    await objects.start()
    service = await run_service(await make_parts(name, clients=clients, objects=objects))
    caller = await _caller(service)
    description = (await service.call("GET", "/internal/openapi.json")).json()
    made, failures = {}, []
    for beginning, good in making(description):
        answer = await service.call(good.method, good.path, caller=caller, content=good.body)
        if answer.is_success and "id" in answer.json():
            made[beginning] = answer.json()["id"]
    for odd in odd_requests(description, made):
        answer = await service.call(odd.method, odd.path, caller=caller, content=odd.body)
        if answer.status_code >= 500:
            failures.append(f"{answer.status_code} {odd}")
    await objects.stop()
    assert failures == []
