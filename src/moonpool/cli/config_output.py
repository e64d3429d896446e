"""How `moonpool config` shows versions and changes."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from moonpool.cli.output import console, print_json, say

if TYPE_CHECKING:
    from rich.console import Console

    from moonpool.configserver.views import Outcome
    from moonpool.contracts.documents.diff import Change

MOST_OF_A_LIST = 12
"""Changes in one list that are told one by one: a release's manifest has a hundred. `--json` tells all."""


def tell(outcome: "Outcome", as_json: bool) -> None:
    if as_json:
        print_json(outcome)
        return
    if not outcome.changed:
        say(f"{outcome.name} is so already, in version {outcome.version}.")
        return
    say(f"{outcome.name} is now version {outcome.version}.")
    show_changes(outcome.changes)
    show_waiting(outcome)


def show_changes(changes: "list[Change]") -> None:
    from rich.text import Text

    out = console()
    for kind, path, several in _runs(changes):
        if len(several) > MOST_OF_A_LIST:
            mark, colour = {"added": ("+", "green"), "removed": ("-", "red")}.get(kind, ("~", "yellow"))
            out.print(Text(f"{mark} {path}[…]: {len(several)} settings", colour))
            continue
        _show_each(several, out)


def _runs(changes: "list[Change]") -> "Iterator[tuple[str, str, list[Change]]]":
    """Neighbours of one kind inside of one list: (kind, the list's path, changes)."""
    for (kind, path), run in groupby(changes, key=lambda one: (one.kind, one.path.partition("[")[0])):
        yield kind, path, list(run)


def _show_each(changes: "list[Change]", out: "Console") -> None:
    from rich.text import Text

    for change in changes:
        if change.kind == "added":
            out.print(Text(f"+ {change.path}: {_brief(change.new)}", "green"))
        elif change.kind == "removed":
            out.print(Text(f"- {change.path}: {_brief(change.old)}", "red"))
        else:
            out.print(Text(f"~ {change.path}: {_brief(change.old)} → {_brief(change.new)}", "yellow"))


def show_waiting(outcome: "Outcome") -> None:
    if outcome.restart:
        say(f"Wait for the next start (`moonpool down`, `moonpool up`): {', '.join(outcome.restart)}")
    if outcome.lost:
        say(f"Clients can use no more: {', '.join(outcome.lost)}")
    if outcome.shadowed:
        say(f"The environment (MOONPOOL_…) sets otherwise: {', '.join(outcome.shadowed)}")


def _brief(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)
