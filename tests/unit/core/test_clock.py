import time

from moonpool.core.clock import SYSTEM_CLOCK, ManualClock


def test_the_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(monotonic=10.0, wall=100.0)
    assert (clock.monotonic(), clock.time()) == (10.0, 100.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.time()) == (12.5, 102.5)


def test_the_system_clock_is_the_machine_s() -> None:
    before = time.monotonic()
    assert before <= SYSTEM_CLOCK.monotonic() <= time.monotonic()
    assert abs(SYSTEM_CLOCK.time() - time.time()) < 1.0
