"""What billing's routes give. Times are Unix seconds, tokens are integers, days are of UTC.
Amounts of money are strings, exact: "110.00", "0.009858"."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from moonpool.contracts.budgets import Period
from moonpool.contracts.money import cost_of, spell
from moonpool.contracts.names import ONE_LINE
from moonpool.contracts.usage import UsageEvent
from moonpool.services.billing.ledger import Entry, Kind


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
    cost: str = "0.00"


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
    cost: str


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """Of the events at or after `after` and before `before`. `data` is by group, newest day first;
    `recent` are the newest events, `has_more` whether there are older ones in that time."""

    object: str = "usage"
    currency: str
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
        cost=spell(cost_of(event)),
    )


class BalanceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """DeepSeek's."""

    currency: str
    total_balance: str
    granted_balance: str
    topped_up_balance: str


class UserBalance(msgspec.Struct, frozen=True, kw_only=True):
    """DeepSeek's answer to GET /user/balance. `is_available`: whether what costs can be asked for."""

    is_available: bool
    balance_infos: list[BalanceInfo]


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation's accounts. `available` is what can be spent, the overdraft included, and null where
    nothing is enforced. `uncollected` was let through beyond that, and is owed by nobody."""

    object: str = "balance"
    organisation: str
    currency: str
    total: str
    granted: str
    topped_up: str
    overdraft: str
    available: str | None
    enforced: bool
    spent: str
    uncollected: str


class NewCredit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`amount` is a string with at most nine decimals; a negative one takes a credit back. The same
    `reference` (of a payment, say) is booked once, however often it is sent."""

    amount: str
    kind: Kind = Kind.TOP_UP
    organisation: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=ONE_LINE)] | None = None
    note: Annotated[str, msgspec.Meta(max_length=500, pattern=ONE_LINE)] = ""


class LineView(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    debit: str
    credit: str


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the ledger."""

    id: str
    object: str = "ledger_entry"
    at: float
    organisation: str
    kind: Kind
    reference: str | None
    author: str
    note: str
    lines: list[LineView]


class CreditView(EntryView, frozen=True, kw_only=True):
    """With the balance afterwards. `repeated`: its reference was booked before."""

    amount: str
    balance: BalanceView
    repeated: bool


class EntryList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[EntryView]
    has_more: bool


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """A key's budget. `spent` and `left` are of the present period, as far as it is counted by now;
    `renews_at` is null where it never does. `enforced` is false where nobody is refused."""

    key: str
    object: str = "key_budget"
    user: str
    currency: str
    amount: str
    period: Period
    spent: str
    left: str
    renews_at: int | None
    enforced: bool


class BudgetList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[BudgetView]
    has_more: bool


def entry_view(entry: Entry) -> EntryView:
    return EntryView(**entry_fields(entry))


def entry_fields(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at,
        "organisation": entry.tenant,
        "kind": entry.kind,
        "reference": entry.reference,
        "author": entry.author,
        "note": entry.note,
        "lines": [
            LineView(account=line.account, debit=spell(line.debit), credit=spell(line.credit))
            for line in entry.lines
        ],
    }
