"""`moonpool down`: drain and stop the platform."""

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption
from moonpool.cli.output import fail, print_json, say

if TYPE_CHECKING:
    from moonpool.wiring.layout import Layout

LOOK_EVERY = 0.05
NAMED_WITHIN = 5.0
"""Seconds in which whoever takes the lock has long written its pid."""


def down(
    data: DataOption = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the drain.")
    ] = 120.0,
    now: Annotated[bool, typer.Option("--now", help="Do not drain: cut what still streams.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop the platform: no new requests, running ones finish, then every process ends.

    Nothing to stop is no error, so that scripts may call it at any time.

    **Examples**

    `moonpool down`

    `moonpool down --data /srv/moonpool --timeout 30`

    `moonpool down --now` when it does not matter what is cut
    """
    from moonpool.wiring.layout import Layout, default_data

    layout = Layout(data or default_data())
    started = time.monotonic()
    target = _signal_holder(layout, now)
    if target is None:
        _answer(as_json, f"Nothing to stop: no platform runs on {layout.root}.", stopped=False)
        return
    pid = target.pid
    if not as_json:
        say(f"Stopping (pid {pid}) …" if now else f"Draining (pid {pid}) …")
    if not _wait_for_end(layout, target, started + timeout):
        fail(
            f"it still drains after {timeout:g} s (pid {pid})\n"
            "  → Wait longer with --timeout SECONDS, or cut what still streams with --now."
        )
    seconds = time.monotonic() - started
    _answer(as_json, f"Stopped in {seconds:.1f} s.", stopped=True, pid=pid, seconds=round(seconds, 2))


def _answer(as_json: bool, text: str, **fields: object) -> None:
    if as_json:
        print_json(fields)
    else:
        say(text)


def _signal_holder(layout: "Layout", now: bool) -> "Target | None":
    """Tell the lock's holder to end; None when nobody holds the lock."""
    from moonpool.wiring.lock import holder

    deadline = time.monotonic() + NAMED_WITHIN
    while True:
        pid = holder(layout)
        if pid is None:
            return None
        if time.monotonic() > deadline:
            fail(f"{layout.lock} does not tell who holds it\n  → Find it: `lsof {layout.lock}`.")
        if pid == 0:  # it has just taken the lock and writes its pid, or is about to end
            time.sleep(LOOK_EVERY)
            continue
        try:
            target = Target(pid)
            # Looked up again now that the target is fixed: a pid that was reused meanwhile is not hit.
            if holder(layout) == pid:
                target.send(signal.SIGTERM)
                if now:
                    target.send(signal.SIGINT)
                return target
        except ProcessLookupError:
            continue
        except PermissionError:
            fail(f"the platform belongs to another user (pid {pid})\n  → Stop it as that user, or with sudo.")


class Target:
    """The supervisor's process, held by a pidfd where the system has them. Raises ProcessLookupError."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def send(self, number: int) -> None:
        if self._pidfd is None:
            os.kill(self.pid, number)
        else:
            signal.pidfd_send_signal(self._pidfd, number)

    def has_ended(self) -> bool:
        """Always true where there are no pidfds: then the lock alone tells."""
        return self._pidfd is None or bool(select.select([self._pidfd], [], [], 0)[0])


def _wait_for_end(layout: "Layout", target: Target, deadline: float) -> bool:
    """Until the lock is free and its holder gone."""
    from moonpool.wiring.lock import holder

    while holder(layout) == target.pid or not target.has_ended():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True
