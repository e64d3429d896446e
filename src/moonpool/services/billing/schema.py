"""What billing's routes give. Times are Unix seconds, tokens are integers, days are of UTC."""

from enum import StrEnum

import msgspec

from moonpool.contracts.usage import UsageEvent


class Group(StrEnum):
    """By what totals can be split."""

    DAY = "day"
    MODEL = "model"
    USER = "user"
    KEY = "key"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """`cached_tokens` are among the prompt's, `reasoning_tokens` among the completion's."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0


class GroupTotals(Totals, frozen=True, kw_only=True):
    """Of one group; only the fields that were grouped by are there. `day` is YYYY-MM-DD."""

    day: str | msgspec.UnsetType = msgspec.UNSET
    model: str | msgspec.UnsetType = msgspec.UNSET
    user: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """What one request consumed."""

    id: str
    object: str = "usage_event"
    at: float
    user: str
    key: str
    route: str
    model: str
    release: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    streamed: bool
    outcome: str
    estimated: bool


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """Of the events at or after `after` and before `before`. `data` is by group, newest day first;
    `recent` are the newest events, `has_more` whether there are older ones in that time."""

    object: str = "usage"
    after: float
    before: float
    group_by: tuple[Group, ...]
    totals: Totals
    data: list[GroupTotals]
    recent: list[EventView]
    has_more: bool


def event_view(event: UsageEvent) -> EventView:
    usage = event.usage
    return EventView(
        id=event.id,
        at=event.at,
        user=event.user,
        key=event.key,
        route=event.route,
        model=event.model,
        release=event.release,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        streamed=event.streamed,
        outcome=event.outcome,
        estimated=event.estimated,
    )
