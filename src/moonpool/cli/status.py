"""`moonpool status`: how every module is."""

import time
from typing import TYPE_CHECKING

import typer

from moonpool.cli.options import DataOption, JsonOption
from moonpool.cli.output import STYLES, console, print_json, say

if TYPE_CHECKING:
    from moonpool.ports.discovery import Instance
    from moonpool.wiring.operator import Note

NOT_READY = 1
NOT_RUNNING = 3
"""As the Linux Standard Base has it for `status` actions."""


def status(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the modules: state, process, endpoint, restarts.

    Exit code 0: all are ready, or drain beside one that is. 1: one is not. 3: no platform runs on this data.

    **Examples**

    `moonpool status`

    `moonpool status --json | jq '.modules[] | select(.state != "ready")'`
    """
    from moonpool.wiring.layout import Layout, default_data
    from moonpool.wiring.lock import holder
    from moonpool.wiring.operator import documents_note
    from moonpool.wiring.topology import amiss, read_topology

    layout = Layout(data or default_data())
    pid = holder(layout)
    modules = read_topology(layout.topology).modules if pid is not None else ()
    note = documents_note(layout, modules)
    if as_json:
        print_json({"running": pid is not None, "pid": pid, "modules": modules, "configuration": note})
    elif pid is None:
        say(f"No platform runs on {layout.root}.\n  → Start it with `moonpool up`.")
    else:
        _show(modules)
        _show_note(note)
    if pid is None:
        raise typer.Exit(NOT_RUNNING)
    if not modules or amiss(modules):
        raise typer.Exit(NOT_READY)


def _show(modules: "tuple[Instance, ...]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("module", "release", "state", "since", "restarts", "pid", "endpoint"):
        table.add_column(heading, overflow="fold")
    now = time.time()
    # Releases of a module stand together, in the order in which modules were started.
    first = list(dict.fromkeys(one.name for one in modules))
    modules = tuple(sorted(modules, key=lambda one: first.index(one.name)))
    for one in modules:
        table.add_row(
            one.name,
            one.release,
            Text(one.state, STYLES.get(one.state, "")),
            _age(now - one.since),
            str(one.restarts),
            str(one.pid or "-"),
            one.endpoint,
        )
    out = console()
    out.print(table)
    for one in modules:
        if one.reason:
            out.print(Text(f"{one.name}@{one.release}: {one.reason}", STYLES.get(one.state, "")))


def _show_note(note: "Note") -> None:
    if note.version:
        say(f"Configuration: version {note.version}.")
    if note.pending:
        say(f"Changed, and waiting for the next start: {', '.join(note.pending)}")
    if note.behind:
        say(f"Without the newest configuration: {', '.join(note.behind)} (their logs say why)")
    if note.away:
        say(f"Going on without the config server: {', '.join(note.away)}")


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
