"""How commands answer: results on stdout, everything else on stderr."""

import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from moonpool.cli.printable import printable
from moonpool.cli.program import runnable

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    "ready": "green",
    "degraded": "yellow",
    "starting": "cyan",
    "draining": "cyan",
    "crashed": "red",
    "stopped": "dim",
}
"""Colours of the states of ports.discovery.Instance."""

FILE_WIDTH = 240


def print_json(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def say(text: str) -> None:
    """Something to know while waiting, not a result."""
    print(runnable(printable(text)), file=sys.stderr, flush=True)


def fail(message: str, code: int = 1) -> NoReturn:
    """One clear paragraph on stderr, and the exit code."""
    print(f"moonpool: {runnable(printable(message))}", file=sys.stderr, flush=True)
    raise typer.Exit(code)


def console(*, stderr: bool = False) -> "Console":
    """Plain, and wide enough not to fold, where the output is no terminal."""
    from moonpool.cli.terminal import Terminal

    wide = Terminal(stderr=stderr)
    if not wide.is_terminal:
        wide.width = FILE_WIDTH
    return wide
