from moonpool.core.clock import ManualClock
from moonpool.wiring.backoff import Backoff


def make(random=lambda: 1.0):
    clock = ManualClock()
    return clock, Backoff(first=0.05, most=10.0, healthy=30.0, clock=clock, random=random)


def test_it_doubles_up_to_the_most():
    _, backoff = make()
    delays = [backoff.delay() for _ in range(10)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_chance_takes_at_most_half():
    _, backoff = make(random=lambda: 0.0)
    assert [backoff.delay() for _ in range(2)] == [0.025, 0.05]


def test_enough_good_health_starts_it_over():
    clock, backoff = make()
    backoff.delay()
    backoff.delay()
    backoff.well()
    clock.advance(29)
    backoff.well()  # still
    assert backoff.delay() == 0.2
    backoff.well()
    clock.advance(30)
    assert backoff.delay() == 0.05


def test_health_is_counted_in_one_piece():
    clock, backoff = make()
    backoff.delay()
    for _ in range(3):
        backoff.well()
        clock.advance(20)
        backoff.unwell()
    assert backoff.delay() == 0.1
