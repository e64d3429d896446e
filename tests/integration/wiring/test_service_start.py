"""A service whose application refuses to start: its own words, not its server's exit."""

import asyncio
import socket

import pytest
from litestar.types import Receive, Scope, Send

from moonpool.core.errors import StartupError
from moonpool.wiring import modules
from moonpool.wiring.settings import ModuleSettings


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback"})
    raise StartupError("cannot be a model's name", where="models.x", hint="Rename it.")


async def test_the_reason_gets_out() -> None:
    settings = ModuleSettings(
        name="model", instance="model-0-1", endpoint="unix:x", data=".", topology="t", drain_timeout=0.1
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(StartupError, match="cannot be a model's name"),
    ):
        await modules._serve(refusing, settings, [listening], asyncio.Event(), lambda: None)
