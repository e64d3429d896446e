"""`moonpool upgrade`: from one release of a service to another, watched."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import console, fail, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from moonpool.cli.api import Api
    from moonpool.contracts.upgrades import UpgradePlan, UpgradeView

PATH = "/admin/upgrades"
EVERY = 0.5
"""Seconds between two looks at an upgrade that is watched. Asked, not streamed: a watch outlives the gateway
that is itself upgraded."""
PATIENCE = 60.0
"""Seconds without any answer after which a watch gives up."""
ROLLED_BACK = 6
"""Exit code: the new release was not kept."""
WAITS = 7
"""Exit code: the upgrade waits for a person."""

BEGIN = "`moonpool upgrade start SERVICE --to LABEL` begins one; `moonpool release list` shows the labels."

app = typer.Typer(
    name="upgrade",
    help="Move a service from one release to another, step by step; it goes back by itself on evidence. "
    "Releases come from `moonpool release add`.",
    no_args_is_help=True,
)
ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="A service, or an upgrade's id.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="For the history.", show_default=False)]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it has ended or waits for a person.")]


@app.command()
def start(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A service, or gateway.")],
    to: Annotated[str, typer.Option("--to", metavar="LABEL", help="The release, see `release list`.")],
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="rolling, blue-green, canary, ab or shadow. Default: the plan's, or canary."
        ),
    ] = "",
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How to go about it (YAML).", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")] = False,
    reason: ReasonOption = "",
    wait: WaitOption = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Start an upgrade: one at a time for each service.

    With --wait the exit code tells the end: 0 the new release carries everything, 6 it was rolled back,
    7 the upgrade waits for a person.

    **Examples**

    `moonpool upgrade start chat --to v2 --strategy canary --wait`

    `moonpool upgrade start inference --to v3 --plan plan.yaml --dry-run`
    """
    from moonpool.cli.api import Api, find
    from moonpool.contracts.upgrades import Rehearsal, StartUpgrade, UpgradeView

    wish = StartUpgrade(service=service, to=to, plan=_plan(plan, strategy), reason=reason, dry_run=dry_run)
    api = Api(find(data, url, key))
    if dry_run:
        told = api.post(PATH, Rehearsal, wish)
        if as_json:
            print_json(told)
            return
        for number, line in enumerate(told.steps, 1):
            print(f"{number:3}. {line}")
        return
    view = api.post(PATH, UpgradeView, wish)
    if wait:
        view = _follow(api, view.id, live=not as_json)
    _answer(view, as_json)
    if wait:
        raise typer.Exit(_exit_code(view))


@app.command()
def status(
    service: Annotated[str, typer.Argument(metavar="[SERVICE]", help="A service, or an upgrade's id.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it until it ends.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most this many.")] = 20,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show upgrades, or one with its way, both releases' numbers and the verdict so far."""
    from moonpool.cli.api import Api, find
    from moonpool.cli.upgrade_view import upgrades_table
    from moonpool.contracts.upgrades import UpgradePage, UpgradeView

    api = Api(find(data, url, key))
    if service:
        view = api.get(_path(service), UpgradeView)
        if watch:
            view = _follow(api, view.id, live=not as_json)
        _answer(view, as_json)
        return
    page = api.get(PATH, UpgradePage, limit=limit)
    running = [one for one in page.data if one.ended_at is None]
    if watch and running:
        _answer(_follow(api, running[0].id, live=not as_json), as_json)
    elif as_json:
        print_json(page)
    elif not page.data:
        say(f"There were no upgrades yet.\n  → {BEGIN}")
    else:
        console().print(upgrades_table(page.data))


@app.command()
def pause(
    service: ServiceArgument,
    reason: ReasonOption = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Pause an upgrade: it stays at its step, and still rolls back by itself when the new release fails."""
    _order("pause", service, reason, data, url, key, as_json)


@app.command()
def resume(
    service: ServiceArgument,
    reason: ReasonOption = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Resume an upgrade that is paused. Its step begins anew."""
    _order("resume", service, reason, data, url, key, as_json)


@app.command()
def promote(
    service: ServiceArgument,
    reason: ReasonOption = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Promote the new release now: everything goes to it, without the steps that are left."""
    _order("promote", service, reason, data, url, key, as_json)


@app.command()
def abort(
    service: ServiceArgument,
    reason: ReasonOption = "",
    wait: WaitOption = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Abort an upgrade that runs: back to the old release, at once."""
    _order("abort", service, reason, data, url, key, as_json, wait=wait)


@app.command()
def rollback(
    service: ServiceArgument,
    reason: ReasonOption = "",
    wait: WaitOption = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Roll back: abort an upgrade that runs; undo one that is done by another in the other direction."""
    _order("rollback", service, reason, data, url, key, as_json, wait=wait)


@app.command()
def history(
    service: Annotated[str, typer.Argument(metavar="[SERVICE]", help="A service, or an upgrade's id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most this many.")] = 50,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show who did what, when, why, and on what evidence; the newest first."""
    from moonpool.cli.api import Api, find
    from moonpool.cli.upgrade_view import history_lines
    from moonpool.contracts.upgrades import EventPage

    by = "upgrade" if service.startswith("up_") else "service"
    page = Api(find(data, url, key)).get(PATH + "/history", EventPage, limit=limit, **{by: service or None})
    if as_json:
        print_json(page)
        return
    if not page.data:
        say(f"There were no upgrades{f' of {service}' if service else ''} yet.\n  → {BEGIN}")
    for line in history_lines(page.data):
        console().print(line, markup=False)


@app.command()
def experiment(
    service: ServiceArgument,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare the two releases of an upgrade: exposure, effects with intervals, what to do."""
    from moonpool.cli.api import Api, find
    from moonpool.cli.upgrade_view import experiment_text
    from moonpool.contracts.upgrades import ExperimentView

    found = Api(find(data, url, key)).get(_path(service) + "/experiment", ExperimentView)
    if as_json:
        print_json(found)
        return
    console().print(experiment_text(found))


def _plan(file: Path | None, strategy: str) -> "UpgradePlan":
    import msgspec

    from moonpool.contracts.upgrades import Strategy, UpgradePlan

    if file is None:
        plan = UpgradePlan()
    else:
        from moonpool.wiring.plans import load_plan

        plan = load_plan(file)
    if not strategy:
        return plan
    if strategy not in list(Strategy):
        fail(f"there is no strategy {strategy!r}.\n  → Known are {', '.join(Strategy)}.", 2)
    return msgspec.structs.replace(plan, strategy=Strategy(strategy))


def _order(
    word: str,
    service: str,
    reason: str,
    data: Path | None,
    url: str,
    key: str,
    as_json: bool,
    *,
    wait: bool = False,
) -> None:
    from moonpool.cli.api import Api, find
    from moonpool.contracts.upgrades import Order, UpgradeView

    api = Api(find(data, url, key))
    view = api.post(f"{_path(service)}/{word}", UpgradeView, Order(reason=reason))
    if wait:
        view = _follow(api, view.id, live=not as_json)
    _answer(view, as_json)


def _follow(api: "Api", id: str, *, live: bool) -> "UpgradeView":
    """Until it has ended or waits for a person; drawn where there is a terminal."""
    from rich.live import Live

    from moonpool.cli.upgrade_view import upgrade_text

    screen = console(stderr=True)
    if not live or not screen.is_terminal:
        return _poll(api, id, lambda view: None)
    with Live(console=screen, refresh_per_second=4, transient=True) as drawing:
        return _poll(api, id, lambda view: drawing.update(upgrade_text(view)))


def _poll(api: "Api", id: str, show: "Callable[[UpgradeView], None]") -> "UpgradeView":
    from moonpool.cli.api import FAILED, NOT_RUNNING, CommandFailed
    from moonpool.contracts.upgrades import UpgradeView

    heard = time.monotonic()
    while True:
        try:
            view = api.get(_path(id), UpgradeView)
        except CommandFailed as error:  # the manager or the gateway is just being replaced
            if error.exit_code not in (FAILED, NOT_RUNNING) or time.monotonic() - heard > PATIENCE:
                raise
        else:
            heard = time.monotonic()
            show(view)
            if view.ended_at is not None or view.phase == "paused" or _held(view):
                return view
        time.sleep(EVERY)


def _held(view: "UpgradeView") -> bool:
    return view.waiting_for == "the experiment to be concluded" and not view.plan.conclude


def _exit_code(view: "UpgradeView") -> int:
    if view.ended_at is None:
        return WAITS
    return ROLLED_BACK if view.outcome == "rolled_back" else 0


def _answer(view: "UpgradeView", as_json: bool) -> None:
    from moonpool.cli.upgrade_view import upgrade_text

    if as_json:
        print_json(view)
        return
    console().print(upgrade_text(view))


def _path(name: str) -> str:
    from urllib.parse import quote

    return f"{PATH}/{quote(name, safe='')}"
