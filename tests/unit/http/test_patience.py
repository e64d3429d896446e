"""How slow a peer may be: tables of time and bytes."""

from moonpool.http.limits import Limits
from moonpool.http.patience import BodyRate, ReaderRate

LIMITS = Limits(body_grace=10, body_rate=1000, slow_reader_timeout=30, write_high_water=100)


def test_a_body_has_its_grace_then_its_rate() -> None:
    rate = BodyRate(LIMITS)
    assert not rate.too_slow(100, 0)
    assert not rate.too_slow(110, 0)
    assert rate.too_slow(110.1, 0)
    assert not rate.too_slow(120, 10_000)
    assert rate.too_slow(121, 10_000)


def test_a_new_body_or_a_pause_starts_over() -> None:
    rate = BodyRate(LIMITS)
    rate.too_slow(100, 500)
    assert not rate.too_slow(200, 0)
    assert rate.too_slow(211, 0)
    rate.restart()
    assert not rate.too_slow(300, 0)


def test_a_reader_must_take_a_buffer_in_time() -> None:
    rate = ReaderRate(LIMITS)
    assert not rate.too_slow(100, 1000)
    assert not rate.too_slow(129, 950)
    assert not rate.too_slow(130, 900)  # progress: the time starts over
    assert not rate.too_slow(159, 850)
    assert rate.too_slow(161, 850)


def test_an_empty_buffer_is_never_slow() -> None:
    rate = ReaderRate(LIMITS)
    rate.too_slow(100, 1000)
    assert not rate.too_slow(200, 0)
    assert not rate.too_slow(201, 1000)
