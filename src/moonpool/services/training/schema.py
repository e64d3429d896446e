"""Fine-tuning jobs as the OpenAI API reference has them. Times are Unix seconds (ints)."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from moonpool.contracts.names import END, ONE_LINE

Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=ONE_LINE)]
Suffix = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+" + END)]
Auto = Literal["auto"]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Status(StrEnum):
    VALIDATING = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (Status.VALIDATING, Status.QUEUED, Status.RUNNING)
"""A job in one of these can still be cancelled."""


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    n_epochs: Auto | Annotated[int, Meta(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Meta(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Meta(gt=0, le=10)] = "auto"


class Supervised(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hyperparameters: Hyperparameters = Hyperparameters()


class Method(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Supervised fine-tuning is the method there is."""

    type: Literal["supervised"] = "supervised"
    supervised: Supervised = Supervised()


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """`hyperparameters` is the older place for those of `method`."""

    model: Name
    training_file: Name
    validation_file: Name | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Suffix | None = None
    seed: Seed | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    param: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    model: str
    created_at: int
    finished_at: int | None = None
    fine_tuned_model: str | None = None
    organization_id: str
    status: Status
    training_file: str
    validation_file: str | None = None
    result_files: list[str] = []
    trained_tokens: int | None = None
    hyperparameters: Hyperparameters
    method: Method
    seed: int
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    error: JobError | None = None


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool
