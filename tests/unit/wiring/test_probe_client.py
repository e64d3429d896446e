"""Whom monitoring asks, and where, when releases run side by side."""

import asyncio

from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.ports.discovery import Instance, Topology
from moonpool.wiring.clients import HttpProbeClient


class Wire:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def send(self, address: Address, request: Request, **times: float) -> Response:
        self.asked.append(f"{address} {request.path}")
        return Response(200, [], b'{"status": "ready"}')


class Found:
    def __init__(self, *modules: Instance) -> None:
        self.current = Topology(1, modules)


def instance(name: str, number: int, **fields: object) -> Instance:
    told = {"state": "ready", "pid": 7, "release": "v1", "endpoint": "http://127.0.0.1:8080", **fields}
    return Instance(name=name, instance=f"{name}-{number}", **told)  # type: ignore[arg-type]


def test_gateways_that_share_an_address_are_asked_each() -> None:
    gateways = [instance("gateway", n, own=f"unix:/run/gateway-{n}.sock") for n in (0, 1)]
    wire = Wire()
    client = HttpProbeClient(Found(*gateways), wire)  # type: ignore[arg-type]
    health = asyncio.run(client.probe())
    assert wire.asked == ["unix:/run/gateway-0.sock /readyz", "unix:/run/gateway-1.sock /readyz"]
    assert [one.endpoint for one in health] == ["http://127.0.0.1:8080"] * 2


def test_what_somebody_else_runs_is_told_of_and_never_asked() -> None:
    far = {"external": True, "endpoint": "https://far/v1", "pid": 0}
    wire = Wire()
    modules = (
        instance("inference", 0, **far),
        instance("inference", 1, **far, state="crashed", reason="503"),
    )
    client = HttpProbeClient(Found(*modules), wire)  # type: ignore[arg-type]
    health = asyncio.run(client.probe())
    assert asyncio.run(client.metrics()) == {}
    assert wire.asked == []
    assert [(one.status, one.checks) for one in health] == [
        ("ready", {}),
        ("unreachable", {"endpoint": "503"}),
    ]
