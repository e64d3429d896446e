"""Which platform, with which key, and what becomes of an error."""

import json
from pathlib import Path

import pytest

from moonpool.cli import api
from moonpool.cli.api import Api, CommandFailed, Place, failure, find
from moonpool.ports.discovery import Instance, Topology
from moonpool.wiring.topology import write_topology

PLACE = Place("http://127.0.0.1:8080", "sk-mp-x")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of a platform whose gateway is at port 18080."""
    (tmp_path / "run").mkdir()
    gateway = Instance(
        name="gateway", release="v1", instance="g", pid=1, state="ready", endpoint="http://127.0.0.1:18080"
    )
    write_topology(tmp_path / "run" / "topology.json", Topology(1, (gateway,)))
    (tmp_path / "admin.key").write_text("sk-mp-admin\n")
    return tmp_path


def test_the_data_folder_knows_its_platform_and_its_key(data: Path) -> None:
    assert find(data) == Place("http://127.0.0.1:18080", "sk-mp-admin")


def test_a_given_key_goes_first(data: Path) -> None:
    assert find(data, key="sk-mp-mine\n").key == "sk-mp-mine"


def test_a_given_url_goes_first(data: Path) -> None:
    assert find(data, url="https://example.org/v1/") == Place("https://example.org", "sk-mp-admin")


def test_the_folders_key_is_not_sent_to_somebody_else(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: data.parent)
    data.rename(data.parent / ".moonpool")
    assert find(None).key == "sk-mp-admin"
    assert find(None, url="https://example.org").key == ""


def test_no_platform(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as failed:
        find(tmp_path)
    assert failed.value.exit_code == api.NOT_RUNNING
    assert str(tmp_path) in failed.value.message


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://u:p@x"])
def test_bad_urls(url: str, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as failed:
        find(tmp_path, url=url)
    assert failed.value.exit_code == api.REFUSED


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (400, api.REFUSED),
        (404, api.REFUSED),
        (409, api.REFUSED),
        (401, api.NOT_ALLOWED),
        (403, api.NOT_ALLOWED),
        (429, api.FAILED),
        (500, api.FAILED),
        (503, api.FAILED),
    ],
)
def test_exit_codes(status: int, exit_code: int) -> None:
    assert failure(PLACE, status, b"{}", "").exit_code == exit_code


def test_an_error_object_is_one_line() -> None:
    body = json.dumps({"error": {"message": "No such model.", "type": "t", "param": None, "code": "nope"}})
    error = failure(PLACE, 404, body.encode(), "req_7")
    assert error.message == "No such model. (nope, req_7)"
    assert error.code == "nope"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "text"}', b'{"detail": 1}', b"\xff"])
def test_other_errors_are_told_by_their_status(body: bytes) -> None:
    assert failure(PLACE, 502, body, "").message == "http://127.0.0.1:8080 answered 502 (502)"


def test_without_a_key_the_hint_says_how_to_give_one() -> None:
    assert "--key" in str(failure(Place("http://x", ""), 401, b"", "").hint)
    assert failure(PLACE, 401, b"", "").hint is None


@pytest.mark.parametrize("key", ["a b", "a\r\nx: y", "kéy"])
def test_a_key_cannot_smuggle_headers(key: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        Api(Place("http://127.0.0.1:1", key)).get("/x", dict)
    assert failed.value.exit_code == api.NOT_ALLOWED


def test_main_ends_with_the_errors_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from moonpool.cli import main

    monkeypatch.setattr("sys.argv", ["moonpool", "models", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == api.NOT_RUNNING
    shown = capsys.readouterr().err
    assert shown.startswith("moonpool: no platform runs on")
    assert "`moonpool up`" in shown
