"""Commands are printed as they can be run."""

import sys

import pytest

from moonpool.cli.output import say
from moonpool.cli.program import program, runnable


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a program in it that is not on PATH; it is where we stand."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "moonpool").write_text("#!/bin/sh\n")
    (folder / "moonpool").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    return folder


def test_of_a_checkout(checkout, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [".venv/bin/moonpool", "up"])
    assert program() == ".venv/bin/moonpool"
    assert (
        runnable("See `moonpool status`; moonpool is up.")
        == "See `.venv/bin/moonpool status`; moonpool is up."
    )
    say("Start it with `moonpool up`.")
    assert capsys.readouterr().err == "Start it with `.venv/bin/moonpool up`.\n"


def test_on_the_path(checkout, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(checkout / "moonpool")])
    assert program() == str(checkout / "moonpool")
    monkeypatch.setenv("PATH", str(checkout))
    assert program() == "moonpool"


def test_another_one_is_on_the_path(checkout, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "moonpool").write_text("#!/bin/sh\n")
    (other / "moonpool").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    monkeypatch.setattr(sys, "argv", [".venv/bin/moonpool"])
    assert program() == ".venv/bin/moonpool"


def test_a_path_with_a_blank_is_quoted(checkout, monkeypatch):
    place = checkout / "with blank"
    place.mkdir()
    (checkout / "moonpool").rename(place / "moonpool")
    monkeypatch.setattr(sys, "argv", [str(place / "moonpool")])
    assert program() == f"'{place / 'moonpool'}'"


@pytest.mark.parametrize("called", ["/usr/lib/python3/moonpool/cli/main.py", "-c", "pytest"])
def test_called_in_another_way(checkout, monkeypatch, called):
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == "moonpool"
