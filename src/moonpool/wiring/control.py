"""Where the supervisor is told what should run: HTTP on a Unix socket in the data folder.

    GET    /deployments[?service=NAME]     what should run, and what there is of it
    PUT    /deployments/NAME/LABEL         {"replicas": 2}: run so many of the release
    DELETE /deployments/NAME/LABEL         drain and end all of the release
    POST   /instances/ID/drain             drain and end one
    GET    /releases                       contracts.releases.ReleaseList: what can be run beside the first

Only the owner of the data folder reaches the socket (mode 0600) and can read the word that every request
must bring (`run/control.json`, made anew at every start: a socket below the system's temporary folder alone
would not prove whose it is). Errors are the house's error objects.
"""

import hmac
import os
import secrets
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

from moonpool.core.errors import BadRequest, MethodNotAllowed, MoonpoolError, NotFound, Unauthenticated
from moonpool.core.message import Request, Response
from moonpool.http.server import Server
from moonpool.openai.errors import render_error, render_stream_error
from moonpool.ports.spawner import Deployment, Fleet
from moonpool.wiring.shelf import Shelf

B = TypeVar("B")
DRAIN_SECONDS = 2.0
METHODS = {"deployments": ("GET", "PUT", "DELETE"), "releases": ("GET",), "instances": ("POST",)}


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    replicas: int


class Deployments(msgspec.Struct, frozen=True):
    deployments: tuple[Deployment, ...]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What `run/control.json` holds."""

    endpoint: str
    word: str


class Control:
    """Serves on `sock` between `start` and `stop`; `file` tells where, and what to say there."""

    def __init__(self, fleet: Fleet, shelf: Shelf, sock: socket.socket, file: Path) -> None:
        self._fleet = fleet
        self._shelf = shelf
        self._socket = sock
        self._file = file
        self._word = secrets.token_urlsafe(32)
        self._server = Server(
            self._handle, render_error=render_error, render_stream_error=render_stream_error
        )

    async def start(self) -> None:
        """Raises OSError when the file cannot be written."""
        await self._server.start([self._socket])
        address = Address(endpoint=f"unix:{self._socket.getsockname()}", word=self._word)
        draft = self._file.with_name(f".{self._file.name}")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(address))
        draft.replace(self._file)

    async def stop(self) -> None:
        self._file.unlink(missing_ok=True)
        await self._server.drain(DRAIN_SECONDS)
        self._socket.close()

    async def _handle(self, request: Request) -> Response:
        try:
            self._authenticate(request)
            answer = await self._answer(request)
        except MoonpoolError as error:
            return render_error(error)
        return Response(200, [(b"content-type", b"application/json")], msgspec.json.encode(answer))

    def _authenticate(self, request: Request) -> None:
        given = (request.header(b"authorization") or "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._word.encode()):
            raise Unauthenticated("the word is missing or wrong", hint=f"It stands in {self._file}.")

    async def _answer(self, request: Request) -> object:
        match (request.method, *(unquote(part) for part in request.path.split("/")[1:])):
            case ("GET", "deployments"):
                service = parse_qs(request.query).get("service", [""])[0]
                return Deployments(await self._fleet.deployments(service))
            case ("PUT", "deployments", service, label):
                await self._fleet.ensure(service, label, _decode(request, Replicas).replicas)
                return Deployments(await self._fleet.deployments(service))
            case ("DELETE", "deployments", service, label):
                await self._fleet.remove(service, label)
                return Deployments(await self._fleet.deployments(service))
            case ("POST", "instances", instance, "drain"):
                await self._fleet.drain(instance)
                return {}
            case ("GET", "releases"):
                return self._shelf.releases()
            case (_, kind, *_) if kind in METHODS and request.method not in METHODS[kind]:
                raise MethodNotAllowed(f"{request.method} is not allowed here", allow=METHODS[kind])
        raise NotFound(f"there is no {request.path} here")


def _decode(request: Request, shape: type[B]) -> B:
    assert isinstance(request.body, bytes)  # without a body policy the edge hands over whole ones
    try:
        return msgspec.json.decode(request.body, type=shape)
    except msgspec.DecodeError as error:
        raise BadRequest(f"not a {shape.__name__}: {error}") from None
