"""Keeps one slot (a module's n-th replica) filled: starts its process, watches it, starts the next one.

    starting ──ready──► ready ◄──► degraded        as /readyz says
        │                 │
        └──── it ends ────┴──► crashed ──back-off──► starting
    any ──retire, stop──► draining ──► stopped        for how long: draining.py

A process that says it cannot start (StartupError) is not restarted at once again and again: the first
time it makes the start of the platform fail, later it is tried a few more times at long intervals.
"""

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError
from moonpool.ports.discovery import Instance
from moonpool.ports.spawner import Running, Spawner, Spec
from moonpool.wiring import logfiles
from moonpool.wiring.backoff import Backoff
from moonpool.wiring.draining import LOOK_EVERY, Patience, words
from moonpool.wiring.listening import turn_away
from moonpool.wiring.probe import Answer, ask
from moonpool.wiring.runner import EX_CONFIG, GRACE

FAR_AWAY = 1.0
"""Seconds to the next start for which connections are not left waiting."""
TURN_AWAY_PACE = 0.1
"""Seconds: the time in which callers learn that the process is gone."""
UNREADY_GRACE = 1.0
"""Seconds to end in, for a process that is still starting (and may be loading a model for long)."""


class KeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, all of them."""

    backoff_first: float = 0.05
    backoff_most: float = 10.0
    healthy_after: float = 30.0
    probe_starting: float = 0.03
    probe_degraded: float = 0.5
    probe_steady: float = 5.0
    probe_timeout: float = 5.0
    probe_starting_timeout: float = 0.5
    """While it starts: short, so that what its log says meanwhile is shown."""
    start_timeout: float = 600.0
    """A process that has not once answered /livez by then is replaced. A large model takes minutes to
    load, and the engine answers nobody meanwhile."""
    live_timeout: float = 30.0
    """So is one that answered, and has not for this long; and ended, one that drains without a word."""
    startup_attempts: int = 5
    """How often a process that says it cannot start is tried once the platform has started."""
    settle: float = 0.5
    """From the word that an instance of a release drains until it is told itself: callers follow the
    topology every 0.1 s, and what one of them sends until then is still welcome."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """How to learn how an instance is. Of a program that is not `ours` every answer is a sign of life, and
    2xx at `ready` that it is ready."""

    endpoint: str
    live: str = "/livez"
    ready: str = "/readyz"
    ours: bool = True


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A place for one instance of a release; `number` is the module's, over all its releases.

    `sockets` are the instance's own Unix socket (none where the program listens itself), and then the
    public ones.
    """

    name: str
    release: str
    number: int
    endpoint: str
    probe: Probe
    sockets: tuple[socket.socket, ...]
    log: Path
    drain_timeout: float
    replaced_drain_timeout: float = 0.0
    prices: dict[str, tuple[int, int, int]] = {}
    """As ports.discovery.Instance has them."""


class Keeper:
    """`changed` is called with every new state; `generation` names the next process."""

    def __init__(
        self,
        slot: Slot,
        spawner: Spawner,
        *,
        settings: KeeperSettings,
        clock: Clock,
        backoff: Backoff,
        generation: Callable[[], str],
        changed: Callable[[Instance], None],
    ) -> None:
        self.slot = slot
        self._spawner = spawner
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._generation = generation
        self._changed = changed
        self._running: Running | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._refusals = 0
        self._spawned = 0
        self._mark = 0
        self._ending: asyncio.Task[None] | None = None
        self._fell = ""
        self._log = structlog.get_logger().bind(keeps=slot.name)
        self.failure = ""
        """Why the process cannot start, in its own words; "" once it could."""
        self.was_ready = False
        self.instance = Instance(
            name=slot.name,
            release=slot.release,
            instance=f"{slot.name}-{slot.number}",
            pid=0,
            state="starting",
            endpoint=slot.endpoint,
            own=slot.probe.endpoint if slot.probe.endpoint != slot.endpoint else "",
            since=clock.time(),
            prices=slot.prices,
        )

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"keeper {self.slot.name}")

    async def retire(self, *, settle: float) -> None:
        """Drain, since others serve in its place: they are told first, the process `settle` seconds later.
        What was not ready yet has nothing to drain."""
        await self._end_once(settle)

    async def stop(self) -> None:
        """Drain soon, and end what has not drained in time; also what is being retired."""
        self.hurry()
        await self._end_once(0.0)

    def hurry(self) -> None:
        """From now on it drains as if the platform ended, if it is told to drain at all."""
        self._hurried.set()

    async def _end_once(self, settle: float) -> None:
        if self._ending is None:
            self._stopping.set()
            self._ending = asyncio.create_task(self._end(settle), name=f"end {self.slot.name}")
        await asyncio.shield(self._ending)

    async def _end(self, settle: float) -> None:
        running = self._running
        if running is not None:
            of_use = self.instance.state in ("ready", "degraded")
            self._tell("draining")
            if of_use:
                await self._unhurried(running, settle)
                if not self._hurried.is_set() and running.retire():
                    await self._let_end(running)
            running.terminate()
            try:
                async with asyncio.timeout(self.slot.drain_timeout + GRACE if of_use else UNREADY_GRACE):
                    await running.wait()
            except TimeoutError:
                running.kill()
        if self._task is not None:
            await self._task

    async def _let_end(self, running: Running) -> None:
        """Until what it has has ended, it is hurried, or (killed) it is waited for no more."""
        patience = Patience(
            self.slot.replaced_drain_timeout + GRACE, self._settings.live_timeout, self._clock
        )
        while not await self._unhurried(running, min(LOOK_EVERY, patience.left)):
            seen = running.draining
            self._tell("draining", reason=words(seen))
            if reason := patience.ends(seen):
                self._log.error("instance does not end", instance=self.instance.instance, reason=reason)
                running.kill()
                return

    async def _unhurried(self, running: Running, seconds: float) -> bool:
        """Wait so long; true at once when it has ended or is hurried."""
        ends = [asyncio.ensure_future(running.wait()), asyncio.ensure_future(self._hurried.wait())]
        done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in ends:
            each.cancel()
        return bool(done)

    def kill(self) -> None:
        """End now; `stop` still has to be awaited."""
        self._stopping.set()
        if self._running is not None:
            self._running.kill()

    # ── the life of the slot ───────────────────────────────────────────────────────────────────────

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            self._mark = logfiles.size(self.slot.log)
            delay: float | None
            try:
                code = await self._run_once()
            except MoonpoolError as error:
                reason, delay = error.message, self._backoff.delay()
            else:
                reason, delay = self._verdict(code)
            if self._stopping.is_set():
                break
            self._fell = f"before: {reason}"
            self._tell("crashed", reason=reason, pid=0)
            self._log.warning("instance ended", instance=self.instance.instance, reason=reason, wait=delay)
            await self._wait(delay)
        self._tell("stopped", pid=0)

    async def _run_once(self) -> int:
        instance = f"{self.slot.name}-{self.slot.number}-{self._generation()}"
        spec = Spec(
            name=self.slot.name,
            release=self.slot.release,
            instance=instance,
            number=self.slot.number,
            endpoint=self.slot.endpoint,
            drain_timeout=self.slot.drain_timeout,
            replaced_drain_timeout=self.slot.replaced_drain_timeout,
        )
        running = await self._spawner.spawn(spec, self.slot.sockets)
        self._running = running
        if self._stopping.is_set():  # while it was being spawned
            running.terminate()
        self._tell("starting", reason=self._fell, pid=running.pid, instance=instance, restarts=self._spawned)
        self._spawned += 1
        watch = asyncio.create_task(self._watch(running), name=f"watch {instance}")
        try:
            return await running.wait()
        finally:
            self.failure = running.failure
            self._running = None
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def _verdict(self, code: int) -> tuple[str, float | None]:
        """Why it ended, and how long to wait; None: until someone mends it and starts anew."""
        if code == EX_CONFIG:
            self._refusals += 1
            tries = self._settings.startup_attempts
            if not self.was_ready or self._refusals >= tries:
                return self.failure or "cannot start", None
            self._backoff.delay()
            return self.failure or "cannot start", self._settings.backoff_most
        self._refusals = 0
        words = logfiles.last_words(self.slot.log, self._mark)
        how = _exit_words(code)
        return f"{how}: {words}" if words and code > 0 else how, self._backoff.delay()

    async def _wait(self, delay: float | None) -> None:
        """Until the next start. As long as that is far away nobody is let wait for it in the socket."""
        now = asyncio.get_running_loop().time
        until = math.inf if delay is None else now() + delay
        left = until - now()
        while True:
            if left > FAR_AWAY:
                turned = turn_away(self.slot.sockets)
                if turned:
                    self._log.warning("connections turned away", count=turned)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if left <= FAR_AWAY else TURN_AWAY_PACE):
                    await self._stopping.wait()
            left = until - now()
            if self._stopping.is_set() or left <= 0.0:
                return

    def _tell(self, state: str, *, reason: str = "", **changes: str | int) -> None:
        before = self.instance
        if (before.state, before.reason) == (state, reason) and not changes:
            return
        fields: dict[str, object] = {**changes, "state": state, "reason": reason}
        if state != before.state:
            fields["since"] = self._clock.time()
        self.instance = msgspec.structs.replace(before, **fields)
        self._changed(self.instance)

    # ── health ─────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self, running: Running) -> None:
        """Until it ends (cancelled), is told to, or has been silent for too long (killed). What drains has
        closed its sockets and need not answer: the end of its time is the keeper's matter (`_end`).

        Silence is summed up probe by probe: when this process itself was held up (Ctrl-Z), the time on
        the clock says nothing about the other one.
        """
        settings = self._settings
        probe = self.slot.probe
        silent, patience, pace = 0.0, settings.start_timeout, 0.0
        while True:
            await asyncio.sleep(pace)
            starting = self.instance.state == "starting"
            timeout = settings.probe_starting_timeout if starting else settings.probe_timeout
            asked = self._clock.monotonic()
            answer = await ask(probe.endpoint, probe.live, timeout=timeout)
            if self._stopping.is_set():
                return
            if answer is not None and (answer.ok or not probe.ours):
                silent, patience = 0.0, settings.live_timeout
                if probe.live != probe.ready:
                    answer = await ask(probe.endpoint, probe.ready, timeout=settings.probe_timeout)
                self._judge(answer)
            else:
                silent += pace + min(timeout, self._clock.monotonic() - asked)
                if silent > patience:
                    self._log.error("instance is silent", instance=self.instance.instance, seconds=silent)
                    running.kill()
                    return
                if starting:
                    self._unready(logfiles.last_words(self.slot.log, self._mark) or self._fell)
            paces = {"ready": settings.probe_steady, "degraded": settings.probe_degraded}
            pace = paces.get(self.instance.state, settings.probe_starting)

    def _judge(self, answer: Answer | None) -> None:
        if self._stopping.is_set():
            return
        if answer is None:
            self._unready("no answer from /readyz")
            return
        health = answer.health()
        reason = "; ".join(f"{name}: {check}" for name, check in health.checks.items() if check != "ok")
        if not answer.ok:
            self._unready(reason or health.status or f"{self.slot.probe.ready} answers {answer.status}")
        elif health.status == "degraded":
            self._backoff.well()
            self.was_ready = True
            self._tell("degraded", reason=reason)
        else:
            self._backoff.well()
            self.was_ready = True
            self._refusals = 0
            self._fell = ""
            self._tell("ready")

    def _unready(self, reason: str) -> None:
        """Not ready yet, or not any more."""
        if self._stopping.is_set():
            return
        if self.instance.state in ("ready", "degraded"):
            self._backoff.unwell()
            self._tell("degraded", reason=reason)
        else:
            self._tell(self.instance.state, reason=reason)


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
