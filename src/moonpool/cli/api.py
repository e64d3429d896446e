"""How commands talk to a running platform: the same HTTP API that everyone else has, synchronously.

Which platform: `--url` or MOONPOOL_URL, else where the data folder's topology says that the gateway is.
With which key: `--key` or MOONPOOL_API_KEY, else the data folder's admin.key. That one is sent only to
the folder's own platform: when the address was found there, or was named together with `--data`.

Exit codes of what fails: 1 refused, 3 no platform there (as `status`), 4 not allowed, 5 it failed and
may work later.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from moonpool.core.errors import MoonpoolError

REFUSED, NOT_RUNNING, NOT_ALLOWED, FAILED = 1, 3, 4, 5
ANSWER_LIMIT = 64 * 1024 * 1024
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 120.0
"""Seconds without a byte; a model on a slow machine takes its time before the first one."""

Shape = TypeVar("Shape")


class CommandFailed(MoonpoolError):
    """A command cannot do what it should; `main` shows the message and ends with `exit_code`."""

    def __init__(
        self, message: str, *, exit_code: int, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.exit_code = exit_code


class Place(msgspec.Struct, frozen=True):
    """Which platform, and with which key ("": none is known). `context` is for a module that is called
    directly, without the gateway."""

    url: str
    key: str
    context: bytes = b""


class _ErrorObject(msgspec.Struct):
    message: str = ""
    code: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorObject


def find(data: Path | None, url: str = "", key: str = "") -> Place:
    """Raises CommandFailed when there is no platform to be found."""
    from moonpool.wiring.layout import Layout, default_data

    layout = Layout(data or default_data())
    # typer fills `data` from MOONPOOL_DATA too: that also names a platform.
    own = not url or data is not None
    return Place(
        _base(url) if url else _gateway(layout.topology),
        key.strip() or (_admin_key(layout.admin_key) if own else ""),
    )


class Api:
    """One platform's API. Every call opens its own connection: commands make few."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def get(self, path: str, shape: type[Shape], **query: object) -> Shape:
        """The answer's body as `shape`. Raises CommandFailed."""
        return self._call("GET", path, shape, None, query)

    def post(self, path: str, shape: type[Shape], body: object) -> Shape:
        return self._call("POST", path, shape, msgspec.json.encode(body), {})

    def put(self, path: str, shape: type[Shape], body: object) -> Shape:
        return self._call("PUT", path, shape, msgspec.json.encode(body), {})

    def patch(self, path: str, shape: type[Shape], body: object) -> Shape:
        return self._call("PATCH", path, shape, msgspec.json.encode(body), {})

    def delete(self, path: str, shape: type[Shape]) -> Shape:
        return self._call("DELETE", path, shape, None, {})

    def stream(self, path: str, body: object) -> Generator[bytes, None, None]:
        """POST, and the answer's chunks as they come. Leaving the loop cancels the request."""
        source = _exchange(self.place, "POST", path, "", msgspec.json.encode(body))
        with asyncio.Runner() as runner:
            try:
                while (chunk := runner.run(_next(source))) is not None:
                    yield chunk
            finally:
                runner.run(source.aclose())

    def _call(
        self, method: str, path: str, shape: type[Shape], body: bytes | None, query: Mapping[str, object]
    ) -> Shape:
        given = {name: value for name, value in query.items() if value is not None}
        data = asyncio.run(_collect(self.place, method, path, urlencode(given), body))
        try:
            return msgspec.json.decode(data, type=shape)
        except msgspec.DecodeError as error:
            raise CommandFailed(
                f"the answer to {method} {path} is not what it should be: {error}",
                exit_code=FAILED,
                hint=f"Is {self.place.url} a Moonpool of this version?",
            ) from None


def failure(place: Place, status: int, body: bytes, request_id: str) -> CommandFailed:
    """The OpenAI error object of an answer, as one line and an exit code."""
    try:
        told = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        told = _ErrorObject(f"{place.url} answered {status}")
    message = told.message or f"{place.url} answered {status}"
    details = ", ".join(text for text in (told.code or str(status), request_id) if text)
    if status in {401, 403}:
        hint = None if place.key else "Give a key with --key or MOONPOOL_API_KEY."
        return CommandFailed(f"{message} ({details})", exit_code=NOT_ALLOWED, code=told.code, hint=hint)
    exit_code = FAILED if status >= 500 or status == 429 else REFUSED
    return CommandFailed(f"{message} ({details})", exit_code=exit_code, code=told.code)


async def _collect(place: Place, method: str, path: str, query: str, body: bytes | None) -> bytes:
    return b"".join([chunk async for chunk in _exchange(place, method, path, query, body)])


async def _next(source: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(source, None)


async def _exchange(
    place: Place, method: str, path: str, query: str, body: bytes | None
) -> AsyncGenerator[bytes, None]:
    """The body of a good answer, in chunks. Raises CommandFailed for any other."""
    from moonpool.core.message import Request
    from moonpool.http.address import Address
    from moonpool.http.client import Client
    from moonpool.http.reading import iterate, read

    headers = {b"accept": b"*/*", b"user-agent": b"moonpool"}
    if place.context:
        headers[b"x-moonpool-context"] = place.context
    if place.key:
        headers[b"authorization"] = b"Bearer " + _header(place.key)
    if body is not None:
        headers[b"content-type"] = b"application/json"
    client = Client()
    try:
        response = await client.send(
            Address.parse(place.url),
            Request(method, path, query, headers, body or b""),
            connect_timeout=CONNECT_TIMEOUT,
            first_byte_timeout=ANSWER_TIMEOUT,
            idle_timeout=ANSWER_TIMEOUT,
        )
        if response.status >= 300:
            request_id = (response.header(b"x-request-id") or b"").decode("latin-1")
            raise failure(place, response.status, await read(response.body, ANSWER_LIMIT), request_id)
        async for chunk in iterate(response.body):
            yield chunk
    except CommandFailed:
        raise
    except MoonpoolError as error:
        raise _unreachable(place, error) from None
    finally:
        await client.aclose()


def _unreachable(place: Place, error: MoonpoolError) -> CommandFailed:
    from moonpool.core.errors import ConnectFailed

    if isinstance(error, ConnectFailed):
        return CommandFailed(
            f"no platform answers at {place.url}: {error.detail}",
            exit_code=NOT_RUNNING,
            hint="Start it with `moonpool up`, or see `moonpool status`.",
        )
    return CommandFailed(f"{place.url}: {error.detail}", exit_code=FAILED, code=error.code)


def _gateway(topology: Path) -> str:
    from moonpool.wiring.topology import read_topology

    for module in read_topology(topology).modules:
        if module.name == "gateway" and module.state != "stopped":
            return module.endpoint
    raise CommandFailed(
        f"no platform runs on {topology.parent.parent}",
        exit_code=NOT_RUNNING,
        hint="Start it with `moonpool up`, or name another one with --data DIR or --url URL.",
    )


def _base(url: str) -> str:
    """`url` without the /v1 that OpenAI clients are given."""
    from moonpool.http.address import Address

    base = url.strip().rstrip("/").removesuffix("/v1")
    try:
        Address.parse(base)
    except ValueError as error:
        raise CommandFailed(
            str(error), exit_code=REFUSED, hint="For example http://127.0.0.1:8080."
        ) from None
    return base


def _admin_key(path: Path) -> str:
    """What the file holds; "" where it may not be read: the answer will say that a key is needed."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _header(key: str) -> bytes:
    """A key that can stand in a header (RFC 6750 §2.1 allows less than this)."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CommandFailed(
            "the API key has characters that no key has", exit_code=NOT_ALLOWED, hint="Copy it again."
        )
    return key.encode()
