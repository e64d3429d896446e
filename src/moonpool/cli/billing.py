"""`moonpool billing`: what there is to spend, what was spent, and credit."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import console, print_json

if TYPE_CHECKING:
    from moonpool.cli.billing_answers import Balance, Usage

ROOT = "/api/billing"
_DAY = 86_400.0

app = typer.Typer(name="billing", help="Balances, credit and usage.", no_args_is_help=True)
OrganisationOption = Annotated[
    str | None, typer.Option("--organisation", metavar="ORG", help="Default: the key's own.")
]


@app.command()
def balance(
    organisation: OrganisationOption = None,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the organisation's balance.

    **Examples**

    `moonpool billing balance`

    `moonpool billing balance --json | jq -r .available`
    """
    from moonpool.cli.api import Api, find
    from moonpool.cli.billing_answers import Balance

    found = Api(find(data, url, key)).get(f"{ROOT}/balance", Balance, organisation=organisation)
    if as_json:
        print_json(found)
    else:
        _show_balance(found)


# Else click takes -2.50 for options.
@app.command(context_settings={"ignore_unknown_options": True})
def credit(
    amount: Annotated[str, typer.Argument(help="In the platform's currency, like 10.00; -2.50 takes back.")],
    grant: Annotated[bool, typer.Option("--grant", help="Given, not paid: spent first.")] = False,
    reference: Annotated[
        str | None,
        typer.Option(help="Of the payment: the same one is booked once, however often sent."),
    ] = None,
    note: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
    organisation: OrganisationOption = None,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Credit an organisation; a negative amount takes credit back, and says so.

    **Examples**

    `moonpool billing credit 10.00 --reference invoice-7`

    `moonpool billing credit 5 --grant --note "welcome"`

    `moonpool billing credit -2.50 --note "booked twice"`
    """
    from moonpool.cli.api import Api, find
    from moonpool.cli.billing_answers import Credit, NewCredit

    wished = NewCredit(
        amount=amount,
        kind="grant" if grant else "top_up",
        organisation=organisation,
        reference=reference,
        note=note,
    )
    made = Api(find(data, url, key)).post(f"{ROOT}/credits", Credit, wished)
    if as_json:
        print_json(made)
    elif made.repeated:
        print(f"{reference} was booked before, as {made.id}; the balance is {_left(made.balance)}")
    elif made.amount.startswith("-"):
        taken = f"{made.amount[1:]} {made.balance.currency}"
        print(f"{taken} taken back, booked as {made.id}; the balance is {_left(made.balance)}")
    else:
        given = f"{made.amount} {made.balance.currency}"
        print(f"{given} credited, booked as {made.id}; the balance is {_left(made.balance)}")


@app.command()
def usage(
    by: Annotated[str, typer.Option(help="day, model, user, key; several with commas.")] = "day,model",
    days: Annotated[float, typer.Option(min=0.0, help="How far back.")] = 30.0,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show tokens and costs: your own, or the organisation's with an admin's key.

    **Examples**

    `moonpool billing usage --by key --days 7`
    """
    from moonpool.cli.api import Api, find
    from moonpool.cli.billing_answers import Usage

    after = max(0.0, time.time() - days * _DAY)
    found = Api(find(data, url, key)).get(f"{ROOT}/usage", Usage, group_by=by, after=after, limit=0)
    if as_json:
        print_json(found)
    else:
        _show_usage(found)


def _left(balance: "Balance") -> str:
    return f"{balance.total} {balance.currency}"


def _show_balance(found: "Balance") -> None:
    print(f"{_left(found)} (paid {found.topped_up}, granted {found.granted})")
    if found.available is None:
        print("Nobody is refused: billing.enforce is off.")
    else:
        print(f"{found.available} can be spent, {found.overdraft} of overdraft included.")
    lost = f"; {found.uncollected} of it was never collected" if found.uncollected != "0.00" else ""
    print(f"{found.spent} were spent in all{lost}.")


def _show_usage(found: "Usage") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in found.group_by:
        table.add_column(heading)
    for heading in ("requests", "prompt", "cached", "completion", found.currency):
        table.add_column(heading, justify="right")
    for row in (*found.data, found.totals):
        names = [getattr(row, name) or "" for name in found.group_by]
        if row is found.totals and names:
            names[0] = "all"
        counts = (row.requests, row.prompt_tokens, row.cached_tokens, row.completion_tokens)
        table.add_row(*names, *map(str, counts), row.cost)
    console().print(table)
