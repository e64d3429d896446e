"""Which turns are sent to the model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.services.chat.history import Turn, compose, estimate
from moonpool.services.chat.schema import Message, Status
from moonpool.services.chat.store import make_title


def message(role: str, content: str) -> Message:
    return Message(
        id="msg_1",
        conversation="conv_1",
        parent=None,
        role=role,  # type: ignore[arg-type]
        content=content,
        status=Status.COMPLETED,
        created_at=0.0,
        updated_at=0.0,
    )


def exchange(*texts: str) -> list[Message]:
    return [message("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(texts)]


def test_the_oldest_turns_go_first_and_whole() -> None:
    budget = estimate("sys") + estimate("q2") + estimate("a2") + estimate("q3")
    turns = compose("sys", exchange("q1", "a1", "q2", "a2"), "q3", budget=budget)
    assert [turn.content for turn in turns] == ["sys", "q2", "a2", "q3"]
    fewer = compose("sys", exchange("q1", "a1", "q2", "a2"), "q3", budget=budget - 1)
    assert [turn.content for turn in fewer] == ["sys", "q3"]


def test_system_prompt_and_question_are_always_sent() -> None:
    assert compose("s" * 99, exchange("q", "a"), "x" * 999, budget=1) == [
        Turn("system", "s" * 99),
        Turn("user", "x" * 999),
    ]


def test_unanswered_questions_are_left_out() -> None:
    history = [*exchange("lost", "", "q", "a"), message("user", "lost too")]
    assert [turn.content for turn in compose(None, history, "x", budget=9999)] == ["q", "a", "x"]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=8), st.text(min_size=1), st.integers(-10, 400))
def test_turns_alternate_and_fit(pairs: list[tuple[str, str]], content: str, budget: int) -> None:
    history = exchange(*[text for pair in pairs for text in pair])
    turns = compose(None, history, content, budget=budget)
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]
    if len(turns) > 1:
        assert sum(estimate(turn.content) for turn in turns) <= budget


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Hello", "Hello"),
        ("  two\n lines ", "two lines"),
        ("word " * 30, "word word word word word word word word word word word word…"),
        ("x" * 80, "x" * 60 + "…"),
    ],
)
def test_titles(content: str, title: str) -> None:
    assert make_title(content) == title
