from random import Random

import msgspec
import pytest

from harness.letters import OWNER, MemoryLetters, make_letter
from moonpool.contracts.manifest import Access
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest, ConnectFailed, NotFound, Unavailable
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.gateway.dead_letters import DeadLetterRoutes
from moonpool.middleware.letter_replay import Replays
from moonpool.ports.dead_letters import Answered, Failed, State

ADMIN = Principal(user="boss", tenant="t1", role=Role.ADMIN)
STRANGER = Principal(user="u1", tenant="t2", role=Role.OWNER)
COLLEAGUE = Principal(user="u2", tenant="t1", role=Role.MEMBER)


class Log:
    def __getattr__(self, level: str):
        return lambda *args, **fields: None


class House:
    def __init__(self) -> None:
        self.letters = MemoryLetters()
        self.answer: Response | Exception = Response(200, [(b"content-type", b"text/plain")], b"yes")
        replays = Replays(self.letters, self.perform, ManualClock(), Random(1), Log(), sleep=self.sleep)
        self.routes = DeadLetterRoutes(self.letters, replays)
        self.handlers = {(route.method, route.path): handler for route, handler in self.routes.routes()}

    async def sleep(self, seconds: float) -> None: ...

    async def perform(self, letter) -> Response:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def call(self, method, path, *, who=ADMIN, query="", body=None, **parameters):
        ctx = Context()
        ctx.principal, ctx.parameters = who, parameters
        data = b"" if body is None else msgspec.json.encode(body)
        response = await self.handlers[method, path](ctx, Request(method, path, query, {}, data))
        return msgspec.json.decode(response.body)

    async def fetch(self, id: str, who=OWNER) -> Response:
        ctx = Context()
        ctx.principal, ctx.parameters = who, {"letter_id": id}
        return await self.handlers["GET", "/v1/deferred/{letter_id}"](ctx, Request("GET", "/x"))


@pytest.fixture
async def house() -> House:
    house = House()
    for n in range(3):
        await house.letters.put(make_letter(f"dl_{n}", state=State.DEAD, body=b"secret prompt"))
    await house.letters.put(make_letter("dl_8", service="chat"))
    await house.letters.put(make_letter("dl_9", principal=STRANGER, state=State.DEAD))
    return house


ONE = "/admin/dlq/{letter_id}"


def test_who_may(house) -> None:
    access = {route.path: (route.access, route.scope) for route, _ in house.routes.routes()}
    assert access.pop("/v1/deferred/{letter_id}") == (Access.KEY, "")
    assert set(access.values()) == {(Access.ADMIN, "admin")}


async def test_lists_of_the_own_organisation(house) -> None:
    page = await house.call("GET", "/admin/dlq", query="limit=2")
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (["dl_8", "dl_2"], True)
    page = await house.call("GET", "/admin/dlq", query="limit=2&after=dl_2")
    assert [each["id"] for each in page["data"]] == ["dl_1", "dl_0"]
    page = await house.call("GET", "/admin/dlq", query="state=waiting,answered")
    assert [each["id"] for each in page["data"]] == ["dl_8"]
    assert "secret" not in str(page)
    for query in ("limit=0", "limit=x", "state=nope", "before=x"):
        with pytest.raises(BadRequest):
            await house.call("GET", "/admin/dlq", query=query)


async def test_show_tells_contents_only_when_asked(house) -> None:
    shown = await house.call("GET", ONE, letter_id="dl_1")
    assert (shown["body_bytes"], shown["request"], shown["state"]) == (13, None, "dead")
    shown = await house.call("GET", ONE, query="content=true", letter_id="dl_1")
    assert shown["request"]["body"] == "secret prompt"


@pytest.mark.parametrize("limit", ["0", "x", "1001", "²", "9" * 5000])
async def test_a_limit_that_is_none(house, limit) -> None:
    with pytest.raises(BadRequest) as raised:
        await house.call("GET", "/admin/dlq", query=f"limit={limit}")
    assert raised.value.param == "limit"


@pytest.mark.parametrize(("method", "path"), [("GET", ONE), ("POST", ONE + "/replay"), ("DELETE", ONE)])
@pytest.mark.parametrize("id", ["dl_9", "dl_none"])
async def test_others_letters_are_not_there(house, method, path, id) -> None:
    with pytest.raises(NotFound):
        await house.call(method, path, letter_id=id)
    assert "dl_9" in house.letters.letters


async def test_replay_one(house) -> None:
    report = await house.call("POST", ONE + "/replay", letter_id="dl_1")
    assert (report["answered"], report["data"][0]["outcome"]) == (1, "answered")
    report = await house.call("POST", ONE + "/replay", letter_id="dl_1")
    assert (report["answered"], report["data"][0]["outcome"]) == (0, "already answered")


async def test_replay_many_takes_the_dead_unless_told_otherwise(house) -> None:
    report = await house.call("POST", "/admin/dlq/replay", body={"all": True})
    assert [each["id"] for each in report["data"]] == ["dl_0", "dl_1", "dl_2"]
    assert house.letters.letters["dl_9"].note.state is State.DEAD
    report = await house.call("POST", "/admin/dlq/replay", body={"states": ["waiting"], "service": "chat"})
    assert [each["id"] for each in report["data"]] == ["dl_8"]


async def test_replay_many_stops(house) -> None:
    house.answer = ConnectFailed("no")
    report = await house.call("POST", "/admin/dlq/replay", body={"all": True, "limit": 10, "rate": 9.5})
    assert (report["failed"], report["stopped"]) == (3, True)


async def test_purge(house) -> None:
    assert await house.call("DELETE", ONE, letter_id="dl_0") == {
        "object": "dead_letters.purged",
        "deleted": 1,
    }
    assert (await house.call("POST", "/admin/dlq/purge", body={"service": "chat"}))["deleted"] == 1
    assert (await house.call("POST", "/admin/dlq/purge", body={"all": True}))["deleted"] == 2
    assert list(house.letters.letters) == ["dl_9"]


@pytest.mark.parametrize("path", ["/admin/dlq/replay", "/admin/dlq/purge"])
@pytest.mark.parametrize(
    "body",
    [None, {}, {"states": ["nope"]}, {"limit": 5}, {"all": True, "limit": 0}, {"al": True}, {"rate": -1}, []],
)
async def test_nothing_is_done_by_mistake(house, path, body) -> None:
    with pytest.raises(BadRequest):
        await house.call("POST", path, body=body)
    assert len(house.letters.letters) == 5


async def settle(house: House, **fields: object) -> None:
    letter = house.letters.letters["dl_8"]
    answer, failures = fields.pop("answer", None), fields.pop("failures", ())
    note = msgspec.structs.replace(letter.note, **fields)
    house.letters.letters["dl_8"] = msgspec.structs.replace(
        letter, note=note, answer=answer, failures=failures
    )


async def test_a_deferred_answer(house) -> None:
    waiting = await house.fetch("dl_8")
    assert (waiting.status, waiting.header(b"location")) == (202, b"/v1/deferred/dl_8")
    assert waiting.header(b"retry-after") == b"1"
    answer = Answered(status=201, headers={"content-type": "text/plain"}, body=b"late")
    await settle(house, state=State.ANSWERED, answer=answer)
    response = await house.fetch("dl_8")
    assert (response.status, response.body, response.header(b"content-type")) == (201, b"late", b"text/plain")


async def test_a_deferred_refusal_and_a_failure_for_good(house) -> None:
    await settle(house, state=State.DEAD, answer=Answered(status=422, body=b"{}"))
    assert (await house.fetch("dl_8")).status == 422
    failure = Failed(at=1.0, status=503, code="c", message="the model is gone")
    await settle(house, state=State.DEAD, failures=(failure,))
    with pytest.raises(Unavailable, match="the model is gone"):
        await house.fetch("dl_8")


async def test_a_failure_at_once_is_told_by_its_cause_not_in_the_words_of_the_inside(house) -> None:
    failure = Failed(
        at=1.0, status=0, code="upstream_connect_failed", message="cannot connect to /run/x.sock"
    )
    await settle(house, state=State.DEAD, deferred=False, failures=(failure,))
    with pytest.raises(Unavailable, match="done: upstream_reset"):
        await house.fetch("dl_8")


async def test_only_one_s_own(house) -> None:
    for who in (STRANGER, COLLEAGUE, Principal()):
        with pytest.raises(NotFound):
            await house.fetch("dl_8", who)
    assert (await house.fetch("dl_8", ADMIN)).status == 202
