"""What `moonpool up` shows while it starts, and when it has.

On a terminal one live line a module; elsewhere a plain line a change; with --json nothing but the result.
"""

import shlex
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from moonpool.cli.output import STYLES, print_json, say
from moonpool.cli.program import program
from moonpool.contracts.releases import FIRST
from moonpool.ports.discovery import Instance
from moonpool.wiring.launch import Changed, Failed, Listening, Ready, Report, Stopped, Stopping

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

WELL = ("ready", "degraded")


class Progress:
    """`failure` is what made the start fail. `data` is what the user gave, for the next commands shown."""

    def __init__(self, *, data: Path | None, as_json: bool, detached: bool, waits: bool) -> None:
        self._data = data
        self._json = as_json
        self._detached = detached
        self._waits = waits
        self._live: Live | None = None
        self._instances: dict[str, Instance] = {}
        self._shown: dict[str, tuple[str, str]] = {}
        self._started = False
        self.failure = ""

    def __enter__(self) -> Self:
        if not self._json and sys.stderr.isatty():
            from rich.live import Live

            from moonpool.cli.output import console

            # No thread of its own: this process is going to fork, or is a supervisor.
            self._live = Live(console=console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()

    def waiting_for(self) -> str:
        """The modules that are not of use yet, and why."""
        late = [one for one in self._instances.values() if one.state not in WELL]
        return ", ".join(f"{_name(one)} ({one.reason or one.state})" for one in late) or "nothing started yet"

    def report(self, report: Report) -> None:
        match report:
            case Changed(instance):
                self._instances[f"{instance.name} {instance.instance.rsplit('-', 1)[0]}"] = instance
                self._show(instance)
            case Listening():
                self._listening(report)
            case Ready():
                self._ready(report)
            case Failed(message):
                self._end_live()
                self.failure = message
            case Stopping():
                self._end_live()
                self._started = True
                self._say("Draining; press Ctrl-C again not to wait.")
            case Stopped():
                self._end_live()
                self._say("Stopped.")

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _say(self, text: str) -> None:
        if not self._json:
            say(text)

    def _end_live(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _show(self, instance: Instance) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        # Who misses whom changes often while all start; the end of it is what matters.
        reason = "" if instance.state == "degraded" and not self._started else instance.reason
        told = (instance.state, reason)
        news = told != self._shown.get(_name(instance))
        self._shown[_name(instance)] = told
        if not news or (self._started and instance.state not in ("crashed", "degraded")):
            return
        line = f"{_name(instance):<11} {instance.state}"
        self._say(f"{line}: {reason}" if reason else line)

    def _table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for one in self._instances.values():
            mark = "✓" if one.state in WELL else "✗" if one.state == "crashed" else "…"
            style = STYLES.get(one.state, "")
            table.add_row(
                Text(f"{mark} {_name(one)}", style), Text(one.state, style), Text(one.reason, "dim")
            )
        return table

    def _listening(self, report: Listening) -> None:
        if self._detached and self._json and not self._waits:
            print_json({"url": report.url, "pid": report.pid, "ready": False})
        elif self._detached:
            self._say(f"Starting in the background (pid {report.pid}): {report.url}")

    def _ready(self, report: Ready) -> None:
        self._end_live()
        self._started = True
        if self._json:
            print_json({**_public(report), "ready": True})
        else:
            print(_welcome(report, self._data, self._detached), flush=True)


def _name(instance: Instance) -> str:
    return instance.name if instance.release == FIRST else f"{instance.name}@{instance.release}"


def _public(report: Ready) -> dict[str, object]:
    return {name: getattr(report, name) for name in report.__struct_fields__}


def _welcome(report: Ready, data: Path | None, detached: bool) -> str:
    option = f" --data {shlex.quote(str(data))}" if data is not None else ""
    file = shlex.quote(report.admin_key_file)
    stop = f"`{program()} down{option}`" if detached else "Ctrl-C"
    key = report.admin_key or "none yet"
    return (
        f"\nMoonpool is up in {report.seconds:.1f} s: {report.url}\n"
        f"Admin key: {key}  (kept in {report.admin_key_file})\n\n"
        f'Terminal   {program()} chat{option} "What is the capital of France?"\n'
        f'HTTP       curl {report.url}/v1/models -H "Authorization: Bearer $(cat {file})"\n'
        f'Python     OpenAI(base_url="{report.url}/v1", api_key="{key}")\n\n'
        f"Stop it with {stop}; see how it is with `{program()} status{option}`.\n"
    )
