"""A service whose application refuses to start: its own words, not its server's exit."""

import socket
from pathlib import Path

import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from moonpool.asgi.parts import Parts
from moonpool.asgi.shutdown import Shutdown
from moonpool.core.errors import StartupError
from moonpool.services.model import app
from moonpool.wiring.modules import run_service
from moonpool.wiring.secrets import Secrets
from moonpool.wiring.settings import ModuleSettings


def create(parts: Parts) -> ASGIApp:
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback"})
        raise StartupError("cannot be a model's name", where="models.x", hint="Rename it.")

    return refusing


async def test_the_reason_gets_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "create", create)
    for folder in ("db", "run", "objects", "spool"):
        (tmp_path / folder).mkdir()
    settings = ModuleSettings(
        name="model",
        instance="model-0-1",
        endpoint="unix:x",
        data=str(tmp_path),
        topology=str(tmp_path / "run" / "topology.json"),
        secrets=Secrets(context=b"k" * 32),
        drain_timeout=0.1,
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(StartupError, match="cannot be a model's name"),
    ):
        await run_service("model", settings, [listening], Shutdown(), lambda: None)
