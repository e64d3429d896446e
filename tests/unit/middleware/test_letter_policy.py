from random import Random

import pytest

from harness.letters import make_letter
from moonpool.core.context import Attempt
from moonpool.core.message import Request
from moonpool.middleware.letter_policy import (
    ATTEMPTS,
    FAILURES,
    FIRST_DELAY,
    LONGEST_WAIT,
    Verdict,
    delay,
    failed,
    good,
    judge,
    write,
)
from moonpool.ports.dead_letters import Answered, Failed, State

FAILURE = Failed(at=2000.0, status=503, code="down", message="down")


class Middle(Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204, 303), Verdict.GOOD),
        ((408, 409, 425, 429, 500, 502, 503, 504), Verdict.AGAIN),
        ((400, 401, 402, 403, 404, 413, 422, 501), Verdict.FATAL),
    ],
)
def test_verdicts(statuses: tuple[int, ...], verdict: Verdict) -> None:
    assert {judge(status) for status in statuses} == {verdict}


def test_delays_double_with_jitter() -> None:
    assert [delay(n, Middle()) for n in (1, 2, 3, 9)] == [5.0, 10.0, 20.0, 1280.0]
    drawn = [delay(1, Random(n)) for n in range(50)]
    assert min(drawn) >= FIRST_DELAY * 0.8
    assert max(drawn) <= FIRST_DELAY * 1.2
    assert len(set(drawn)) > 40


def test_ten_attempts_then_dead() -> None:
    letter = make_letter()
    times = []
    for _ in range(ATTEMPTS):
        assert letter.note.state is State.WAITING
        letter = failed(letter, FAILURE, Verdict.AGAIN, Middle())
        times.append(letter.note.next_at - FAILURE.at)
    assert times[:9] == [5.0 * 2**n for n in range(9)]
    assert (letter.note.state, letter.note.attempts) == (State.DEAD, ATTEMPTS)
    for _ in range(50):  # an operator who tries again and again makes nothing grow
        letter = failed(letter, FAILURE, Verdict.AGAIN, Middle())
    assert (letter.note.state, letter.note.attempts, len(letter.failures)) == (State.DEAD, 60, FAILURES)


def test_fatal_errors_at_once() -> None:
    answer = Answered(status=422)
    letter = failed(make_letter(), FAILURE, Verdict.FATAL, Middle(), answer=answer)
    assert (letter.note.state, letter.note.attempts, letter.answer) == (State.DEAD, 1, answer)


@pytest.mark.parametrize(("wait", "pause"), [(None, 5.0), (2.0, 5.0), (90.0, 90.0), (1e9, LONGEST_WAIT)])
def test_an_answer_s_wait_is_obeyed_within_reason(wait: float | None, pause: float) -> None:
    letter = failed(make_letter(), FAILURE, Verdict.AGAIN, Middle(), wait=wait)
    assert letter.note.next_at == FAILURE.at + pause


def test_good() -> None:
    letter = good(make_letter(), Answered(status=200, body=b"x"), 3000.0)
    assert (letter.note.state, letter.note.attempts, letter.note.updated_at) == (State.ANSWERED, 1, 3000.0)


def letter_of(ctx, request: Request):
    return write(ctx, request, id="dl_1", state=State.DEAD, deferred=False, cause="x", route="/r", now=7.0)


def test_headers_are_kept_without_secrets(make_ctx) -> None:
    headers = {
        b"authorization": b"Bearer sk-secret",
        b"cookie": b"session=1",
        b"x-api-key": b"secret",
        b"x-moonpool-context": b"signed",
        b"proxy-authorization": b"secret",
        b"content-type": b"application/json",
        b"idempotency-key": b"k",
        b"prefer": b"respond-async, handling=lenient",
    }
    letter = letter_of(make_ctx(), Request("POST", "/p", "q=1", headers, b"{}"))
    assert letter.sent.headers == {
        "content-type": "application/json", "idempotency-key": "k", "prefer": "handling=lenient",
    }  # fmt: skip
    assert (letter.sent.path, letter.sent.query, letter.sent.body) == ("/p", "q=1", b"{}")
    assert (letter.note.tenant, letter.note.user, letter.note.created_at) == ("org_1", "user_1", 7.0)


def test_what_counts_as_the_same_request(make_ctx) -> None:
    def name(key: bytes | None = None, path: str = "/p", **fields: object) -> str:
        headers = {} if key is None else {b"idempotency-key": key}
        return letter_of(make_ctx(**fields), Request("POST", path, "", headers, b"{}")).note.dedupe

    assert name() == name()
    assert name(request_id="req_2") != name()
    assert name(b"k", request_id="req_2") == name(b"k")
    others = [name(b"k"), name(b"l"), name(b"k", path="/o"), name(b"req_1"), name()]
    assert len(set(others)) == len(others)


def tried(ctx, started: float, **fields: object) -> None:
    attempt = Attempt("inference-0", "v1", started)
    for name, value in fields.items():
        setattr(attempt, name, value)
    ctx.attempts.append(attempt)


def test_what_was_tried_is_told_with_its_errors(make_ctx, clock) -> None:
    ctx, start = make_ctx(), clock.monotonic()
    tried(ctx, start, ended=start + 1.0, status=500, error="answered 500", code="upstream_answered")
    tried(ctx, start + 2.0, error="cancelled")  # a faster one won
    tried(ctx, start + 2.0, ended=start + 3.0, error="reset", code="upstream_reset")
    clock.advance(4.0)
    letter = letter_of(ctx, Request("POST", "/p", "", {}, b"{}"))
    assert letter.note.attempts == 3
    assert letter.failures == (
        Failed(at=7.0 - 3.0, status=500, code="upstream_answered", message="answered 500"),
        Failed(at=7.0 - 1.0, status=0, code="upstream_reset", message="reset"),
    )


def test_what_is_done_later_has_all_its_attempts(make_ctx) -> None:
    ctx = make_ctx()
    tried(ctx, 0.0, ended=0.0, error="reset", code="upstream_reset")
    letter = write(
        ctx, Request("POST", "/p", "", {}, b"{}"),
        id="dl_1", state=State.WAITING, deferred=True, cause="x", route="/r", now=7.0,
    )  # fmt: skip
    assert (letter.note.attempts, len(letter.failures)) == (0, 1)
