"""`moonpool dlq`: requests that could not be answered, and those that are answered later."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.moments import spell_moment
from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import console, fail, print_json, say

if TYPE_CHECKING:
    from moonpool.cli.api import Api
    from moonpool.contracts.dead_letters import (
        LetterDetail,
        LetterView,
        ReplayReport,
        ReplayView,
        Selection,
    )

PATH = "/admin/dlq"
CHUNK = 20
"""Letters a call: so that what was done so far is seen while many are sent."""
PARTLY = 6
"""Exit code: some were not answered."""

app = typer.Typer(name="dlq", help="List, show, replay and purge dead letters.", no_args_is_help=True)

StateOption = Annotated[
    list[str] | None, typer.Option("--state", help="dead, waiting or answered (repeat for more).")
]
ServiceOption = Annotated[str, typer.Option("--service", help="Of this service only.")]
RouteOption = Annotated[str, typer.Option("--route", help="Of this route only, such as /v1/embeddings.")]
CauseOption = Annotated[str, typer.Option("--cause", help="That failed with this code.")]
OlderOption = Annotated[
    str, typer.Option("--older-than", metavar="SPAN", help="12h, 30d, 8w.", show_default=False)
]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID…]", help="As `dlq list` shows them.", show_default=False)
]


@app.command("list")
def list_letters(
    state: StateOption = None,
    service: ServiceOption = "",
    route: RouteOption = "",
    cause: CauseOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 50,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest first."""
    from moonpool.cli.api import Api, find
    from moonpool.contracts.dead_letters import LetterPage

    page = Api(find(data, url, key)).get(
        PATH,
        LetterPage,
        state=",".join(state or []) or None,
        service=service or None,
        route=route or None,
        cause=cause or None,
        limit=limit,
    )
    if as_json:
        print_json(page)
        return
    _show(page.data)
    if page.has_more:
        say(f"There are more than {limit}.")


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID")],
    content: Annotated[bool, typer.Option("--content", help="With the bodies: prompts are private.")] = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with its failed attempts."""
    from moonpool.cli.api import Api, find
    from moonpool.contracts.dead_letters import LetterDetail

    api = Api(find(data, url, key))
    letter = api.get(_path(letter_id), LetterDetail, content="true" if content else None)
    if as_json:
        print_json(letter)
        return
    console().print(_text(letter), markup=False)


@app.command()
def replay(
    letter_ids: IdsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
    state: StateOption = None,
    service: ServiceOption = "",
    route: RouteOption = "",
    cause: CauseOption = "",
    older_than: OlderOption = "",
    rate: Annotated[float, typer.Option(min=0.01, max=1000.0, help="Letters a second.")] = 5.0,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again: those named, those that match, or all.

    The oldest first; when several fail in a row the rest is left alone. What was answered is not sent again.

    **Examples**

    `moonpool dlq replay dl_01k2…`

    `moonpool dlq replay --service inference --cause upstream_connect_failed --rate 2`
    """
    from moonpool.cli.api import Api, find

    api = Api(find(data, url, key))
    if letter_ids:
        report = _replay_named(api, letter_ids, quiet=as_json)
    else:
        chosen = _selection(everything, state, service, route, cause, older_than)
        report = _replay_chosen(api, chosen, rate, quiet=as_json)
    if as_json:
        print_json(report)
    else:
        _tell(report)
    if report.failed or report.stopped:
        raise typer.Exit(PARTLY)


@app.command()
def purge(
    letter_ids: IdsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, in every state.")] = False,
    state: StateOption = None,
    service: ServiceOption = "",
    route: RouteOption = "",
    cause: CauseOption = "",
    older_than: OlderOption = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete dead letters for good: those named, those that match, or all."""
    from moonpool.cli.api import Api, find
    from moonpool.contracts.dead_letters import Purged

    api = Api(find(data, url, key))
    if letter_ids:
        done = [api.delete(_path(each), Purged) for each in letter_ids]
        result = Purged(deleted=sum(each.deleted for each in done))
    else:
        chosen = _selection(everything, state, service, route, cause, older_than)
        result = api.post(PATH + "/purge", Purged, chosen)
    if as_json:
        print_json(result)
        return
    say(f"Deleted {result.deleted}.")


def _selection(
    everything: bool, state: list[str] | None, service: str, route: str, cause: str, older_than: str
) -> "Selection":
    from moonpool.cli.keys import parse_expiry
    from moonpool.contracts.dead_letters import Selection

    if not (everything or state or service or route or cause or older_than):
        fail("nothing was chosen.\n  → Name ids or conditions, or --all.", 2)
    before = None
    if older_than:
        now = time.time()
        before = 2 * now - parse_expiry(older_than, now)  # as far back as that is ahead
    return Selection(
        states=tuple(state or ()), service=service, route=route, cause=cause, before=before, all=everything
    )


def _replay_named(api: "Api", ids: list[str], *, quiet: bool) -> "ReplayReport":
    from moonpool.contracts.dead_letters import ReplayReport

    parts = []
    for id in ids:
        parts.append(api.post(f"{_path(id)}/replay", ReplayReport, {}))
        if not quiet:
            _lines(parts[-1].data)
    return _joined(parts)


def _replay_chosen(api: "Api", chosen: "Selection", rate: float, *, quiet: bool) -> "ReplayReport":
    """Part by part, until all were tried once or the gateway stops."""
    import msgspec

    from moonpool.contracts.dead_letters import ReplayReport

    parts: list[ReplayReport] = []
    while not parts or (parts[-1].has_more and not parts[-1].stopped):
        after = parts[-1].after if parts else ""
        wish = msgspec.structs.replace(chosen, limit=CHUNK, rate=rate, after=after)
        parts.append(api.post(PATH + "/replay", ReplayReport, wish))
        if not quiet:
            _lines(parts[-1].data)
    return _joined(parts)


def _joined(parts: "list[ReplayReport]") -> "ReplayReport":
    from moonpool.contracts.dead_letters import ReplayReport

    return ReplayReport(
        data=[each for part in parts for each in part.data],
        answered=sum(part.answered for part in parts),
        failed=sum(part.failed for part in parts),
        stopped=parts[-1].stopped,
        has_more=parts[-1].has_more,
        after=parts[-1].after,
    )


def _path(letter_id: str) -> str:
    from urllib.parse import quote

    return f"{PATH}/{quote(letter_id, safe='')}"


def _lines(replays: "list[ReplayView]") -> None:
    for each in replays:
        status = f" {each.status}" if each.status else ""
        print(f"{each.id}  {each.outcome}{status}  {each.message}".rstrip())


def _tell(report: "ReplayReport") -> None:
    say(f"{report.answered} answered, {report.failed} failed again.")
    if report.stopped:
        say("Several failed in a row: the rest was left alone.")


def _show(letters: "list[LetterView]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "state", "service", "route", "cause", "attempts", "bytes", "created", "next try"):
        table.add_column(heading)
    for each in letters:
        cells = (each.id, each.state, each.service, f"{each.method} {each.route}", each.cause)
        more = (str(each.attempts), str(each.size), spell_moment(each.created_at), spell_moment(each.next_at))
        table.add_row(*(Text(cell) for cell in (*cells, *more)))
    console().print(table)


def _text(letter: "LetterDetail") -> str:
    query = f"?{letter.query}" if letter.query else ""
    lines = [
        f"{letter.id}  {letter.state}  {letter.cause}",
        f"{letter.method} {letter.path}{query}, {letter.body_bytes} bytes, for {letter.service}",
        f"request {letter.request_id} of {letter.user}, {spell_moment(letter.created_at)}",
    ]
    if letter.next_at is not None:
        lines.append(f"next try {spell_moment(letter.next_at)}")
    lines += [
        f"  {spell_moment(each.at)}  {each.status or 'no answer'} {each.code}  {each.message}"
        for each in letter.failures
    ]
    for name, content in (("request", letter.request), ("answer", letter.answer)):
        if content is not None:
            lines += ["", f"── {name} ──", *(f"{key}: {value}" for key, value in content.headers.items())]
            lines += ["", content.body]
    return "\n".join(lines)
