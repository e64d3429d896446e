"""`moonpool explain`: what happened to one request, and why."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from moonpool.cli.api import Api
    from moonpool.contracts.requests import AttemptRecord, RequestRecord

PATIENCE = 2.0
"""Seconds to wait for a record that is on its way from the gateway."""
PLACES = ("/admin/recent", "/admin/requests")
"""The gateway's own memory, the fresher one and complete; monitoring's store, the longer one."""
WIDTH = 40


def explain(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The x-request-id of an answer.")],
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one request as a waterfall: who decided what, when and why, and every attempt at an endpoint.

    **Examples**

    `moonpool explain req_0123456789abcdef`

    `moonpool explain req_0123456789abcdef --json | jq .decisions`
    """
    from moonpool.cli.api import Api, find

    record = fetch(Api(find(data, url, key)), request_id)
    if as_json:
        print_json(record)
        return
    out = console()
    out.print(heading(record), markup=False)
    out.print(waterfall(record))


def fetch(api: "Api", request_id: str, *, patience: float = PATIENCE) -> "RequestRecord":
    """Raises CommandFailed; with exit code 1 when nobody has a record of it."""
    from urllib.parse import quote

    from moonpool.cli.api import REFUSED, CommandFailed
    from moonpool.contracts.requests import RequestRecord

    deadline = time.monotonic() + patience
    while True:
        away = None
        for place in PLACES:
            try:
                return api.get(f"{place}/{quote(request_id, safe='')}", RequestRecord)
            except CommandFailed as error:
                if error.exit_code != REFUSED:
                    away = error
        if away is not None and time.monotonic() >= deadline:
            raise away
        if time.monotonic() >= deadline:
            raise CommandFailed(
                f"there is no record of request '{request_id}'",
                exit_code=REFUSED,
                hint="Take the x-request-id of an answer. Records are kept for some days; of a busy "
                "gateway's ordinary requests only a share is.",
            )
        time.sleep(0.25)


def heading(record: "RequestRecord") -> str:
    """The request in a few lines of text."""
    from datetime import datetime

    moment = datetime.fromtimestamp(record.at).astimezone().isoformat(sep=" ", timespec="milliseconds")
    first = "" if record.first_byte_ms is None else f", first byte after {_ms(record.first_byte_ms)}"
    who = f"user {record.user} of {record.tenant}" if record.user else "nobody known"
    release = f"{record.service}@{record.release}" if record.release else "the gateway"
    if record.service and not record.release:
        release += f", for {record.service}"
    lines = [
        f"{record.id}  {record.method} {record.route}  {record.status} {record.outcome}",
        f"{moment}  {_ms(record.duration_ms)}{first}, {record.bytes_out} bytes",
        f"answered by {release}, asked by {who} from {record.peer or 'this machine'}",
    ]
    if record.flags:
        lines.append("flags: " + ", ".join(f"{flag} ({_flag(flag)})" for flag in record.flags))
    return "\n".join(lines) + "\n"


def waterfall(record: "RequestRecord") -> "Table":
    """Decisions and attempts by the time they began."""
    from rich.table import Table
    from rich.text import Text

    total = record.duration_ms
    rows: list[tuple[float, int, list[Text]]] = []
    for decision in record.decisions:
        mark = Text(bar(decision.at_ms, decision.at_ms, total), "cyan")
        cells = [Text(decision.filter), Text(decision.verdict, "bold"), mark, Text(decision.reason, "dim")]
        rows.append((decision.at_ms, 0, cells))
    for number, attempt in enumerate(record.attempts, start=1):
        good = attempt.error is None and (attempt.status or 500) < 500
        ended = total if attempt.ended_ms is None else attempt.ended_ms
        line = Text(bar(attempt.started_ms, ended, total), "green" if good else "red")
        cells = [
            Text(f"attempt {number}"),
            Text(_result(attempt), "bold"),
            line,
            Text(_where(attempt), "dim"),
        ]
        rows.append((attempt.started_ms, 1, cells))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("at", justify="right", no_wrap=True)
    table.add_column("who", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column(f"0 … {_ms(total)}", no_wrap=True, min_width=WIDTH)
    table.add_column("why", overflow="fold")
    for at, _, cells in sorted(rows, key=lambda row: row[:2]):
        table.add_row(_ms(at), *cells)
    return table


def bar(start: float, end: float, total: float, width: int = WIDTH) -> str:
    """From `start` to `end` on a line of `width` that stands for `total`; a point is one thin mark."""
    scale = width / total if total > 0 else 0.0
    left = min(width - 1, max(0, int(start * scale)))
    if end <= start:
        return " " * left + "│"
    return " " * left + "█" * max(1, min(width - left, round((end - start) * scale)))


def _result(attempt: "AttemptRecord") -> str:
    if attempt.error is not None:
        return attempt.error.partition(". ")[0]  # what to do about it stands in the decision beside it
    return "no answer" if attempt.status is None else str(attempt.status)


def _where(attempt: "AttemptRecord") -> str:
    took = "" if attempt.ended_ms is None else f" {_ms(attempt.ended_ms - attempt.started_ms)}"
    return f"{attempt.release} {attempt.endpoint}{took}".strip()


def _flag(flag: str) -> str:
    from moonpool.core.decisions import Flag

    try:
        return Flag(flag).name.lower().replace("_", " ")
    except ValueError:  # of a newer gateway
        return "unknown here"


def _ms(value: float) -> str:
    return f"{value / 1000:.2f} s" if value >= 10_000 else f"{value:.1f} ms"
