import msgspec
import pytest

from harness.letters import MemoryLetters
from moonpool.contracts.manifest import Letters, Route
from moonpool.core.body import Stream
from moonpool.core.errors import BadRequest, ConnectFailed, Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.causes import Causes
from moonpool.middleware.dead_letter import HEADER, DeadLetter
from moonpool.middleware.deferring import CAPTURES, Deferring
from moonpool.ports.dead_letters import State

FAILED = Route(method="POST", path="/v1/x", letters=Letters.FAILED)
ASKED = Route(method="POST", path="/v1/x", letters=Letters.ASKED)


class House:
    def __init__(self, clock, log, make_ctx) -> None:
        self.letters, self.woken = MemoryLetters(), 0
        self.causes = Causes(clock)
        self.deferring = Deferring(self.letters, self.causes, clock, log, wake=self.wake)
        self.filter = DeadLetter(self.deferring)
        self.ctx = make_ctx(route=FAILED)
        self.below: Response | Exception = Response(200, [], b"{}")
        self.degraded = False
        self.asked = 0

    def wake(self) -> None:
        self.woken += 1

    async def ask(self, *, body=b'{"prompt":1}', **headers: bytes) -> Response:
        async def below(ctx, request):
            self.asked += 1
            if isinstance(self.below, Exception):
                raise self.below
            if self.degraded:
                ctx.fallback = "degraded"
                ctx.decide("fallback", "degraded", "upstream_reset: gone")
            return self.below

        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        return await self.filter(self.ctx, Request("POST", "/v1/x", "", named, body), below)

    @property
    def kept(self):
        return list(self.letters.letters.values())


@pytest.fixture
def house(clock, log, make_ctx) -> House:
    return House(clock, log, make_ctx)


def test_where_it_applies(house) -> None:
    assert house.filter.applies(FAILED)
    assert house.filter.applies(ASKED)
    assert not house.filter.applies(Route(method="POST", path="/"))


async def test_nothing_is_kept_when_all_is_well(house) -> None:
    assert await house.ask() is house.below
    house.below = BadRequest("no")
    with pytest.raises(BadRequest):
        await house.ask()
    house.below, house.ctx.fallback = Response(200), "service"
    await house.ask()
    assert house.kept == []


async def test_what_ended_degraded_is_kept(house, log) -> None:
    house.below, house.degraded = Response(503, [], b"{}"), True
    response = await house.ask(content_type=b"application/json", authorization=b"Bearer secret")
    (letter,) = house.kept
    assert response.header(HEADER) == letter.note.id.encode()
    assert (letter.note.state, letter.note.cause, letter.note.deferred) == (
        State.DEAD,
        "upstream_reset",
        False,
    )
    assert letter.sent.body == b'{"prompt":1}'
    assert letter.sent.headers == {"content-type": "application/json"}
    assert house.causes.top()[0].kind == "dead_letter"
    assert log.lines[-1][1] == "dead letter"
    assert b"prompt" not in repr(log.lines).encode()


async def test_what_is_raised_is_kept_too(house) -> None:
    house.below = ConnectFailed("no")
    with pytest.raises(ConnectFailed):
        await house.ask()
    assert house.kept[0].note.cause == "upstream_connect_failed"


async def test_routes_that_keep_only_what_is_asked_for(house) -> None:
    house.ctx.route = ASKED
    house.below, house.degraded = Response(503), True
    await house.ask()
    assert house.kept == []


async def test_a_store_that_is_away_or_full_changes_no_answer(house) -> None:
    house.below, house.degraded = Response(503), True
    house.letters.away = True
    response = await house.ask()
    assert (response.status, response.header(HEADER)) == (503, None)
    assert house.ctx.trace()[-1].verdict == "not kept"


async def test_uploads_are_not_kept_and_not_deferred(house) -> None:
    house.below, house.degraded = Response(503), True
    response = await house.ask(body=Stream(), prefer=b"respond-async")
    assert (response.status, house.asked, house.kept) == (503, 1, [])


async def test_an_outage_does_not_queue_up_at_the_disk(house) -> None:
    house.below, house.degraded = Response(503), True
    house.deferring._capturing = CAPTURES
    assert (await house.ask()).header(HEADER) is None
    house.deferring._capturing = 0
    assert (await house.ask()).header(HEADER) is not None
    assert house.deferring._capturing == 0


async def test_respond_async(house, clock) -> None:
    response = await house.ask(prefer=b"respond-async, wait=5")
    (letter,) = house.kept
    assert (response.status, house.asked, house.woken) == (202, 0, 1)
    assert response.header(b"location") == b"/v1/deferred/" + letter.note.id.encode()
    assert response.header(b"preference-applied") == b"respond-async"
    assert msgspec.json.decode(response.body)["status"] == "waiting"
    assert (letter.note.state, letter.note.deferred, letter.note.next_at) == (
        State.WAITING,
        True,
        clock.time(),
    )
    assert letter.sent.headers == {"prefer": "wait=5"}


async def test_the_same_wish_twice_is_one_letter(house) -> None:
    first = await house.ask(prefer=b"respond-async", idempotency_key=b"k")
    house.ctx.request_id = "req_2"
    second = await house.ask(prefer=b"respond-async", idempotency_key=b"k")
    assert first.header(b"location") == second.header(b"location")
    assert len(house.kept) == 1


async def test_what_cannot_be_kept_is_not_accepted(house) -> None:
    house.letters.away = True
    with pytest.raises(Unavailable):
        await house.ask(prefer=b"respond-async")
    assert house.asked == 0
