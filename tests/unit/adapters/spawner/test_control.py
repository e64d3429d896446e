"""What the client of the supervisor's socket sends, and what becomes of the answers."""

import json

import pytest

from moonpool.adapters.spawner.control import ControlFleet
from moonpool.core.errors import BadRequest, Conflict, ConnectFailed, NotFound, Unavailable
from moonpool.core.message import Response


class Wire:
    def __init__(self):
        self.sent = []
        self.answer = Response(200, [], b'{"deployments": []}')

    async def send(self, address, request, **times):
        self.sent.append((str(address), request.method, request.path, request.query, request.body))
        self.headers = request.headers
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def fleet(wire, tmp_path):
    file = tmp_path / "control.json"
    file.write_text(json.dumps({"endpoint": "unix:/run/control.sock", "word": "open"}))
    return ControlFleet(file, wire)


async def test_every_call_brings_the_word(fleet, wire):
    await fleet.ensure("chat", "v2", 3)
    await fleet.remove("chat", "v2")
    await fleet.deployments("chat")
    assert wire.sent == [
        ("unix:/run/control.sock", "PUT", "/deployments/chat/v2", "", b'{"replicas":3}'),
        ("unix:/run/control.sock", "DELETE", "/deployments/chat/v2", "", b""),
        ("unix:/run/control.sock", "GET", "/deployments", "service=chat", b""),
    ]
    assert wire.headers[b"authorization"] == b"Bearer open"


async def test_an_instance_s_name_stays_one_part_of_the_path(fleet, wire):
    wire.answer = Response(200, [], b"{}")
    await fleet.drain("chat-0-a b?")
    assert wire.sent[0][2] == "/instances/chat-0-a%20b%3F/drain"


async def test_instances_are_those_of_all_deployments(fleet, wire):
    one = {"name": "chat", "release": "v1", "instance": "chat-0", "pid": 1, "state": "ready", "endpoint": "x"}
    deployment = {"service": "chat", "release": "v1", "replicas": 1, "instances": [one]}
    wire.answer = Response(200, [], json.dumps({"deployments": [deployment, deployment]}).encode())
    assert [instance.instance for instance in await fleet.instances()] == ["chat-0", "chat-0"]
    assert [d.ready for d in await fleet.deployments()] == [1, 1]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadRequest), (404, NotFound), (409, Conflict), (500, Unavailable)]
)
async def test_refusals_are_told_as_they_were_said(fleet, wire, status, kind):
    wire.answer = Response(status, [], b'{"error": {"message": "no such thing", "type": "x", "code": "c"}}')
    with pytest.raises(kind, match="no such thing") as refused:
        await fleet.ensure("chat", "v2", 1)
    assert refused.value.code == "c"


@pytest.mark.parametrize(
    "answer", [ConnectFailed("refused"), Response(200, [], b"nonsense"), Response(502, [], b"nonsense")]
)
async def test_a_supervisor_that_is_not_there(fleet, wire, answer, tmp_path):
    wire.answer = answer
    with pytest.raises(Unavailable) as away:
        await fleet.ensure("chat", "v2", 1)
    assert away.value.code == "supervisor_away"
    (tmp_path / "control.json").unlink()
    with pytest.raises(Unavailable, match="no supervisor runs"):
        await fleet.releases()
