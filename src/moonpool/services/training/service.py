"""What the training service does with jobs: accept, queue, cancel.

    create ──► queued ──► cancelled
                  └── a worker, once one is attached, takes it from here

This release has no worker: a job says so in its events rather than pretending to progress.
"""

import secrets
from typing import Literal

import msgspec

from moonpool.contracts.asked import Asked
from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, Conflict
from moonpool.core.ids import new_id
from moonpool.core.principal import Principal
from moonpool.services.training.schema import (
    OPEN,
    Hyperparameters,
    Job,
    JobEvent,
    Method,
    NewJob,
    Status,
    Supervised,
)
from moonpool.services.training.store import Store

NO_WORKER = "No training worker is attached to this platform: the job stays queued until one is."
_MAX_METADATA = (64, 512)
"""Characters of a key and a value, as OpenAI has them."""


class Training:
    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self._clock = clock

    async def create(self, principal: Principal, new: NewJob, asked: Asked | None = None) -> Job:
        """One job for one request, however often it arrives.

        Raises BadRequest. Whether the files exist is the worker's to check, when it reads them.
        """
        _check(new)
        hyperparameters = new.hyperparameters or Hyperparameters()
        method = new.method or Method(supervised=Supervised(hyperparameters=hyperparameters))
        job = Job(
            id=new_id("ftjob", self._clock),
            model=new.model,
            created_at=int(self._clock.time()),
            organization_id=principal.tenant,
            status=Status.QUEUED,
            training_file=new.training_file,
            validation_file=new.validation_file,
            hyperparameters=method.supervised.hyperparameters,
            method=method,
            seed=secrets.randbelow(2**31) if new.seed is None else new.seed,
            suffix=new.suffix,
            metadata=new.metadata,
        )
        accepted = self._event("info", f"Created fine-tuning job: {job.id}")
        return await self.store.add(principal, asked, job, accepted, self._event("warn", NO_WORKER))

    async def cancel(self, principal: Principal, id: str) -> Job:
        """Raises NotFound, and Conflict for a job that has ended otherwise; again is no error."""
        job = await self.store.find(principal.tenant, id)
        if job.status is Status.CANCELLED:
            return job
        now = int(self._clock.time())
        cancelled = msgspec.structs.replace(job, status=Status.CANCELLED, finished_at=now)
        event = self._event("info", "The job was cancelled.")
        if not await self.store.move(principal.tenant, id, among=OPEN, to=cancelled, event=event):
            job = await self.store.find(principal.tenant, id)
            if job.status is not Status.CANCELLED:
                raise Conflict(f"The job has {job.status.value} already.", code="job_not_cancellable")
            return job
        return cancelled

    def _event(self, level: Literal["info", "warn", "error"], message: str) -> JobEvent:
        now = int(self._clock.time())
        return JobEvent(id=new_id("ftevent", self._clock), created_at=now, level=level, message=message)


def _check(new: NewJob) -> None:
    """The rules between fields."""
    if new.method is not None and new.hyperparameters is not None:
        raise BadRequest(
            "Give hyperparameters in one place.",
            param="hyperparameters",
            hint="Leave 'hyperparameters' out, or 'method'.",
        )
    if new.validation_file == new.training_file:
        raise BadRequest("The validation file is the training file.", param="validation_file")
    for key, value in (new.metadata or {}).items():
        if len(key) > _MAX_METADATA[0] or len(value) > _MAX_METADATA[1]:
            raise BadRequest(
                f"A metadata key has at most {_MAX_METADATA[0]} characters, a value {_MAX_METADATA[1]}.",
                param="metadata",
            )
