import pytest

from harness.letters import make_letter
from moonpool.middleware.letter_schedule import LONGEST_PAUSE, Schedule
from moonpool.ports.dead_letters import Note


def notes(*services: str) -> list[Note]:
    return [make_letter(f"dl_{n}", service=service).note for n, service in enumerate(services)]


def chosen(schedule: Schedule, due: list[Note], working: list[Note] | None = None, now: float = 0.0) -> str:
    return "".join(note.id[-1] for note in schedule.choose(due, working or [], now))


def test_as_many_as_are_free_in_order() -> None:
    due = notes("a", "a", "b", "a", "b", "c")
    assert chosen(Schedule(4), due) == "0123"
    assert chosen(Schedule(4), due, due[:3]) == "3"
    assert chosen(Schedule(2), due, due[:2]) == ""


def test_a_service_that_is_away_is_left_alone_and_hastened_on_return() -> None:
    schedule = Schedule()
    due = notes("a", "b")
    assert schedule.returned(["a"]) == []
    assert chosen(schedule, due) == "1"
    assert schedule.held(0.0) == {"a"}
    assert schedule.returned(["b"]) == ["a"]
    assert schedule.returned([]) == ["b"]
    assert chosen(schedule, due) == "01"


def test_after_a_failure_one_at_a_time_with_pauses_that_double() -> None:
    schedule = Schedule()
    due = notes("a", "a", "a", "b")
    schedule.failed("a", 0.0)
    assert chosen(schedule, due, now=0.9) == "3"
    assert chosen(schedule, due, now=1.0) == "03"
    assert chosen(schedule, due[1:], due[:1], now=1.0) == "3"
    schedule.failed("a", 1.0)
    assert schedule.held(2.9) == {"a"}
    assert schedule.held(3.0) == set()
    schedule.succeeded("a")
    assert chosen(schedule, due, now=1.0) == "0123"


def test_a_service_that_comes_back_starts_anew() -> None:
    schedule = Schedule()
    schedule.failed("a", 0.0)
    schedule.returned(["a"])
    schedule.returned([])
    assert schedule.held(0.1) == set()


@pytest.mark.parametrize("failures", [7, 30, 5000])
def test_pauses_are_bounded(failures: int) -> None:
    schedule = Schedule()
    for _ in range(failures):
        schedule.failed("a", 0.0)
    assert schedule.held(LONGEST_PAUSE - 0.1) == {"a"}
    assert schedule.held(LONGEST_PAUSE) == set()
