"""Releases side by side: real processes of dummy modules, asked for through the control socket."""

import asyncio
import contextlib
import json
import os
import stat
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from moonpool.adapters.spawner.control import ControlFleet
from moonpool.contracts.releases import (
    CommandSource,
    EndpointSource,
    ListedRelease,
    Overrides,
    PackageSource,
    Release,
    ReleaseList,
)
from moonpool.core.errors import Conflict, NotFound, Unauthenticated, Unavailable
from moonpool.http.client import Client
from moonpool.wiring.topology import read_topology
from moonpool.wiring.watch import WatchSettings

PROGRAM = """
import http.server, json, os, signal, socket, sys, time
with os.fdopen(int(os.environ["MOONPOOL_SECRETS_FD"]), "rb") as file:
    secrets = json.load(file)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self):
        return "unix"
    def do_GET(self):
        told = {"pid": os.getpid(), "keys": sorted(secrets), "release": os.environ["MOONPOOL_RELEASE"],
                "listen": os.environ.get("LISTEN_PID") == str(os.getpid()), "extra": os.environ.get("EXTRA")}
        body = json.dumps(told).encode()
        self.send_response(200 if self.path in ("/ok", "/told") else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_UNIX
    def server_bind(self):
        self.server_name, self.server_port = "x", 0
        if len(sys.argv) > 1:
            self.socket.bind(sys.argv[1])
        else:
            self.socket = socket.socket(fileno=3)
    def server_activate(self):
        if len(sys.argv) > 1:
            self.socket.listen(5)
signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))
Server("x", Handler).serve_forever()
"""


@pytest.fixture
def shelve(layout):
    """Put releases on the shelf, whose modules the rules do not know."""

    def put(*releases):
        layout.create()
        listed = tuple(ListedRelease(release=release) for release in releases)
        (layout.releases / "list.json").write_bytes(msgspec.json.encode(ReleaseList(listed)))

    return put


@pytest.fixture
async def fleet(layout):
    client = Client()
    yield ControlFleet(layout.control, client)
    await client.aclose()


def release(label, source=None, service="beta", **overrides):
    source = PackageSource() if source is None else source
    return Release(service=service, label=label, source=source, overrides=Overrides(**overrides))


def of(supervisor, label):
    return [one for one in supervisor.instances if one.release == label]


async def test_two_releases_run_side_by_side_and_one_goes(platform, layout, shelve, fleet, get, until):
    shelve(release("v2", environment={"EXTRA": "yes"}))
    async with platform() as supervisor:
        old = of(supervisor, "v1")[-1]
        await fleet.ensure("beta", "v2", 2)
        await until(lambda: [one.state for one in of(supervisor, "v2")] == ["ready", "ready"])
        for one in of(supervisor, "v2"):
            assert await get(one.endpoint, "/pid") == str(one.pid)
            assert psutil.Process(one.pid).is_running()
        assert layout.log("beta@v2").exists()
        assert len({one.endpoint for one in supervisor.instances}) == len(supervisor.instances)
        await fleet.remove("beta", "v1")
        states = []
        await until(
            lambda: states.append(of(supervisor, "v1")) or not any(o.name == "beta" for o in states[-1])
        )
        seen = {one.state for looked in states for one in looked if one.instance == old.instance}
        assert "draining" in seen
        assert not psutil.pid_exists(old.pid)
        assert not Path(old.endpoint.removeprefix("unix:")).exists()
        assert read_topology(layout.topology).modules == supervisor.instances


async def test_what_should_run_survives_the_supervisor(platform, shelve, fleet, until):
    shelve(release("v2"))
    async with platform() as supervisor:
        await fleet.ensure("beta", "v2", 2)
    with pytest.raises(Unavailable, match="no supervisor"):
        await fleet.deployments()
    async with platform() as supervisor:
        assert len(of(supervisor, "v2")) == 2
        deployed = {d.release: (d.replicas, d.ready) for d in await fleet.deployments("beta")}
        assert deployed == {"v1": (1, 1), "v2": (2, 2)}


@pytest.mark.parametrize("behaviour", [{"refuse": "no database"}, {"fall": "no luck"}])
async def test_a_release_that_does_not_come_up_leaves_the_old_one_alone(
    platform, shelve, fleet, get, until, behave, behaviour
):
    shelve(release("bad"))
    config = behave(**{"beta@bad": behaviour})
    async with platform(config=config) as supervisor:
        old = of(supervisor, "v1")
        await fleet.ensure("beta", "bad", 1)
        await until(lambda: [one.state for one in of(supervisor, "bad")] == ["crashed"])
        assert next(iter(behaviour.values())) in of(supervisor, "bad")[0].reason
        assert of(supervisor, "v1") == old
        assert await get(old[-1].endpoint, "/pid") == str(old[-1].pid)
    # It should still run when the platform starts again, which does not wait for it.
    async with platform(config=config) as supervisor:
        await until(lambda: [one.state for one in of(supervisor, "bad")] == ["crashed"])
        await fleet.remove("beta", "bad")
        await until(lambda: not of(supervisor, "bad"))


async def test_one_that_never_gets_ready_is_removed_at_once(
    platform, shelve, fleet, until, behave, tmp_path, find
):
    shelve(release("bad"))
    never = {"unready_until": str(tmp_path / "never")}
    async with platform(config=behave(**{"beta@bad": never})) as supervisor:
        await fleet.ensure("beta", "bad", 1)
        await until(lambda: of(supervisor, "bad")[0].reason == "model: loading 42 %")
        await fleet.remove("beta", "bad")
        await until(lambda: not of(supervisor, "bad"), seconds=2)
        assert find(supervisor, "beta").state == "ready"


async def test_an_instance_drains_at_its_own_pace(platform, shelve, fleet, until, behave):
    shelve(release("v2", drain_timeout=0.1), release("v3"))
    async with platform(config=behave(beta={"linger": 0.5})) as supervisor:
        await fleet.ensure("beta", "v2", 2)
        await until(lambda: all(one.state == "ready" for one in of(supervisor, "v2")))
        first, _ = of(supervisor, "v2")
        await fleet.drain(first.instance)
        await until(lambda: len(of(supervisor, "v2")) == 1)
        assert not psutil.pid_exists(first.pid)


async def replace_busy(supervisor, fleet, until):
    """v2 serves, and v1 drains with two streams that last a minute."""
    (old,) = of(supervisor, "v1")[-1:]
    await fleet.ensure("beta", "v2", 1)
    await until(lambda: [one.state for one in of(supervisor, "v2")] == ["ready"])
    await fleet.remove("beta", "v1")
    await until(lambda: "2 requests to end" in [one.reason for one in of(supervisor, "v1")])
    return old


@pytest.mark.slow
async def test_what_was_replaced_has_long_and_the_end_of_the_platform_cuts_it(
    platform, shelve, fleet, until, behave
):
    shelve(release("v2"))
    config = behave(**{"beta@v1": {"streams": 60}})
    async with platform(config=config, drain_timeout=0.2) as supervisor:
        old = await replace_busy(supervisor, fleet, until)
        began = time.monotonic()
    assert time.monotonic() - began < 4.0
    assert not psutil.pid_exists(old.pid)


@pytest.mark.slow
async def test_a_killed_supervisor_leaves_none_that_drains_for_long(platform, shelve, fleet, until, behave):
    shelve(release("v2"))
    config = behave(**{"beta@v1": {"streams": 60}})
    async with platform(config=config, drain_timeout=0.2) as supervisor:
        old = await replace_busy(supervisor, fleet, until)
        for running in supervisor._spawner._running:  # as the kernel does for who is killed
            running.terminate()
        await until(lambda: not psutil.pid_exists(old.pid), seconds=3.0)


@pytest.mark.parametrize("argv", [(), ("{socket}",)])
async def test_any_program_is_a_release(platform, layout, shelve, fleet, get, until, tmp_path, argv):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    source = CommandSource(argv=(sys.executable, str(program), *argv), ready_path="/ok")
    shelve(release("rust", source, environment={"EXTRA": "yes"}))
    async with platform() as supervisor:
        await fleet.ensure("beta", "rust", 1)
        await until(lambda: [one.state for one in of(supervisor, "rust")] == ["ready"])
        (one,) = of(supervisor, "rust")
        told = json.loads(await get(one.endpoint, "/told"))
        assert told["keys"] == ["calls", "context", "own"]
        assert (told["release"], told["extra"], told["listen"]) == ("rust", "yes", not argv)
        arguments = " ".join(psutil.Process(told["pid"]).cmdline())
        assert layout.root_key.read_bytes().hex() not in arguments
        os.kill(told["pid"], 9)
        await until(lambda: of(supervisor, "rust")[0].restarts == 1)
        await until(lambda: of(supervisor, "rust")[0].state == "ready")
        told = json.loads(await get(one.endpoint, "/told"))
        await fleet.remove("beta", "rust")
        await until(lambda: not of(supervisor, "rust"))
        assert not psutil.pid_exists(told["pid"])


async def test_a_program_that_is_not_there(platform, shelve, fleet, until):
    shelve(release("gone", CommandSource(argv=("/nowhere/program",))))
    async with platform() as supervisor:
        await fleet.ensure("beta", "gone", 1)
        reason = "cannot be run: /nowhere/program: No such file or directory"
        await until(lambda: of(supervisor, "gone")[0].reason == reason)
        await fleet.remove("beta", "gone")


async def test_an_endpoint_is_watched_and_never_started(platform, shelve, fleet, until):
    answers = {"status": 200}

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            answers["head"] = head
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % answers["status"])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    shelve(release("far", EndpointSource(url=url)))
    watching = WatchSettings(interval=0.02, starting=0.02)
    async with server, platform(watching=watching) as supervisor:
        await fleet.ensure("beta", "far", 1)
        await until(lambda: of(supervisor, "far")[0].state == "ready")
        (one,) = of(supervisor, "far")
        assert (one.endpoint, one.external, one.pid) == (url, True, 0)
        assert answers["head"].startswith(b"GET /v1/models HTTP/1.1\r\n")
        answers["status"] = 503
        await until(lambda: of(supervisor, "far")[0].state == "crashed")
        assert of(supervisor, "far")[0].reason == "answers 503"
        answers["status"] = 200
        await until(lambda: of(supervisor, "far")[0].state == "ready")
        await fleet.remove("beta", "far")
        await until(lambda: not of(supervisor, "far"))


async def test_the_control_socket_wants_its_word(platform, layout, fleet):
    async with platform():
        told = json.loads(layout.control.read_bytes())
        path = Path(told["endpoint"].removeprefix("unix:"))
        assert stat.S_IMODE(layout.control.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        layout.control.write_text(json.dumps({**told, "word": "guessed"}))
        with pytest.raises(Unauthenticated):
            await fleet.deployments()
        layout.control.write_text(json.dumps(told))
        with pytest.raises(NotFound, match=r"there is no release beta@v9"):
            await fleet.ensure("beta", "v9", 1)
        with pytest.raises(Conflict, match="only release"):
            await fleet.remove("beta", "v1")
        with pytest.raises(NotFound, match="no module"):
            await fleet.ensure("nosuch", "v1", 1)
        assert (await fleet.releases()).releases == ()
    assert not layout.control.exists()


async def test_a_second_front_takes_over_the_public_socket(platform, shelve, fleet, get, until):
    shelve(release("v2", service="front"))
    async with platform() as supervisor:
        await fleet.ensure("front", "v2", 1)
        await until(lambda: [one.state for one in of(supervisor, "v2")] == ["ready"])
        await fleet.remove("front", "v1")
        await until(lambda: not any(one.name == "front" for one in of(supervisor, "v1")))
        assert await get(supervisor.url, "/pid") == str(of(supervisor, "v2")[0].pid)
