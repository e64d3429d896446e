"""`moonpool config`: the platform's documents, seen and changed while it runs."""

from pathlib import Path
from typing import Annotated

import typer

from moonpool.cli.config_access import PATH, documents_api, read_document
from moonpool.cli.config_output import show_changes, show_waiting, table, tell
from moonpool.cli.config_words import read_version, read_versions
from moonpool.cli.moments import spell_moment
from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import print_json, say

app = typer.Typer(
    name="config",
    help="See and change the platform's configuration while it runs: every change is a version.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

DocumentOption = Annotated[
    str, typer.Option("--document", metavar="NAME", help="Which document: `config list` shows them.")
]
DocumentArgument = Annotated[
    str, typer.Argument(metavar="[DOCUMENT]", help="Which document. Default: platform.", show_default=False)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for those who read the history.")]
ExpectedOption = Annotated[
    int | None,
    typer.Option("--if-version", metavar="N", help="Only if the document is still at this version."),
]
PathArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATH", help='As `show` has it: models.my-model.targets[0].url, models."gpt-4.1".context'
    ),
]


@app.command("list")
def list_documents(
    data: DataOption = None, url: UrlOption = "", key: KeyOption = "", as_json: JsonOption = False
) -> None:
    """List the documents with their versions."""
    from moonpool.configserver.views import DocumentHeads

    found = documents_api(data, url, key).get(f"{PATH}/documents", DocumentHeads)
    if as_json:
        print_json(found)
        return
    table(
        ("document", "version", "by", "when", "why"),
        [
            (each.name, str(each.version), each.author, spell_moment(each.at), each.reason)
            for each in found.data
        ],
    )


@app.command()
def show(
    name: DocumentArgument = "",
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", min=1, help="As it was then.")
    ] = None,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show a document: what was set, without the defaults. As YAML, fit for `up --config`.

    A platform that does not run shows what it will start with.

    **Examples**

    `moonpool config show`

    `moonpool config show --version 3 --json`

    `moonpool config show releases/chat`
    """
    view = read_document(name or document, version, data, url, key)
    if as_json:
        print_json(view)
        return
    import yaml

    reason = f" ({view.reason})" if view.reason else ""
    say(f"# {view.name}, version {view.version}, by {view.author}, {spell_moment(view.at)}{reason}")
    if view.stale:
        say("# The config server cannot reach its database: this is the last that was known.")
    print(yaml.safe_dump(view.content, sort_keys=False, allow_unicode=True), end="")


@app.command()
def get(
    path: PathArgument,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print one setting; the default where nothing was set. Exit code 1: there is no such setting.

    **Examples**

    `moonpool config get limits.default.requests_per_minute`

    `moonpool config get 'models."gpt-4.1".targets[0].url'`
    """
    from moonpool.cli.api import REFUSED, CommandFailed
    from moonpool.contracts.documents.place import lookup, parse_path

    try:
        place = parse_path(path)
    except ValueError as error:
        raise CommandFailed(str(error), exit_code=REFUSED) from None
    content = read_document(document, None, data, url, key).content
    found, value = lookup(content, place)
    if not found and document == "platform":
        found, value = lookup(_with_defaults(content), place)
        if found and not as_json:
            say("(the default)")
    if not found:
        raise CommandFailed(
            f"{path} is not set in {document}", exit_code=REFUSED, hint="See `moonpool config show`."
        )
    if as_json or not isinstance(value, str):
        print_json(value)
    else:
        print(value)


@app.command("set")
def set_value(
    path: PathArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text, a number, or JSON for a section.")],
    reason: ReasonOption = "",
    if_version: ExpectedOption = None,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set one place. It reaches every process within a second; a value that cannot be changes nothing.

    What is read only at a start (ports, folders, the engine) is accepted, and named as waiting for it.

    **Examples**

    `moonpool config set limits.default.requests_per_minute 100 --reason "less load"`

    `moonpool config set models.small '{"targets": [{"url": "http://127.0.0.1:9100/v1"}]}'`
    """
    from moonpool.configserver.views import PatchDocument, Setting

    wish = PatchDocument(set=(Setting(path=path, text=value),), version=if_version, reason=reason)
    _patch(document, wish, data, url, key, as_json)


@app.command()
def unset(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Places to take away.")],
    reason: ReasonOption = "",
    if_version: ExpectedOption = None,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take settings away: the defaults hold again."""
    from moonpool.configserver.views import PatchDocument

    wish = PatchDocument(unset=tuple(paths), version=if_version, reason=reason)
    _patch(document, wish, data, url, key, as_json)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The whole document, as YAML or JSON.")],
    reason: ReasonOption = "",
    if_version: ExpectedOption = None,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace a whole document by a file's content, while the platform runs."""
    from moonpool.cli.api import CommandFailed
    from moonpool.configserver.views import DocumentView, Outcome, PutDocument
    from moonpool.wiring.configuration import read_file

    content = read_file(str(file))
    api = documents_api(data, url, key)
    version = if_version
    if version is None:
        try:
            version = api.get(f"{PATH}/documents/{document}", DocumentView).version
        except CommandFailed as error:
            if error.code != "unknown_version":
                raise
            version = 0
    wish = PutDocument(content=content, version=version, reason=reason or f"{file} was applied")
    tell(api.put(f"{PATH}/documents/{document}", Outcome, wish), as_json)


@app.command()
def history(
    name: DocumentArgument = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 20,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """List a document's versions, the newest first: who, when, why.

    **Examples**

    `moonpool config history`

    `moonpool config history releases/chat`
    """
    from moonpool.configserver.views import DocumentHeads

    path = f"{PATH}/history/{name or document}"
    found = documents_api(data, url, key).get(path, DocumentHeads, limit=limit)
    if as_json:
        print_json(found)
        return
    table(
        ("version", "by", "when", "why"),
        [(str(each.version), each.author, spell_moment(each.at), each.reason) for each in found.data],
    )
    if found.has_more:
        say(f"There are more than {limit}.")


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 20,
    document: Annotated[str, typer.Option("--document", metavar="NAME", help="Of this one only.")] = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """List who changed what, and who was refused, the newest first."""
    from moonpool.configserver.views import AuditPage

    found = documents_api(data, url, key).get(f"{PATH}/audit", AuditPage, limit=limit, name=document or None)
    if as_json:
        print_json(found)
        return
    table(
        ("when", "who", "did", "document", "version", "why"),
        [
            (
                spell_moment(each.at),
                each.who,
                each.action,
                each.name,
                str(each.version),
                each.detail or each.reason,
            )
            for each in found.data
        ],
    )


@app.command()
def diff(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DOCUMENT] [A] [B]",
            help="From version A (default: the one before B) to B (default: the newest).",
            show_default=False,
        ),
    ] = None,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions, path by path.

    **Examples**

    `moonpool config diff 3 5`

    `moonpool config diff releases/chat`
    """
    from moonpool.configserver.views import DiffView

    document, (old, new) = read_versions(words or (), document)
    found = documents_api(data, url, key).get(f"{PATH}/diff/{document}", DiffView, old=old, new=new)
    if as_json:
        print_json(found)
        return
    say(f"{found.name}: version {found.old} → {found.new}")
    show_changes(found.changes)


@app.command()
def rollback(
    words: Annotated[
        list[str], typer.Argument(metavar="[DOCUMENT] VERSION", help="As `history` shows them.")
    ],
    reason: ReasonOption = "",
    if_version: ExpectedOption = None,
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the content of an older version the newest. Nothing is lost: it is a new version.

    **Examples**

    `moonpool config rollback 3`

    `moonpool config rollback releases/chat 1`
    """
    from moonpool.configserver.views import Outcome, Rollback

    document, version = read_version(words, document)
    wish = Rollback(to=version, version=if_version, reason=reason)
    tell(documents_api(data, url, key).post(f"{PATH}/rollback/{document}", Outcome, wish), as_json)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The whole document, as YAML or JSON.")],
    document: DocumentOption = "platform",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Check a file, and tell what applying it would change. Exit code 1 when it would be refused."""
    from moonpool.cli.api import NOT_RUNNING, CommandFailed
    from moonpool.configserver.views import Outcome, Trial
    from moonpool.wiring.configuration import load_config, read_file

    content = read_file(str(file))
    if document == "platform":
        load_config(str(file))  # tells the line
    try:
        api = documents_api(data, url, key)
    except CommandFailed as error:
        if error.exit_code != NOT_RUNNING or document != "platform":
            raise
        if as_json:
            print_json({"valid": True})
        else:
            say("It is valid. What it would change can be told while the platform runs.")
        return
    outcome = api.post(f"{PATH}/validate/{document}", Outcome, Trial(content=content))
    if as_json:
        print_json(
            {"valid": True, "changes": outcome.changes, "restart": outcome.restart, "lost": outcome.lost}
        )
        return
    say("It is valid, and would change:" if outcome.changes else "It is valid, and would change nothing.")
    show_changes(outcome.changes)
    show_waiting(outcome)


def _patch(document: str, wish: object, data: Path | None, url: str, key: str, as_json: bool) -> None:
    from moonpool.configserver.views import Outcome

    tell(documents_api(data, url, key).patch(f"{PATH}/documents/{document}", Outcome, wish), as_json)


def _with_defaults(content: dict[str, object]) -> object:
    import msgspec

    from moonpool.contracts.config import PlatformConfig

    return msgspec.to_builtins(msgspec.convert(content, PlatformConfig))
