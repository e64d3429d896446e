import pytest

from moonpool.wiring.probe import Answer
from moonpool.wiring.watch import Verdict, WatchSettings, fault_of


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        ("++", [None, True]),
        ("+-++", [None, None, None, True]),
        ("---", [None, None, False]),
        ("-----", [None, None, False, None, None]),
        ("++--+---", [None, True, None, None, None, None, None, False]),
        ("+++++", [None, True, None, None, None]),
    ],
)
def test_three_failures_and_two_passes_in_a_row(heard, told):
    verdict = Verdict(WatchSettings())
    assert [verdict.hear("" if one == "+" else "no answer") for one in heard] == told


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (None, "no answer"),
        (Answer(200, b"{}"), ""),
        (Answer(404, b""), ""),
        (Answer(429, b""), ""),
        (Answer(401, b""), "answers 401: the key is refused, or there is none"),
        (Answer(503, b""), "answers 503"),
    ],
)
def test_what_speaks_against_an_endpoint(answer, fault):
    assert fault_of(answer) == fault
