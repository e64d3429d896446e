"""What operators are told of dead letters, and how they choose among them. Times are Unix seconds."""

from typing import Annotated

import msgspec

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1000)]


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Conditions that all hold. None at all means nothing, unless `all` says so.

    For a replay: the oldest first, at most `limit`, `rate` a second, beginning behind `after`.
    """

    states: tuple[str, ...] = ()
    service: str = ""
    route: str = ""
    cause: str = ""
    before: float | None = None
    all: bool = False
    limit: Limit = 100
    rate: Rate = 5.0
    after: str = ""


class LetterView(msgspec.Struct, kw_only=True):
    """Without content."""

    id: str
    object: str = "dead_letter"
    request_id: str
    state: str
    deferred: bool
    user: str
    service: str
    method: str
    route: str
    cause: str
    attempts: int
    created_at: float
    updated_at: float
    next_at: float | None
    size: int


class LetterPage(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[LetterView]
    has_more: bool


class FailureView(msgspec.Struct, kw_only=True):
    at: float
    status: int
    code: str
    message: str


class ContentView(msgspec.Struct, kw_only=True):
    """The body as text; what is no UTF-8 is replaced."""

    headers: dict[str, str]
    body: str


class LetterDetail(LetterView, kw_only=True):
    """`request` and `answer` only when they are asked for: prompts are not shown by the way."""

    path: str
    query: str
    body_bytes: int
    failures: list[FailureView]
    answer_status: int | None
    request: ContentView | None = None
    answer: ContentView | None = None


class ReplayView(msgspec.Struct, kw_only=True):
    id: str
    outcome: str
    status: int
    message: str


class ReplayReport(msgspec.Struct, kw_only=True):
    """`stopped`: several failed in a row, so the rest was left alone. `after`: where to go on."""

    object: str = "dead_letter.replays"
    data: list[ReplayView]
    answered: int
    failed: int
    stopped: bool
    has_more: bool
    after: str


class Purged(msgspec.Struct, kw_only=True):
    object: str = "dead_letters.purged"
    deleted: int
