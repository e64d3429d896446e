"""Spans to an OpenTelemetry collector over OTLP/HTTP (protobuf), from a thread of its own.

    request ──submit──► bounded queue ──every quarter second──► SDK's exporter ──POST──► collector

The SDK is imported when the first span goes out: a process without traffic, and a platform without a
collector, pay nothing for it. The SDK's exporter retries for some seconds by itself; when it gives up, spans
are dropped without a look at them until the pause is over. It is logged once that they are, and once that
they are taken again.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from moonpool.ports.telemetry import MakeSpans, Span

if TYPE_CHECKING:
    from moonpool.adapters.telemetry.sdk import Sender

QUEUE = 2048
"""Requests that wait to be exported; the SDK's own default."""
BATCH = 16
"""Spans sent together."""
SWITCH = 0.0005
"""Seconds after which this thread gives way to the event loop, instead of the interpreter's five
milliseconds: encoding a batch takes two, and requests would wait that long."""
INTERVAL = 0.25
"""Seconds between two rounds, in which requests gather."""
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds without a try after so many failures in a row."""
STOP = 2.0
"""Seconds that what is queued has when the process ends."""


class OtlpSpans:
    """Implements ports.telemetry.SpanExporter. `url` is the collector's base or its whole traces URL; ""
    leaves it to the standard environment variables, which also give headers, certificates and time-out."""

    def __init__(
        self,
        url: str,
        resource: Mapping[str, str],
        log: FilteringBoundLogger,
        *,
        now: Callable[[], float] = time.monotonic,
        queue: int = QUEUE,
    ) -> None:
        self._url = traces_url(url)
        self._resource = dict(resource)
        self._log = log
        self._now = now
        self._limit = queue
        self._queue: SimpleQueue[MakeSpans | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sender: Sender | None = None
        self._stopping = threading.Event()
        self._failures = 0
        self._pause_until = 0.0
        self.exported = 0
        self.dropped = 0

    def submit(self, make: MakeSpans) -> None:
        if self._queue.qsize() >= self._limit or self._stopping.is_set():
            self.dropped += 1
            return
        if self._failures and self._now() < self._pause_until:
            self.dropped += 1
            return
        self._queue.put(make)
        if self._thread is None:
            # A daemon: a collector that does not answer must not hold up the end of the process.
            self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
            self._thread.start()

    async def start(self) -> None:
        """The thread begins with the first span."""

    async def stop(self) -> None:
        """Send what is queued, within STOP seconds."""
        self._stopping.set()
        thread = self._thread
        if thread is None:
            return
        self._queue.put(None)
        await asyncio.to_thread(thread.join, STOP)
        if self._sender is not None:
            self._sender.stop()

    # ── in the thread ──────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        sys.setswitchinterval(min(SWITCH, sys.getswitchinterval()))
        try:
            from moonpool.adapters.telemetry.sdk import Sender

            self._sender = Sender(self._url, self._resource)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: tracing is no reason to fail
            self._log.error("spans cannot be exported", url=self._url or "(environment)", reason=str(error))
            self._pause_until, self._failures = float("inf"), 1
            return
        while True:
            first = self._queue.get()
            if first is None:
                return
            self._stopping.wait(INTERVAL)
            self._round(self._sender, first)

    def _round(self, sender: "Sender", first: MakeSpans) -> None:
        """Send what has gathered, BATCH by BATCH."""
        batch: list[Span] = []
        make: MakeSpans | None = first
        while make is not None:
            try:
                batch += make()
            except Exception as error:  # noqa: BLE001 - one request's spans must not end all tracing
                self.dropped += 1
                self._log.error("spans cannot be made", exc_info=error)
            make = None
            with suppress(Empty):
                make = self._queue.get_nowait()
                if make is None:  # the end: seen again after this round
                    self._queue.put(None)
            if len(batch) >= BATCH or make is None:
                self._send(sender, batch)
                batch = []

    def _send(self, sender: "Sender", batch: Sequence[Span]) -> None:
        if not batch:
            return
        if self._failures and self._now() < self._pause_until:
            self.dropped += len(batch)
            return
        reason = sender.send(batch)
        if reason is None:
            self.exported += len(batch)
            if self._failures:
                self._log.info("spans are exported again", dropped=self.dropped)
            self._failures = 0
            return
        self.dropped += len(batch)
        if not self._failures:
            self._log.warning("spans are dropped: the collector takes none", reason=reason)
        self._pause_until = self._now() + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1


def traces_url(url: str) -> str:
    """The URL to post to: a base gets the path that OTLP/HTTP names (as OTEL_EXPORTER_OTLP_ENDPOINT does)."""
    if not url or url.rstrip("/").endswith("/v1/traces"):
        return url
    return f"{url.rstrip('/')}/v1/traces"


def wanted_by_environment(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables name a collector for this protocol."""
    if not any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    ):
        return False
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    return protocol in {"", "http/protobuf"}


def disabled_by_environment(environment: Mapping[str, str] = os.environ) -> bool:
    """OTEL_SDK_DISABLED turns off all of it, whatever else is set."""
    return environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
