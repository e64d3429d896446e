"""`moonpool keys`: who may call the platform, and with which rights."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.moments import TO_THE_MINUTE, spell_moment
from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import console, fail, print_json, say

if TYPE_CHECKING:
    from moonpool.cli.answers import Key

KEYS = "/api/auth/keys"
RECOVERY_TIME = 20.0
"""Seconds to wait for a running platform to replace the admin's key; it looks every two."""
ROLES = ("viewer", "member", "admin", "owner")
"""Those of core.principal, which loads too much for a help text."""
_UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}

app = typer.Typer(name="keys", help="Create, list and revoke API keys.", no_args_is_help=True)
PeriodOption = Annotated[
    str,
    typer.Option("--budget-period", metavar="day|month|total", help="When the budget renews (UTC)."),
]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for.")] = "key",
    role: Annotated[
        str | None, typer.Option(help="viewer, member, admin or owner; at most your own. Default: member.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="Allow this only (repeat for more): inference, chat, usage, …")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="12h, 30d, 8w, or a date such as 2030-01-31.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="The key's own limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="The key's own limit.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="What it may spend, in the platform's currency, like 5.00."),
    ] = None,
    budget_period: PeriodOption = "total",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Create a key. Its text is printed once, alone on stdout, and kept nowhere.

    **Examples**

    `moonpool keys create --name laptop`

    `OPENAI_API_KEY=$(moonpool keys create --scope inference --expires 30d)`

    `moonpool keys create --name app --budget 5.00 --budget-period month`
    """
    from moonpool.cli.answers import Key, Limits, NewBudget, NewKey
    from moonpool.cli.api import Api, find
    from moonpool.cli.key_budgets import spell_budget

    limits = Limits(
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, concurrent=concurrent
    )
    wish = NewKey(
        name=name,
        role=role if role is None else _one_of(ROLES, role, "--role"),
        scopes=scope or None,
        limits=limits if limits != Limits() else None,
        expires_at=parse_expiry(expires, time.time()) if expires else None,
        budget=None if budget is None else NewBudget(amount=budget, period=check_period(budget_period)),
    )
    made = Api(find(data, url, key)).post(KEYS, Key, wish)
    if as_json:
        print_json(made)
        return
    allowed = ", ".join(made.scopes) or "everything its role allows"
    until = f" until {spell_moment(made.expires_at, TO_THE_MINUTE)}" if made.expires_at else ""
    spends = f", may spend {spell_budget(made.budget)}" if made.budget else ""
    say(
        f"Key '{made.name}' ({made.id}), {made.role}: {allowed}{until}{spends}."
        " Keep it: it is not shown again."
    )
    if made.warning:
        say(f"But {made.warning}.")
    print(made.key)


@app.command("list")
def list_keys(
    revoked: Annotated[bool, typer.Option("--revoked", help="Show revoked keys too.")] = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """List keys: your own, or all of the organisation for admins; with budgets and what is left of them."""
    from moonpool.cli.answers import KeyPage
    from moonpool.cli.api import Api, find
    from moonpool.cli.key_budgets import add_spending

    api = Api(find(data, url, key))
    keys: list[Key] = []
    while True:
        after = keys[-1].id if keys else None
        page = api.get(KEYS, KeyPage, limit=100, after=after, include_revoked=str(revoked).lower())
        keys += page.data
        if not page.has_more or not page.data:
            break
    add_spending(api, keys)
    if as_json:
        print_json({"object": "list", "data": keys})
        return
    _show(keys)


@app.command("budget")
def set_budget(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="Like 5.00, in the platform's currency; or `none`.")
    ],
    period: PeriodOption = "total",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change what a key may spend, at once; what it has spent in the period counts.

    **Examples**

    `moonpool keys budget key_01k2… 20.00 --budget-period month`

    `moonpool keys budget key_01k2… none`
    """
    from urllib.parse import quote

    from moonpool.cli.answers import ChangeBudget, Key, NewBudget
    from moonpool.cli.api import Api, find
    from moonpool.cli.key_budgets import add_spending, spell_budget, spell_left

    wish = None if amount == "none" else NewBudget(amount=amount, period=check_period(period))
    api = Api(find(data, url, key))
    changed = api.put(f"{KEYS}/{quote(key_id, safe='')}/budget", Key, ChangeBudget(budget=wish))
    add_spending(api, [changed])
    if as_json:
        print_json(changed)
        return
    if changed.budget is None:
        say(f"Key '{changed.name}' ({changed.id}) has no budget.")
    else:
        left = spell_left(changed.budget)
        say(f"Key '{changed.name}' ({changed.id}) may spend {spell_budget(changed.budget)}; left: {left}.")
    if changed.warning:
        say(f"But {changed.warning}.")


@app.command()
def revoke(
    key_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="As `keys list` shows them.")],
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Revoke keys, for good and at once."""
    from urllib.parse import quote

    from moonpool.cli.answers import RevokedKey
    from moonpool.cli.api import Api, find

    api = Api(find(data, url, key))
    revoked = [api.delete(f"{KEYS}/{quote(key_id, safe='')}", RevokedKey) for key_id in key_ids]
    if as_json:
        print_json({"object": "list", "data": revoked})
        return
    for each in revoked:
        say(f"Revoked {each.id}.")


@app.command()
def recover(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Replace the admin's key when DIR/admin.key is lost: a new one is made, the old one revoked.

    Needs no key but write access to the data folder. A platform that does not run does it at its next
    start.
    """
    from moonpool.services.auth.admin_key import AdminKeyFile
    from moonpool.wiring.layout import Layout, default_data
    from moonpool.wiring.lock import holder

    layout = Layout(data or default_data())
    file = AdminKeyFile(layout.root)
    try:
        file.request.touch(mode=0o600)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fail(f"{file.request}: {reason}\n  → Name the platform's folder with --data DIR.")
    done = holder(layout) is not None and _wait_until_gone(file.request)
    if as_json:
        print_json({"replaced": done, "path": str(file.path)})
    elif done:
        say(f"The admin has a new key: {file.path}")
    else:
        say("The admin's key will be replaced at the next `moonpool up`.")


def check_period(period: str) -> str:
    from moonpool.cli.key_budgets import PERIODS

    return _one_of(PERIODS, period, "--budget-period")


def _one_of(known: tuple[str, ...], word: str, option: str) -> str:
    if word not in known:
        raise typer.BadParameter(f"'{word}' is none of {', '.join(known)}.", param_hint=option)
    return word


def parse_expiry(text: str, now: float) -> float:
    """Unix seconds of `30d` from now, or of a date or time in ISO 8601 (UTC unless it says otherwise)."""
    span = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if span:
        return now + int(span[1]) * _UNITS[span[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no time. For example 12h, 30d, 8w or 2030-01-31.", param_hint="--expires"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _wait_until_gone(path: Path) -> bool:
    deadline = time.monotonic() + RECOVERY_TIME
    while path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _show(keys: "list[Key]") -> None:
    from rich.table import Table

    from moonpool.cli.key_budgets import spell_budget, spell_left

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "role", "scopes", "status", "created", "last used", "expires"):
        table.add_column(heading)
    budgets = any(each.budget is not None for each in keys)
    for heading in ("budget", "left") if budgets else ():
        table.add_column(heading)
    for each in keys:
        more = (spell_budget(each.budget), spell_left(each.budget)) if budgets else ()
        table.add_row(
            each.id,
            each.name,
            each.role,
            " ".join(each.scopes) or "all",
            each.status,
            spell_moment(each.created_at, TO_THE_MINUTE),
            spell_moment(each.last_used_at, TO_THE_MINUTE),
            spell_moment(each.expires_at, TO_THE_MINUTE),
            *more,
        )
    console().print(table)
