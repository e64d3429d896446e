"""What a child says on its status pipe, in whatever pieces it comes."""

import pytest

from moonpool.adapters.spawner.status import Said, note

ALL = note(0) + b"x.db: is newer\n  \xe2\x86\x92 Upgrade." + note(12) + note() + b" Soon."


def said(*pieces: bytes) -> tuple[str, int, bool, int]:
    it = Said()
    for piece in pieces:
        it.feed(piece)
    return it.text, it.notes, it.tells, it.under_way


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_notes_and_text_are_told_apart(size: int) -> None:
    pieces = [ALL[at : at + size] for at in range(0, len(ALL), size)]
    assert said(*pieces) == ("x.db: is newer\n  → Upgrade. Soon.", 3, True, 12)


def test_text_alone_is_an_old_child() -> None:
    assert said(b"refuses\n") == ("refuses\n", 0, False, 0)


def test_a_program_cannot_tell() -> None:
    assert said(note()) == ("", 1, False, 0)


def test_a_note_that_is_not_whole_is_none() -> None:
    assert said(b"\x00" + b"1") == ("", 0, False, 0)
    assert said(b"\x001\x005\n") == ("", 1, True, 5)
