"""Watches an endpoint that somebody else runs, in the place where a keeper (keeper.py) has a process.

    starting ──passes──► ready ◄──passes── crashed        "crashed": it is not reached, or refuses
                           └────fails────────►│
    any ──retire, stop──► draining ──► stopped

There is nothing to start, and nothing to end: draining waits until nobody is sent there any more.
"""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from moonpool.contracts.releases import EndpointSource
from moonpool.core.clock import Clock
from moonpool.ports.discovery import Instance
from moonpool.wiring.keeper import Slot
from moonpool.wiring.probe import Answer, ask

TARGET = "/models"
"""What every OpenAI-compatible endpoint answers, at no cost."""


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. An interval is drawn from ± `jitter` of it, so that platforms do not ask in step."""

    interval: float = 5.0
    starting: float = 0.2
    jitter: float = 0.2
    timeout: float = 5.0
    fails: int = 3
    passes: int = 2


class Verdict:
    """Counts answers in a row. Pure."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._passed = 0
        self._failed = 0

    def hear(self, fault: str) -> bool | None:
        """Whether it is well from now on; None: no change. `fault` is "" for a good answer."""
        if fault:
            self._passed, self._failed = 0, self._failed + 1
            return False if self._failed == self._settings.fails else None
        self._passed, self._failed = self._passed + 1, 0
        return True if self._passed == self._settings.passes else None


def fault_of(answer: Answer | None) -> str:
    """What an answer says against the endpoint; "" when it may well serve. That it knows no list of models
    (404) says nothing about its completions, nor that it is busy (429)."""
    if answer is None:
        return "no answer"
    if answer.status in (401, 403):
        return f"answers {answer.status}: the key is refused, or there is none"
    return f"answers {answer.status}" if answer.status >= 500 else ""


class Watch:
    """`random` gives numbers in [0, 1)."""

    was_ready = False
    failure = ""

    def __init__(
        self,
        slot: Slot,
        source: EndpointSource,
        *,
        key: str,
        settings: WatchSettings,
        clock: Clock,
        random: Callable[[], float],
        generation: Callable[[], str],
        changed: Callable[[Instance], None],
    ) -> None:
        self.slot = slot
        self._source = source
        self._key = key
        self._settings = settings
        self._clock = clock
        self._random = random
        self._changed = changed
        self._stopping = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self.instance = Instance(
            name=slot.name,
            release=slot.release,
            instance=f"{slot.name}-{slot.number}-{generation()}",
            pid=0,
            state="starting",
            endpoint=slot.endpoint,
            since=clock.time(),
            external=True,
            model=source.model,
            api_key_env=source.api_key_env,
            prices=slot.prices,
        )

    def start(self) -> None:
        self._changed(self.instance)
        self._task = asyncio.create_task(self._watch(), name=f"watch {self.slot.name}")

    async def retire(self, *, settle: float) -> None:
        await self._end_once(settle)

    async def stop(self) -> None:
        self.hurry()
        await self._end_once(0.0)

    def hurry(self) -> None:
        self._hurry.set()

    async def _end_once(self, settle: float) -> None:
        if self._ending is None:
            self._stopping.set()
            self._ending = asyncio.create_task(self._end(settle))
        await asyncio.shield(self._ending)

    def kill(self) -> None:
        self._stopping.set()
        self.hurry()

    async def _end(self, settle: float) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._tell("draining")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settle):
                await self._hurry.wait()
        self._tell("stopped")

    async def _watch(self) -> None:
        settings, verdict = self._settings, Verdict(self._settings)
        while True:
            fault = fault_of(await ask(self._source.url, TARGET, timeout=settings.timeout, key=self._key))
            match verdict.hear(fault):
                case True:
                    self.was_ready = True
                    self._tell("ready")
                case False:
                    self._tell("crashed", fault)
            pace = settings.starting if self.instance.state == "starting" else settings.interval
            await asyncio.sleep(pace * (1 + settings.jitter * (2 * self._random() - 1)))

    def _tell(self, state: str, reason: str = "") -> None:
        if (self.instance.state, self.instance.reason) == (state, reason):
            return
        since = self._clock.time()
        self.instance = msgspec.structs.replace(self.instance, state=state, reason=reason, since=since)
        self._changed(self.instance)
