"""Copies: sent beside the request, heard by nobody, never more than allowed."""

import asyncio

import pytest
import structlog

from moonpool.contracts.manifest import BalancerKind, BodyKind, Route
from moonpool.contracts.routing import Mirror
from moonpool.core.body import Outcome, Stream
from moonpool.core.clock import ManualClock
from moonpool.core.context import Attempt, Context
from moonpool.core.errors import ConnectFailed, StreamTruncated
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal
from moonpool.upgrade.mirror import Mirroring

ROUTE = Route(method="GET", path="/api/things", body=BodyKind.NONE)


class Shadow:
    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror

    def shadow_of(self, service: str, release: str) -> Mirror | None:
        return None if release == self.mirror.release else self.mirror


class Evidence:
    def __init__(self) -> None:
        self.told: list[tuple[str, Outcome, int, bool]] = []
        self.came = asyncio.Event()

    def __call__(
        self,
        ctx: Context,
        outcome: Outcome,
        *,
        first: float | None = None,
        last: float | None = None,
        chunks: int = 0,
        mirrored: bool = False,
    ) -> None:
        self.told.append((ctx.release_wanted, outcome, chunks, mirrored))
        self.came.set()


class Upstream:
    """Answers with what it is given; keeps what it was asked."""

    def __init__(self, answer: Response | Exception | None = None) -> None:
        self.answer = answer
        self.asked: list[tuple[Context, Request]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, ctx: Context, request: Request) -> Response:
        self.asked.append((ctx, request))
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or Response(200, [], b"real")


def context() -> Context:
    ctx = Context(ManualClock())
    ctx.service, ctx.route, ctx.release_wanted = "inference", ROUTE, "v1"
    ctx.request_id = "req_1"
    ctx.principal = Principal(user="ann", tenant="org")
    ctx.payload = {"model": "m"}
    return ctx


REQUEST = Request("POST", "/v1/chat/completions", headers={b"a": b"b"}, body=b"{}")


def make(send: Upstream, concurrent: int = 16) -> tuple[Mirroring, Evidence]:
    evidence = Evidence()
    return Mirroring(
        Shadow(Mirror(release="v2", concurrent=concurrent)), send, evidence, structlog.get_logger()
    ), evidence


async def test_a_copy_goes_to_the_shadow_and_its_answer_nowhere() -> None:
    send, real = Upstream(Response(200, [], b"shadow")), Upstream()
    mirroring, evidence = make(send)
    ctx = context()
    response = await mirroring(ctx, REQUEST, real)
    await evidence.came.wait()
    copy, request = send.asked[0]

    assert response.body == b"real"
    assert evidence.told == [("v2", Outcome.COMPLETED, 0, True)]
    assert (copy.release_wanted, copy.principal, copy.payload) == ("v2", ctx.principal, ctx.payload)
    assert copy.request_id == "req_1-mirror"
    assert copy.deadline is not None
    assert (copy.decisions, copy.attempts, copy.usage) == ([], [], None)
    assert request == REQUEST
    assert request.headers is not REQUEST.headers
    assert ctx.decisions[0][:2] == ("mirror", "v2")


async def test_the_request_does_not_wait_for_its_copy() -> None:
    send = Upstream()
    send.gate.clear()
    mirroring, evidence = make(send)

    assert (await mirroring(context(), REQUEST, Upstream())).body == b"real"
    assert evidence.told == []
    send.gate.set()
    await evidence.came.wait()


async def test_a_streamed_copy_is_measured_to_its_end() -> None:
    stream = Stream()
    mirroring, evidence = make(Upstream(Response(200, [], stream)))
    await mirroring(context(), REQUEST, Upstream())
    for _ in range(3):
        await asyncio.sleep(0)
    stream.feed(b"data: 1\n\n")
    stream.feed(b"data: 2\n\n")
    stream.finish()
    await evidence.came.wait()

    assert evidence.told == [("v2", Outcome.COMPLETED, 2, True)]


async def test_a_copy_that_breaks_off_is_told_as_failed() -> None:
    stream = Stream()
    mirroring, evidence = make(Upstream(Response(200, [], stream)))
    await mirroring(context(), REQUEST, Upstream())
    stream.feed(b"data: 1\n\n")
    stream.fail(StreamTruncated("gone"))
    await evidence.came.wait()

    assert evidence.told == [("v2", Outcome.FAILED, 1, True)]


@pytest.mark.parametrize("error", [ConnectFailed("nobody there"), ValueError("a fault of ours")])
async def test_a_copy_that_fails_hurts_nobody(error: Exception) -> None:
    mirroring, evidence = make(Upstream(error))

    assert (await mirroring(context(), REQUEST, Upstream())).body == b"real"
    await evidence.came.wait()
    assert evidence.told == [("v2", Outcome.FAILED, 0, True)]


async def test_beyond_the_bound_copies_are_dropped() -> None:
    send = Upstream()
    send.gate.clear()
    mirroring, evidence = make(send, 2)
    contexts = [context() for _ in range(3)]
    for ctx in contexts:
        await mirroring(ctx, REQUEST, Upstream())
    await asyncio.sleep(0)

    assert len(send.asked) == 2
    assert mirroring.dropped == 1
    assert contexts[2].decisions[0][:2] == ("mirror", "dropped")

    send.gate.set()
    while len(evidence.told) < 2:
        evidence.came.clear()
        await evidence.came.wait()
    await mirroring(context(), REQUEST, Upstream())  # places came back
    await asyncio.sleep(0)
    assert len(send.asked) == 3
    await mirroring.stop()


async def test_no_copy_of_a_repeated_attempt_nor_of_an_upload() -> None:
    send = Upstream()
    mirroring, _ = make(send)
    again = context()
    again.attempts.append(Attempt("a", "v1", 0.0))
    itself = context()
    itself.release_wanted = "v2"
    await mirroring(itself, REQUEST, Upstream())
    await mirroring(again, REQUEST, Upstream())
    await mirroring(context(), Request("POST", "/", body=Stream()), Upstream())
    await asyncio.sleep(0)

    assert send.asked == []


async def test_stopping_ends_what_is_under_way() -> None:
    stream = Stream()
    mirroring, evidence = make(Upstream(Response(200, [], stream)))
    await mirroring(context(), REQUEST, Upstream())
    for _ in range(3):
        await asyncio.sleep(0)
    await mirroring.stop()

    assert stream.outcome is Outcome.CANCELLED
    assert evidence.told == []


@pytest.mark.parametrize(
    ("route", "copied"),
    [
        (ROUTE, True),
        (Route(method="POST", path="/x"), False),
        (Route(method="GET", path="/x", quiet=True, body=BodyKind.NONE), False),
        (Route(method="POST", path="/v1/x", balancer=BalancerKind.INFERENCE), True),
    ],
)
def test_only_what_changes_nothing_is_copied(route: Route, copied: bool) -> None:
    mirroring, _ = make(Upstream())

    assert mirroring.applies(route) is copied
