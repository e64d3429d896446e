from moonpool.core.clock import ManualClock
from moonpool.middleware.causes import HALF_LIFE, Cause, Causes

A = Cause("degraded", "chat", "GET /a", "upstream_reset")
B = Cause("stale", "inference", "POST /b", "upstream_stalled")


def test_the_most_frequent_of_late_come_first() -> None:
    clock = ManualClock()
    causes = Causes(clock)
    for _ in range(10):
        causes.note(A, request_id="req_a")
    clock.advance(5 * HALF_LIFE)
    causes.note(B, request_id="req_b", message="fell silent")
    first, second = causes.top()
    assert (first.cause, first.count, first.request_id, first.message) == (
        "upstream_stalled",
        1,
        "req_b",
        "fell silent",
    )
    assert (second.cause, second.count, second.recent) == ("upstream_reset", 10, round(10 / 32, 3))
    assert second.last_at == second.first_at == first.last_at - 5 * HALF_LIFE


def test_filters_and_totals() -> None:
    causes = Causes(ManualClock())
    causes.note(A)
    causes.note(A._replace(route="GET /c"))
    causes.note(B)
    assert [each.kind for each in causes.top(kind="stale")] == ["stale"]
    assert len(causes.top(service="chat")) == 2
    assert len(causes.top(1)) == 1
    assert causes.totals() == {
        ("degraded", "chat", "upstream_reset"): 2,
        ("stale", "inference", "upstream_stalled"): 1,
    }


def test_bounded() -> None:
    causes = Causes(ManualClock(), capacity=3)
    causes.note(A)
    for n in range(3):
        causes.note(A)
        causes.note(B._replace(cause=str(n)))
    assert sorted(each.cause for each in causes.top()) == ["1", "2", "upstream_reset"]
