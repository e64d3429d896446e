"""`moonpool explain`: the record found, and drawn."""

import io
import json
from typing import Any

import msgspec
import pytest
from rich.console import Console

from moonpool.cli import api as api_module
from moonpool.cli import explain as explain_module
from moonpool.cli.api import FAILED, NOT_ALLOWED, REFUSED, CommandFailed, Place
from moonpool.cli.explain import bar, fetch, heading, waterfall
from moonpool.contracts.requests import AttemptRecord, DecisionRecord, RequestRecord

RECORD = RequestRecord(
    id="req_1",
    trace_id="t",
    at=1_700_000_000.0,
    method="POST",
    route="/v1/chat/completions",
    status=200,
    service="inference",
    release="v1",
    user="user_1",
    tenant="org_1",
    key="key_1",
    peer="10.0.0.1",
    duration_ms=100.0,
    first_byte_ms=60.0,
    bytes_out=10,
    outcome="completed",
    flags=("UC", "ZZ"),
    attempts=(
        AttemptRecord(
            endpoint="unix:/a", release="v1", started_ms=10.0, ended_ms=50.0, status=None, error="reset"
        ),
        AttemptRecord(
            endpoint="unix:/b", release="v1", started_ms=55.0, ended_ms=None, status=200, error=None
        ),
    ),
    decisions=(
        DecisionRecord("authentication", "key", "known", 1.0),
        DecisionRecord("retry", "again", "upstream_reset [bold]", 50.0),
    ),
)


class FakeApi:
    """Answers with the next of `answers`, then with the last of them for ever."""

    def __init__(self, *answers: RequestRecord | CommandFailed) -> None:
        self.answers = list(answers)
        self.paths: list[str] = []

    def get(self, path: str, shape: Any) -> RequestRecord:
        self.paths.append(path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CommandFailed):
            raise answer
        return answer


def failed(exit_code: int) -> CommandFailed:
    return CommandFailed("no", exit_code=exit_code)


def test_the_gateway_is_asked_before_monitoring() -> None:
    fake = FakeApi(RECORD)
    assert fetch(fake, "req/1") is RECORD  # type: ignore[arg-type]
    assert fake.paths == ["/admin/recent/req%2F1"]


def test_a_record_on_its_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_module.time, "sleep", lambda _: None)
    fake = FakeApi(*[failed(REFUSED)] * 3, RECORD)
    assert fetch(fake, "req_1") is RECORD  # type: ignore[arg-type]
    assert fake.paths == ["/admin/recent/req_1", "/admin/requests/req_1"] * 2


def test_an_unknown_request_is_told_with_exit_code_1() -> None:
    with pytest.raises(CommandFailed, match="no record of request 'req_x'") as caught:
        fetch(FakeApi(failed(REFUSED)), "req_x", patience=0.0)  # type: ignore[arg-type]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("exit_code", [NOT_ALLOWED, FAILED])
def test_what_cannot_be_asked_is_told_as_such(exit_code: int) -> None:
    fake = FakeApi(failed(REFUSED), failed(exit_code))
    with pytest.raises(CommandFailed) as caught:
        fetch(fake, "req_1", patience=0.0)  # type: ignore[arg-type]
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("start", "end", "drawn"),
    [
        (0, 100, "██████████"),
        (0, 50, "█████"),
        (50, 100, "     █████"),
        (50, 50, "     │"),
        (99.9, 100, "         █"),
        (100, 100, "         │"),
        (90, 500, "         █"),
        (200, 300, "         █"),
    ],
)
def test_bars(start: float, end: float, drawn: str) -> None:
    assert bar(start, end, 100.0, 10) == drawn


def test_a_request_of_no_length_has_marks() -> None:
    assert bar(0.0, 0.0, 0.0) == "│"


def test_the_waterfall_is_in_order_of_time() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(waterfall(RECORD))
    lines = [line.split()[:3] for line in console.export_text().splitlines()[1:]]
    assert [line[:2] for line in lines] == [["1.0", "ms"], ["10.0", "ms"], ["50.0", "ms"], ["55.0", "ms"]]
    assert [line[2] for line in lines] == ["authentication", "attempt", "retry", "attempt"]


def test_what_a_record_says_is_no_markup() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(waterfall(RECORD))
    assert "upstream_reset [bold]" in console.export_text()


def test_the_heading_says_the_essentials() -> None:
    text = heading(RECORD)
    for part in ("req_1", "200 completed", "100.0 ms", "first byte after 60.0 ms", "inference@v1", "user_1"):
        assert part in text
    assert "UC (upstream reset), ZZ (unknown here)" in text


def test_json_is_the_record(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(api_module, "find", lambda *_: Place("http://x", "k"))
    monkeypatch.setattr(api_module, "Api", lambda _: FakeApi(RECORD))
    explain_module.explain("req_1", as_json=True)
    assert json.loads(capsys.readouterr().out)["attempts"][0]["error"] == "reset"


def test_who_answered() -> None:
    assert "answered by inference@v1, asked" in heading(RECORD)
    nobody = msgspec.structs.replace(RECORD, release="")
    assert "answered by the gateway, for inference, asked" in heading(nobody)
    assert "answered by the gateway, asked" in heading(msgspec.structs.replace(nobody, service=""))


def test_what_to_do_about_a_failed_attempt_is_told_once_not_in_its_narrow_column() -> None:
    failed = msgspec.structs.replace(RECORD.attempts[0], error="it refused the key. Set the variable.")
    table = waterfall(msgspec.structs.replace(RECORD, attempts=(failed,)))
    assert "it refused the key" in [str(cell) for cell in table.columns[2].cells]
