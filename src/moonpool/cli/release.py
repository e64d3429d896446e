"""`moonpool release`: versions of modules that can run side by side."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption
from moonpool.cli.output import STYLES, console, print_json, say

if TYPE_CHECKING:
    from moonpool.cli.release_wish import Wish
    from moonpool.contracts.releases import Release
    from moonpool.ports.discovery import Instance
    from moonpool.wiring.shelf import Shelf

app = typer.Typer(name="release", help="Add, list, show and remove releases.", no_args_is_help=True)
ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="A service, or gateway.")]
LabelArgument = Annotated[str, typer.Argument(metavar="LABEL", help="As `release list` shows it.")]
DAY = 86_400.0


@app.command()
def add(
    service: ServiceArgument,
    label: Annotated[
        str, typer.Argument(metavar="[LABEL]", help="Its name. Default: the next of v2, v3, …")
    ] = "",
    wheel: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="WHEEL", help="Build a virtual environment from it.", show_default=False
        ),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(
            "--venv", metavar="DIR", help="A virtual environment that is there.", show_default=False
        ),
    ] = None,
    command: Annotated[
        str,
        typer.Option(
            metavar="'PROGRAM …'",
            help="Serves HTTP on the socket it inherits (LISTEN_FDS), or on {socket} or {port}.",
            show_default=False,
        ),
    ] = "",
    ready_path: Annotated[
        str, typer.Option(metavar="PATH", help="With --command: what it answers with 2xx when it is ready.")
    ] = "/readyz",
    folder: Annotated[
        str, typer.Option(metavar="DIR", help="With --command: where it runs.", show_default=False)
    ] = "",
    url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="An OpenAI-compatible endpoint (inference only).", show_default=False
        ),
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="With --url: the model's name there.", show_default=False)
    ] = "",
    api_key_env: Annotated[
        str,
        typer.Option(
            metavar="VARIABLE", help="With --url: names the variable with its key.", show_default=False
        ),
    ] = "",
    price: Annotated[
        str,
        typer.Option(
            metavar="KIND=NUMBER,…",
            help="With --url: what a million tokens cost there, such as prompt=0.27,completion=1.10.",
            show_default=False,
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of this release, such as engine.slots=8; values are YAML (repeat for more).",
            show_default=False,
        ),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Of its environment (repeat).", show_default=False),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Instances of it, when it has all of the traffic.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why it is there.", show_default=False)] = "",
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
    release, gone = _add(_shelf(data), wish)
    for old in gone:
        say(f"Collected {old.name}, which was not used any more.")
    if as_json:
        print_json(release)
    else:
        say(f"Added {release.name}. Start it with `moonpool upgrade start {service} --to {release.label}`.")


def _add(shelf: "Shelf", wish: "Wish") -> "tuple[Release, tuple[Release, ...]]":
    from moonpool.cli.release_wish import release_of
    from moonpool.contracts.releases import EnvironmentSource
    from moonpool.upgrade.release import Retention, labels_of
    from moonpool.wiring.building import from_environment, from_wheel
    from moonpool.wiring.shelf import known_module

    known_module(wish.service)
    now = time.time()
    release = release_of(wish, labels_of(shelf.releases(), wish.service), now)
    shelf.check(release, built=wish.wheel is None)
    if wish.wheel is not None:
        release = from_wheel(shelf, release, wish.wheel, say)
    elif isinstance(release.source, EnvironmentSource):
        release = from_environment(release)
    return shelf.add(release, now), shelf.collect(now, Retention())


@app.command("list")
def list_releases(
    service: Annotated[str, typer.Argument(metavar="[SERVICE]", help="Of this module only.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List releases, oldest first, and what runs of each."""
    shelf = _shelf(data)
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

    shelf = _shelf(data)
    told = _told(shelf, shelf.find(service, label))
    if as_json:
        print_json(told)
    else:
        print(msgspec.yaml.encode(told).decode(), end="")


@app.command()
def remove(service: ServiceArgument, label: LabelArgument, data: DataOption = None) -> None:
    """Remove a release and what was built for it. Refused while it runs or should run."""
    _shelf(data).remove(service, label)
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

    gone = _shelf(data).collect(time.time(), Retention(keep=keep, age=days * DAY))
    if as_json:
        print_json({"object": "list", "data": [release.name for release in gone]})
    else:
        say(f"Collected {', '.join(release.name for release in gone) or 'nothing'}.")


def _shelf(data: Path | None) -> "Shelf":
    from moonpool.wiring.layout import Layout, default_data
    from moonpool.wiring.shelf import Shelf

    layout = Layout(data or default_data())
    layout.create()
    return Shelf(layout)


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
    from datetime import datetime

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
            datetime.fromtimestamp(release.created).strftime("%Y-%m-%d %H:%M") if release.created else "-",
            release.note,
        )
    console().print(table)
