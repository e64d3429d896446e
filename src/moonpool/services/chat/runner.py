"""Runs answers as tasks of the service, and sees to it that each ends stored.

    start ──► ask inference ──► relay events to the run's log ──► settle in the database ──► last event
                    └── refused, broke off, too long, told to stop ──┘

`keep` is the background job: it writes what has arrived every BEAT and looks after the answers of dead
instances. The last event (`[DONE]`, or an error) is sent after the answer was stored: a client that
saw [DONE] will find the answer.
"""

import asyncio
from contextlib import aclosing

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.inference import InferenceClient
from moonpool.core.clock import Clock
from moonpool.core.errors import (
    DeadlineExceeded,
    InternalError,
    MoonpoolError,
    Overloaded,
    StreamTruncated,
    Unavailable,
)
from moonpool.core.principal import Principal
from moonpool.services.chat.answer import DONE
from moonpool.services.chat.endings import Failure, Refused, failure_of, last_event
from moonpool.services.chat.events import check_answer, read_events
from moonpool.services.chat.leases import LEASE, Ending, Leases, Partial
from moonpool.services.chat.manifest import ANSWER_SECONDS
from moonpool.services.chat.metrics import ChatMetrics
from moonpool.services.chat.run import Run
from moonpool.services.chat.schema import Status

BEAT = 0.5
"""Seconds between writes of what has arrived: what `kill -9` can lose of an answer."""
RENEW = LEASE / 4
MAX_RUNNING = 512
"""Answers that one instance runs at a time."""
_SETTLE_DELAYS = (0.2, 1.0, 3.0)
"""Seconds between tries to store an answer that is complete: losing it would waste what it cost."""


class Runner:
    def __init__(
        self,
        leases: Leases,
        inference: InferenceClient,
        clock: Clock,
        log: FilteringBoundLogger,
        metrics: ChatMetrics,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._leases = leases
        self._inference = inference
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._answer_seconds = answer_seconds
        self._runs: dict[str, Run] = {}
        self._written: dict[str, tuple[int, float]] = {}

    def get(self, id: str) -> Run | None:
        return self._runs.get(id)

    def of_conversation(self, conversation: str) -> list[Run]:
        return [run for run in self._runs.values() if run.conversation == conversation]

    def check_capacity(self) -> None:
        """Raises Overloaded when one more answer would be too many."""
        if len(self._runs) >= MAX_RUNNING:
            raise Overloaded("Too many answers are running.", retry_after=2.0)

    def start(self, run: Run, principal: Principal, body: bytes) -> None:
        """The row of the answer exists already, leased to this instance."""
        self._runs[run.id] = run
        self._written[run.id] = (0, self._clock.monotonic())
        self._metrics.running.inc()
        run.task = asyncio.create_task(self._work(run, principal, body), name=f"answer {run.id}")

    async def _work(self, run: Run, principal: Principal, body: bytes) -> None:
        failure = None
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._relay(run, principal, body)
        except asyncio.CancelledError:
            run.stopping = run.stopping or Status.INTERRUPTED
        except TimeoutError:
            failure = failure_of(DeadlineExceeded(f"no end after {self._answer_seconds:g} seconds"))
        except Refused as refusal:
            failure = refusal.failure
        except MoonpoolError as error:
            failure = failure_of(error)
        except Exception as error:  # noqa: BLE001 - a task boundary: the answer must still be settled
            self._log.error("answer crashed", message=run.id, exc_info=error)
            failure = failure_of(InternalError("the chat service failed unexpectedly"))
        await self._end(run, failure)

    async def _relay(self, run: Run, principal: Principal, body: bytes) -> None:
        response = await self._inference.chat(principal, body, request_id=run.metered_as)
        await check_answer(response)
        run.streaming = True
        run.opened.set()
        done = False
        async with aclosing(read_events(response.body)) as events:
            async for data in events:
                done = done or data == DONE
                if done:
                    continue  # to the body's end: leaving before it would look like a client that left
                run.answer.add(data)
                if run.answer.error is not None:
                    raise Refused(Failure(502, run.answer.error))
                run.emit(data)
        if not done:
            raise StreamTruncated("The model's answer broke off.")

    async def _end(self, run: Run, failure: Failure | None) -> None:
        run.settling = True
        run.failure = failure
        status = run.stopping or (Status.FAILED if failure else Status.COMPLETED)
        ending = Ending(
            status=status,
            finish_reason=run.answer.finish_reason,
            error=failure.error if failure else None,
            usage=run.answer.usage,
        )
        last = last_event(status, ending.error)
        try:
            await self._settle(run.partial(), ending)
        except MoonpoolError as error:
            self._log.error("an answer could not be stored", message=run.id, error=error.message)
            run.failure = failure_of(Unavailable("The answer could not be stored.", retry_after=5.0))
            last = last_event(Status.FAILED, run.failure.error)
        finally:
            del self._runs[run.id], self._written[run.id]
            self._metrics.running.dec()
            self._metrics.answers.labels(status.value).inc()
            run.close(last)
        if status is Status.FAILED:
            self._log.warning("answer failed", message=run.id, error=msgspec.to_builtins(ending.error))

    async def _settle(self, partial: Partial, ending: Ending) -> None:
        for delay in _SETTLE_DELAYS:
            try:
                return await self._leases.settle(partial, ending)
            except Unavailable as error:
                self._log.warning("storing an answer again", message=partial.id, error=error.message)
                await asyncio.sleep(delay)
        return await self._leases.settle(partial, ending)

    async def keep(self) -> None:
        """For ever: beat, and sweep up after dead instances."""
        swept = float("-inf")
        while True:
            try:
                if self._clock.monotonic() - swept >= LEASE / 2:
                    await self.sweep()
                    swept = self._clock.monotonic()
                await self.beat()
            except Unavailable as error:
                self._log.warning("running answers could not be written", error=error.message)
            await asyncio.sleep(BEAT)

    async def sweep(self) -> None:
        self._tell(await self._leases.sweep())

    async def inherit(self, slot: str) -> None:
        """At the start: look after what our predecessors in the slot left."""
        self._tell(await self._leases.inherit(slot))

    def _tell(self, interrupted: int) -> None:
        if interrupted:
            self._log.warning("answers of a dead instance were interrupted", count=interrupted)

    async def beat(self) -> None:
        """Write the answers that have grown, and those whose lease is to be renewed."""
        now = self._clock.monotonic()
        partials = []
        for run in self._runs.values():
            size, at = self._written[run.id]
            if not run.settling and (run.answer.size != size or now - at >= RENEW):
                partials.append(run.partial())
                self._written[run.id] = (run.answer.size, now)
        if not partials:
            return
        for id, status in (await self._leases.beat(partials)).items():
            stopped = self._runs.get(id)
            if stopped is not None:
                stopped.stop(status)

    async def drain(self, seconds: float) -> None:
        """Let the running answers end, then interrupt those that have not."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for run in list(self._runs.values()):
            run.stop(Status.INTERRUPTED)
        if late:
            await asyncio.wait(late)
