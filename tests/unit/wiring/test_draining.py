"""How long what was replaced may drain."""

import pytest

from moonpool.core.clock import ManualClock
from moonpool.ports.spawner import Draining
from moonpool.wiring.draining import MOST, Patience, surplus, words


def test_it_ends_at_its_bound_and_not_before() -> None:
    clock = ManualClock()
    patience = Patience(900.0, 30.0, clock)
    for note in range(899):
        clock.advance(1.0)
        assert patience.ends(Draining(notes=note, tells=True, under_way=2)) == ""
    assert patience.left == 1.0
    clock.advance(1.0)
    assert patience.ends(Draining(notes=900, tells=True, under_way=2)) == "2 requests have not ended in time"
    assert patience.left == 0.0


def test_one_that_tells_may_not_fall_silent() -> None:
    patience = Patience(900.0, 3.0, ManualClock())
    seen = Draining(notes=7, tells=True, under_way=1)
    assert [patience.ends(seen) for _ in range(4)] == [""] * 4
    assert patience.ends(seen) == "silent for 4 s"
    assert patience.ends(Draining(notes=8, tells=True, under_way=1)) == ""


def test_the_time_in_which_nobody_listened_is_no_silence() -> None:
    clock = ManualClock()
    patience = Patience(9000.0, 3.0, clock)
    seen = Draining(notes=7, tells=True)
    patience.ends(seen)
    clock.advance(600.0)  # Ctrl-Z
    assert patience.ends(seen) == ""


def test_one_that_never_tells_has_all_its_time() -> None:
    patience = Patience(900.0, 3.0, ManualClock())
    assert {patience.ends(Draining(notes=1)) for _ in range(100)} == {""}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Draining(notes=1), ""),
        (Draining(notes=1, tells=True), ""),
        (Draining(notes=1, tells=True, under_way=1), "1 request to end"),
    ],
)
def test_words(seen: Draining, told: str) -> None:
    assert words(seen) == told


@pytest.mark.parametrize(
    ("draining", "serving", "leaving", "hurried"),
    [
        ("", 1, 1, ""),
        ("abc", 1, 1, ""),
        ("abcd", 1, 1, "a"),
        ("abcd", 0, 1, "a"),
        ("abcdef", 2, 1, ""),
        ("abcdefgh", 2, 1, "ab"),
        ("abcdefgh", 1, 8, ""),
    ],
)
def test_the_oldest_beyond_three_for_each_that_serves_are_too_many(
    draining: str, serving: int, leaving: int, hurried: str
) -> None:
    assert MOST == 3
    assert surplus(draining, serving=serving, leaving=leaving) == hurried
