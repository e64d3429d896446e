"""`moonpool release`: versions of modules that can run side by side."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.moments import TO_THE_MINUTE, spell_moment
from moonpool.cli.options import DataOption, JsonOption
from moonpool.cli.output import STYLES, console, print_json, say
from moonpool.cli.release_options import (
    ApiKeyEnvOption,
    CommandOption,
    EndpointOption,
    EnvironmentOption,
    FolderOption,
    LabelArgument,
    ModelOption,
    NewLabelArgument,
    NoteOption,
    PriceOption,
    ReadyPathOption,
    ReplicasOption,
    ServiceArgument,
    SettingsOption,
    VariablesOption,
    WheelOption,
)

if TYPE_CHECKING:
    from moonpool.cli.release_documents import ReleaseDocuments
    from moonpool.cli.release_wish import Wish
    from moonpool.contracts.releases import Release
    from moonpool.ports.discovery import Instance
    from moonpool.wiring.shelf import Shelf

app = typer.Typer(
    name="release",
    help="Versions of a service that can run side by side. `moonpool upgrade` moves traffic to one.",
    no_args_is_help=True,
)
DAY = 86_400.0


@app.command()
def add(
    service: ServiceArgument,
    label: NewLabelArgument = "",
    wheel: WheelOption = None,
    environment: EnvironmentOption = None,
    command: CommandOption = "",
    ready_path: ReadyPathOption = "/readyz",
    folder: FolderOption = "",
    url: EndpointOption = "",
    model: ModelOption = "",
    api_key_env: ApiKeyEnvOption = "",
    price: PriceOption = "",
    settings: SettingsOption = None,
    variables: VariablesOption = None,
    replicas: ReplicasOption = None,
    note: NoteOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a release: build and check what it runs from, and keep it under its label. Nothing is started.

    Releases do not change: something else under the same label is refused. Without a
    source it is this package with other settings.

    **Examples**

    `moonpool release add chat --from dist/moonpool-0.2.0-py3-none-any.whl`

    `moonpool release add inference big --set 'models.smollm2.targets=[{local: /models/big.gguf}]'`

    `moonpool release add inference deepseek --url https://api.deepseek.com/v1 --model deepseek-chat`

    `moonpool release add storage rusty --command '/opt/storage --listen {socket}'`
    """
    from moonpool.cli.release_wish import Wish

    wish = Wish(
        service=service,
        label=label,
        wheel=wheel,
        environment=environment,
        command=command,
        ready_path=ready_path,
        folder=folder,
        url=url,
        model=model,
        api_key_env=api_key_env,
        price=price,
        settings=tuple(settings or ()),
        variables=tuple(variables or ()),
        replicas=replicas,
        note=note,
    )
    _tell_added(*_add(_documents(data), wish), as_json)


def _add(documents: "ReleaseDocuments", wish: "Wish") -> "tuple[Release, tuple[Release, ...]]":
    """What was added, and what was collected for it."""
    from moonpool.cli.api import CommandFailed
    from moonpool.cli.release_wish import release_of
    from moonpool.contracts.releases import EnvironmentSource
    from moonpool.upgrade.release import Retention, labels_of
    from moonpool.wiring.building import from_environment, from_wheel

    known = documents.known(wish.service)
    taken = {*labels_of(known, wish.service), *documents.shelf.labels(wish.service)}
    release = release_of(wish, taken, time.time())
    documents.check(known, release, built=wish.wheel is None)
    if wish.wheel is not None:
        release = from_wheel(documents.shelf, release, wish.wheel, say)
    elif isinstance(release.source, EnvironmentSource):
        release = from_environment(release)
    release = documents.add(release)
    try:
        return release, documents.collect(Retention())
    except CommandFailed as error:
        say(f"Nothing was collected: {error.message}")
        return release, ()


def _tell_added(release: "Release", gone: "tuple[Release, ...]", as_json: bool) -> None:
    for old in gone:
        say(f"Collected {old.name}, which was not used any more.")
    if as_json:
        print_json(release)
        return
    say(
        f"Added {release.name}. Start it with "
        f"`moonpool upgrade start {release.service} --to {release.label}`."
    )


@app.command("list")
def list_releases(
    service: Annotated[str, typer.Argument(metavar="[SERVICE]", help="Of this module only.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List releases, oldest first, and what runs of each."""
    shelf = _known(data)
    rows = [(release, _instances(shelf, release)) for release in shelf.all(service)]
    if as_json:
        print_json({"object": "list", "data": [_told(shelf, release) for release, _ in rows]})
        return
    _show(shelf, rows)


@app.command()
def show(
    service: ServiceArgument, label: LabelArgument, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Show all that a release is, and its instances."""
    import msgspec

    shelf = _known(data)
    told = _told(shelf, shelf.find(service, label))
    if as_json:
        print_json(told)
    else:
        print(msgspec.yaml.encode(told).decode(), end="")


@app.command()
def remove(
    service: ServiceArgument, label: LabelArgument, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Remove a release and what was built for it. Refused while it runs, should run, or is routed to."""
    _documents(data).remove(service, label)
    if as_json:
        print_json({"service": service, "label": label, "removed": True})
    else:
        say(f"Removed {service}@{label}.")


@app.command()
def gc(
    keep: Annotated[int, typer.Option(min=0, help="How many unused ones a module keeps.")] = 5,
    days: Annotated[float, typer.Option(min=0, help="How long an unused one stays in any case.")] = 7.0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect releases that neither run nor should, the oldest first. `release add` does it, too."""
    from moonpool.upgrade.release import Retention

    gone = _documents(data).collect(Retention(keep=keep, age=days * DAY))
    if as_json:
        print_json({"object": "list", "data": [release.name for release in gone]})
    else:
        say(f"Collected {', '.join(release.name for release in gone) or 'nothing'}.")


def _documents(data: Path | None) -> "ReleaseDocuments":
    from moonpool.cli.release_documents import ReleaseDocuments

    return ReleaseDocuments(data)


def _known(data: Path | None) -> "Shelf":
    """What the supervisor knows, with a word about it when it may not be the newest."""
    from moonpool.contracts.documents.wire import CONFIG
    from moonpool.wiring.layout import Layout, default_data
    from moonpool.wiring.lock import holder
    from moonpool.wiring.shelf import Shelf

    layout = Layout(data or default_data())
    layout.create()
    shelf = Shelf(layout)
    if holder(layout) is None:
        say("No platform runs: this is what it knew last.")
    elif not any(one.name == CONFIG and one.state in ("ready", "degraded") for one in shelf.instances()):
        say(
            "The config server is away: this is what the supervisor knew last, and what runs goes on. "
            "Nothing can be added or removed until it is back."
        )
    return shelf


def _instances(shelf: "Shelf", release: "Release") -> "list[Instance]":
    return [
        one
        for one in shelf.instances()
        if (one.name, one.release) == (release.service, release.label) and one.state != "stopped"
    ]


def _told(shelf: "Shelf", release: "Release") -> dict[str, object]:
    import msgspec

    told: dict[str, object] = msgspec.to_builtins(release)
    return {
        **told,
        "replicas": shelf.desired().modules.get(release.service, {}).get(release.label, 0),
        "instances": msgspec.to_builtins(_instances(shelf, release)),
    }


def _show(shelf: "Shelf", rows: "list[tuple[Release, list[Instance]]]") -> None:

    from rich.table import Table
    from rich.text import Text

    from moonpool.cli.release_wish import source_words

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("module", "release", "source", "instances", "added", "note"):
        table.add_column(heading, overflow="fold")
    for release, instances in rows:
        states = [one.state for one in instances]
        counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        table.add_row(
            release.service,
            release.label,
            source_words(release),
            Text(counted or "-", STYLES.get(states[0], "") if states else ""),
            spell_moment(release.created or None, TO_THE_MINUTE),
            release.note,
        )
    console().print(table)
