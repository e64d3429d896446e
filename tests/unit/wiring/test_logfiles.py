import json
from pathlib import Path

import pytest

from moonpool.wiring.logfiles import last_words, rotate, size


@pytest.fixture
def log(tmp_path):
    return tmp_path / "chat.log"


def test_small_and_missing_files_stay(log):
    assert rotate(log, max_bytes=10) is False
    log.write_text("0123456789")
    assert rotate(log, max_bytes=10) is False
    assert log.read_text() == "0123456789"


def test_a_grown_file_is_moved_on_and_the_oldest_dropped(log):
    with log.open("ab") as writer:
        for number in range(5):
            writer.write(b"%d" % number * 20)
            writer.flush()
            assert rotate(log, max_bytes=10, keep=3) is True
            assert size(log) == 0
    kept = {path.name: path.read_text()[0] for path in log.parent.iterdir() if path != log}
    assert kept == {"chat.log.1": "4", "chat.log.2": "3", "chat.log.3": "2"}


def test_no_room_for_a_copy_loses_nothing(log, monkeypatch):
    log.write_text("x" * 20)
    monkeypatch.setattr("shutil.copyfileobj", _no_room)
    with pytest.raises(OSError, match="No space"):
        rotate(log, max_bytes=10)
    assert [path.name for path in log.parent.iterdir()] == ["chat.log"]
    assert log.read_text() == "x" * 20


def _no_room(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("Traceback\n  File x\nValueError: no\n\n", "ValueError: no"),
        (
            json.dumps({"event": "fell", "error": "ValueError: no", "exception": "…"}) + "\n",
            "fell: ValueError: no",
        ),
        (json.dumps({"event": "ended"}) + "\n", "ended"),
        ("y" * 1000, "y" * 300),
    ],
)
def test_last_words(log, text, words):
    log.write_text("an earlier process\n" + text)
    assert last_words(log, len("an earlier process\n")) == words


def test_last_words_of_a_file_rotated_meanwhile(log):
    log.write_text("new\n")
    assert last_words(log, 10_000) == "new"
    assert last_words(Path("/nowhere/chat.log"), 0) == ""
