"""What the breakers' states leave of a pool."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from moonpool.contracts.resilience import BreakerPolicy
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import State, Verdict

NOW = 1000.0


@dataclass(frozen=True)
class Place:
    instance: str


POOL = [Place(name) for name in "abcd"]


@pytest.fixture
def breakers() -> Breakers:
    return Breakers(BreakerPolicy(), lambda: 0.5)


def trip(breakers: Breakers, names: str, verdict: Verdict = Verdict.STALL, now: float = NOW) -> None:
    for name in names:
        for _ in range(5):
            permit = breakers.of(Place(name)).permit(now)
            assert permit is not None
            permit.failed(now, verdict)


def names(places: object) -> str:
    assert isinstance(places, list)
    return "".join(place.instance for place in places)


class Untouched(list[Place]):
    """A pool that nobody may go through: while all is well, that would be paid by every request."""

    def __iter__(self) -> Iterator[Place]:
        raise AssertionError("looked at one by one")


UNTOUCHED = Untouched(POOL)


def test_while_all_is_well_the_pool_is_not_even_looked_at(breakers: Breakers) -> None:
    assert breakers.admitted(UNTOUCHED, NOW) is UNTOUCHED
    for place in POOL:
        breakers.of(place)
    assert breakers.admitted(UNTOUCHED, NOW) is UNTOUCHED


def test_another_pools_trouble_leaves_this_one_as_it_is(breakers: Breakers) -> None:
    trip(breakers, "z")
    assert breakers.admitted(POOL, NOW) is POOL


@pytest.mark.parametrize(
    ("ejected", "left"),
    [("a", "bcd"), ("ab", "cd"), ("abc", "abcd"), ("abcd", "")],
    ids=["one", "half", "panic", "all"],
)
def test_who_is_admitted(breakers: Breakers, ejected: str, left: str) -> None:
    trip(breakers, ejected)
    assert names(breakers.admitted(POOL, NOW)) == left


def test_in_a_panic_the_ejected_are_called_by_force(breakers: Breakers) -> None:
    trip(breakers, "abc")
    breaker = breakers.of(POOL[0])
    assert breaker.permit(NOW) is None
    breaker.forced().failed(NOW, Verdict.STALL)
    assert breaker.retry_after(NOW) == 5.0


def test_in_a_panic_who_does_not_listen_stays_out(breakers: Breakers) -> None:
    trip(breakers, "ab", Verdict.CONNECT)
    trip(breakers, "c")
    assert names(breakers.admitted(POOL, NOW)) == "cd"


def test_in_a_panic_half_open_takes_its_probes_and_no_more(breakers: Breakers) -> None:
    trip(breakers, "a")
    trip(breakers, "bc", now=NOW + 3.0)
    now = NOW + 6.0
    assert breakers.of(POOL[0]).permit(now) is not None
    assert names(breakers.admitted(POOL, now)) == "bcd"


def test_nothing_left_says_when_to_come_back(breakers: Breakers) -> None:
    trip(breakers, "ab")
    trip(breakers, "cd", now=NOW + 2.0)
    assert breakers.retry_after(POOL, NOW + 3.0) == 2.0
    assert names(breakers.admitted(POOL, NOW + 5.0)) == "ab"
    assert breakers.retry_after(POOL, NOW + 5.0) == 0.0


def test_after_recovery_the_pool_is_handed_back_as_it_is_again() -> None:
    seen: list[tuple[str, State, State]] = []
    breakers = Breakers(BreakerPolicy(), lambda: 0.5, lambda *change: seen.append(change))
    trip(breakers, "a")
    now = NOW + 5.0
    assert breakers.states(now) == {"a": State.HALF_OPEN}
    for _ in range(7):
        permit = breakers.of(POOL[0]).permit(now)
        assert permit is not None
        permit.succeeded(now)
    assert breakers.admitted(UNTOUCHED, now) is UNTOUCHED
    assert breakers.states(now) == {"a": State.CLOSED}
    assert seen[0] == ("a", State.CLOSED, State.OPEN)
    assert seen[-1] == ("a", State.HALF_OPEN, State.CLOSED)


def test_a_pause_ends_by_itself(breakers: Breakers) -> None:
    permit = breakers.of(POOL[0]).permit(NOW)
    assert permit is not None
    permit.failed(NOW, Verdict.RATE_LIMITED, 1.0)
    assert names(breakers.admitted(POOL, NOW)) == "bcd"
    assert breakers.admitted(POOL, NOW + 1.2) is POOL


def test_who_is_forgotten_leaves_no_trace(breakers: Breakers) -> None:
    late = [breakers.of(POOL[1]).permit(NOW) for _ in range(5)]
    trip(breakers, "a")
    for name in ("a", "b", "never"):
        breakers.forget(name)
    for permit in late:
        assert permit is not None
        permit.failed(NOW, Verdict.RESET)
    assert breakers.states(NOW) == {}
    assert breakers.admitted(UNTOUCHED, NOW) is UNTOUCHED
    trip(breakers, "c")
    assert names(breakers.admitted(POOL, NOW)) == "abd"


def test_another_policy_holds_for_all_that_there_are_and_for_those_that_come(breakers: Breakers) -> None:
    trip(breakers, "ab")
    breakers.update(BreakerPolicy(consecutive_failures=1, panic=0.1))
    assert names(breakers.admitted(POOL, NOW)) == "abcd"  # 2 of 4 are more than 10 %
    breakers.update(BreakerPolicy(consecutive_failures=1))
    assert names(breakers.admitted(POOL, NOW)) == "cd"
    for name in "cz":
        permit = breakers.of(Place(name)).permit(NOW)
        assert permit is not None
        permit.failed(NOW, Verdict.CONNECT)
    assert set(breakers.states(NOW)) == set("abcz")
    assert set(breakers.states(NOW).values()) == {State.OPEN}
