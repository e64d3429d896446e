"""`moonpool down`: drain and stop the platform."""

import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption
from moonpool.cli.output import fail, print_json, say

if TYPE_CHECKING:
    from moonpool.wiring.layout import Layout

LOOK_EVERY = 0.05


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
    pid = _signal_holder(layout, now)
    if pid is None:
        _answer(as_json, f"Nothing to stop: no platform runs on {layout.root}.", stopped=False)
        return
    if not as_json:
        say(f"Stopping (pid {pid}) …" if now else f"Draining (pid {pid}) …")
    if not _wait_for_end(layout, started + timeout):
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


def _signal_holder(layout: "Layout", now: bool) -> int | None:
    """Tell the lock's holder to end; its pid, or None when nobody holds the lock.

    The holder is looked up again after its pidfd is open: a pid that was reused meanwhile is not hit.
    """
    from moonpool.wiring.lock import holder

    while True:
        pid = holder(layout)
        if pid is None:
            return None
        if pid == 0:  # it has just taken the lock and writes its pid
            time.sleep(LOOK_EVERY)
            continue
        try:
            _send(layout, pid, now)
        except ProcessLookupError:
            continue
        except PermissionError:
            fail(f"the platform belongs to another user (pid {pid})\n  → Stop it as that user, or with sudo.")
        return pid


def _send(layout: "Layout", pid: int, now: bool) -> None:
    from moonpool.wiring.lock import holder

    numbers = (signal.SIGTERM, signal.SIGINT) if now else (signal.SIGTERM,)
    if not hasattr(os, "pidfd_open"):
        for number in numbers:
            os.kill(pid, number)
        return
    pidfd = os.pidfd_open(pid)
    try:
        if holder(layout) != pid:
            raise ProcessLookupError(pid)
        for number in numbers:
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _wait_for_end(layout: "Layout", deadline: float) -> bool:
    from moonpool.wiring.lock import holder

    while holder(layout) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True
