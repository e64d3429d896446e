"""The fleet of this machine, asked through its supervisor's socket (wiring/control.py answers there).

Where the socket is, and the word that it wants, is read from the data folder for every call: a supervisor
that was started again has another one.
"""

from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from moonpool.contracts.releases import ReleaseList
from moonpool.core.errors import (
    BadRequest,
    Conflict,
    MoonpoolError,
    NotFound,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UpstreamError,
)
from moonpool.core.message import Request
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.reading import read
from moonpool.ports.discovery import Instance
from moonpool.ports.spawner import Deployment

A = TypeVar("A")
ANSWER_LIMIT = 4 * 1024 * 1024
SECONDS = 10.0
ERRORS: dict[int, type[MoonpoolError]] = {
    400: BadRequest,
    401: Unauthenticated,
    404: NotFound,
    409: Conflict,
    422: Unprocessable,
}


class _Where(msgspec.Struct):
    endpoint: str
    word: str


class _Deployments(msgspec.Struct):
    deployments: tuple[Deployment, ...]


class _Error(msgspec.Struct):
    message: str
    code: str | None = None
    param: str | None = None


class _Refusal(msgspec.Struct):
    error: _Error


class ControlFleet:
    """Implements ports.spawner.Fleet; `releases` is beside it. `file` is `run/control.json`."""

    def __init__(self, file: Path, client: Client) -> None:
        self._file = file
        self._client = client

    async def deployments(self, service: str = "") -> tuple[Deployment, ...]:
        answer = await self._call("GET", "/deployments", _Deployments, query=f"service={quote(service)}")
        return answer.deployments

    async def ensure(self, service: str, release: str, replicas: int) -> None:
        body = msgspec.json.encode({"replicas": replicas})
        await self._call("PUT", f"/deployments/{quote(service)}/{quote(release)}", _Deployments, body)

    async def drain(self, instance: str) -> None:
        await self._call("POST", f"/instances/{quote(instance)}/drain", dict[str, str])

    async def remove(self, service: str, release: str) -> None:
        await self._call("DELETE", f"/deployments/{quote(service)}/{quote(release)}", _Deployments)

    async def instances(self, service: str = "") -> tuple[Instance, ...]:
        there = await self.deployments(service)
        return tuple(instance for deployment in there for instance in deployment.instances)

    async def releases(self) -> ReleaseList:
        """What was added, as this machine's supervisor knows it."""
        return await self._call("GET", "/releases", ReleaseList)

    async def _call(self, method: str, path: str, shape: type[A], body: bytes = b"", query: str = "") -> A:
        where = self._where()
        headers = {b"authorization": f"Bearer {where.word}".encode(), b"content-type": b"application/json"}
        try:
            response = await self._client.send(
                Address.parse(where.endpoint),
                Request(method, path, query, headers, body),
                connect_timeout=SECONDS,
                first_byte_timeout=SECONDS,
                idle_timeout=SECONDS,
            )
            answer = await read(response.body, ANSWER_LIMIT)
        except UpstreamError as error:
            raise Unavailable(
                f"the supervisor does not answer: {error.message}", code="supervisor_away"
            ) from error
        if response.status != 200:
            raise _error(response.status, answer)
        try:
            return msgspec.json.decode(answer, type=shape)
        except msgspec.DecodeError as error:
            raise Unavailable(f"the supervisor speaks otherwise: {error}", code="supervisor_away") from None

    def _where(self) -> _Where:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Where)
        except (OSError, msgspec.DecodeError) as error:
            raise Unavailable(
                "no supervisor runs on this data",
                code="supervisor_away",
                hint="Start the platform with `moonpool up`.",
            ) from error


def _error(status: int, body: bytes) -> MoonpoolError:
    try:
        said = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError:
        return Unavailable(f"the supervisor answers {status}", code="supervisor_away")
    return ERRORS.get(status, Unavailable)(said.message, code=said.code, param=said.param)
