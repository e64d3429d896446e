"""The tree of errors holds what its docstring draws and what the SDKs expect."""

import re

import pytest

from moonpool.core import errors
from moonpool.core.errors import MethodNotAllowed, MoonpoolError, RateLimited, StartupError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, MoonpoolError) and value is not MoonpoolError
]


def make(cls: type[MoonpoolError]) -> MoonpoolError:
    return cls("x", allow=("GET",)) if cls is MethodNotAllowed else cls("x")  # type: ignore[call-arg]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_has_the_status_of_its_branch(cls: type[MoonpoolError]) -> None:
    if issubclass(cls, errors.RequestError):
        assert 400 <= cls.status < 500
    elif cls is not errors.Throttled:  # nobody's failure, but not the client's either
        assert 500 <= cls.status < 600
    assert cls.type


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_docstring_draws_every_error_with_its_status(cls: type[MoonpoolError]) -> None:
    assert errors.__doc__ is not None
    drawn = re.search(rf"\b{cls.__name__}\b(?: +(\d{{3}})\b)?", errors.__doc__)
    assert drawn is not None
    if drawn[1]:
        assert int(drawn[1]) == cls.status


def test_a_code_of_one_s_own_stays_on_that_error() -> None:
    one, other = RateLimited("x", code="insufficient_quota"), RateLimited("y")
    assert (one.code, other.code) == ("insufficient_quota", "rate_limit_exceeded")


def test_what_is_told_to_a_client() -> None:
    error = RateLimited("too many", param="n", hint="wait", retry_after=1.5)
    assert (str(error), error.message, error.param, error.hint, error.retry_after) == (
        "too many",
        "too many",
        "n",
        "wait",
        1.5,
    )


def test_not_allowed_says_what_is() -> None:
    error = MethodNotAllowed("no", allow=("GET", "PUT"))
    assert error.hint == "Use GET or PUT."


@pytest.mark.parametrize(
    ("where", "hint", "text"),
    [
        (None, None, "no"),
        ("f:3", None, "f:3: no"),
        (None, "do that", "no\n  → do that"),
        ("f:3", "do that", "f:3: no\n  → do that"),
    ],
)
def test_a_startup_error_says_where_and_what_to_do(where: str | None, hint: str | None, text: str) -> None:
    assert str(StartupError("no", where=where, hint=hint)) == text
