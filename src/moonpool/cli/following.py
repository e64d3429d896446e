"""Reading a background supervisor's reports."""

import os
import select
import time

import msgspec

from moonpool.cli.progress import Progress
from moonpool.wiring.launch import Failed, Listening, Ready, Report, Stopped

_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def follow(pipe: int, progress: Progress, *, until_ready: bool, seconds: float) -> bool | None:
    """Show reports until it is ready (or listens), or has failed. Closes `pipe`.

    True: it is over, well or ill. False: not within `seconds`. None: the supervisor ended unheard.
    """
    deadline = time.monotonic() + seconds
    held = b""
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                return False
            data = os.read(pipe, 65536)
            if not data:
                return None
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                report = _decoder.decode(line)
                progress.report(report)
                if isinstance(report, Ready | Failed | Stopped):
                    return True
                if isinstance(report, Listening) and not until_ready:
                    return True
    finally:
        os.close(pipe)
