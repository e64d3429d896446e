"""A platform of dummy modules in a temporary folder, run by a supervisor in this process."""

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path

import pytest

from moonpool.wiring.keeper import KeeperSettings
from moonpool.wiring.layout import Layout
from moonpool.wiring.registry import Module
from moonpool.wiring.supervisor import Plan, Supervisor

FOLDER = Path(__file__).parent
KEEPING = KeeperSettings(
    backoff_first=0.02,
    backoff_most=0.2,
    healthy_after=30.0,
    probe_starting=0.01,
    probe_degraded=0.02,
    probe_steady=0.05,
    probe_timeout=5.0,
    probe_starting_timeout=0.05,
    start_timeout=30.0,
    live_timeout=30.0,
)
"""It looks often, and has patience all the same: a process on a busy machine is not a stuck one."""


def module(name, *, public=False, needs=(), secrets=(), entry="dummy_modules:run"):
    return Module(name=name, entry=entry, public=public, needs=needs, secrets=secrets)


MODULES = (
    module("front", public=True, needs=("alpha", "beta"), secrets=("spool",)),
    module("alpha", needs=("beta",)),
    module("beta", secrets=("pepper",)),
)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "data")


@pytest.fixture
def behave(tmp_path):
    """Write the modules' behaviour; the path of the config file."""

    def write(**behaviour):
        path = tmp_path / "behaviour.json"
        path.write_text(json.dumps(behaviour))
        return str(path)

    return write


@pytest.fixture
def keeping():
    return KEEPING


@pytest.fixture
def platform(layout, monkeypatch):
    """An async context manager: a prepared and started supervisor, stopped at the end."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])

    @contextlib.asynccontextmanager
    async def run(*, wait=True, on=layout, **changes):
        plan = {
            "modules": MODULES,
            "port": 0,
            "keeping": KEEPING,
            "drain_timeout": 2.0,
            "preload": ("moonpool.wiring.runner",),
            **changes,
        }
        supervisor = Supervisor(on, Plan(**plan))
        await supervisor.prepare()
        try:
            await supervisor.start()
            if wait:
                async with asyncio.timeout(15):
                    await supervisor.wait_ready()
            yield supervisor
        finally:
            await supervisor.stop()

    return run


async def until(condition, *, seconds=10.0):
    """Wait for `condition()` to be true; its value."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.01)
        return value


@pytest.fixture(name="until")
def _until():
    return until


def find(supervisor, name):
    return next(instance for instance in supervisor.instances if instance.name == name)


@pytest.fixture(name="find")
def _find():
    return find


async def get(endpoint, target):
    """Body of a GET on its own connection to `unix:PATH` or `http://HOST:PORT`."""
    if endpoint.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(endpoint.removeprefix("unix:"))
    else:
        host, port = endpoint.removeprefix("http://").rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", head.lower())
        return (await reader.readexactly(int(length))).decode()
    finally:
        writer.close()


@pytest.fixture(name="get")
def _get():
    return get
