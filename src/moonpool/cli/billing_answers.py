"""What billing takes and answers, as far as commands need it. Amounts are strings, exact."""

import msgspec


class Balance(msgspec.Struct, kw_only=True):
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


class NewCredit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of POST /api/billing/credits."""

    amount: str
    kind: str = "top_up"
    organisation: str | None = None
    reference: str | None = None
    note: str = ""


class Credit(msgspec.Struct, kw_only=True):
    id: str
    at: float
    organisation: str
    kind: str
    amount: str
    reference: str | None
    note: str
    repeated: bool
    balance: Balance


class UsageRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost: str
    day: str | None = None
    model: str | None = None
    user: str | None = None
    key: str | None = None


class Usage(msgspec.Struct, kw_only=True):
    after: float
    before: float
    currency: str
    group_by: list[str]
    totals: UsageRow
    data: list[UsageRow]
