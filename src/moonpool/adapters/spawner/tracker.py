"""The standard library's resource tracker, which we do without.

It is a process (6 MB) that unlinks semaphores and shared memory whose owners have died, and the fork server
starts one whether there are any or not. We have none. A child that wants some (a training's library) has
a tracker of its own.
"""

import os
from multiprocessing import resource_tracker


def start_none() -> None:
    """In the supervisor, before the fork server: the tracker seems to run already, and hears nothing."""
    tracker = resource_tracker._resource_tracker
    if tracker._fd is None:  # type: ignore[attr-defined]
        tracker._fd = os.open(os.devnull, os.O_WRONLY)  # type: ignore[attr-defined]


def forget_none() -> None:
    """In a child: the first who wants the tracker starts it."""
    tracker = resource_tracker._resource_tracker
    fd, tracker._fd = tracker._fd, None  # type: ignore[attr-defined]
    if fd is not None:
        os.close(fd)
