"""`moonpool up`: start the platform."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import ConfigOption, DataOption, JsonOption
from moonpool.cli.output import fail, say

if TYPE_CHECKING:
    from moonpool.cli.progress import Progress
    from moonpool.wiring.layout import Layout
    from moonpool.wiring.supervisor import Plan


def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Where clients reach it. 0: any free port. Default: 8080",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on. Default: 127.0.0.1, this machine only.", show_default=False
        ),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="With --detach: return when every module is ready.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long --wait waits at most.")
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Start the platform: the gateway, the nine services and the config server, each a process.

    Prints the address and the admin's key (also kept in DIR/admin.key). In the foreground Ctrl-C drains
    and stops it; a second Ctrl-C does not wait.

    **Examples**

    `moonpool up` on port 8080, with the packaged model

    `moonpool up --config models.yaml --port 9000` with your own models

    `moonpool up --detach --wait` in the background, ready when it returns
    """
    from moonpool.cli.progress import Progress
    from moonpool.wiring.layout import Layout, default_data

    layout = Layout(data or default_data())
    plan = _plan(layout, config, host, port)
    progress = Progress(data=data, as_json=as_json, detached=detach, waits=wait)
    code = _background(layout, plan, progress, timeout if wait else None) if detach else None
    if code is None:
        code = _foreground(layout, plan, progress)
    if progress.failure:
        fail(progress.failure)
    raise typer.Exit(code)


def _plan(layout: "Layout", config: Path | None, host: str | None, port: int | None) -> "Plan":
    from moonpool.wiring.configuration import starting_config
    from moonpool.wiring.planning import make_plan
    from moonpool.wiring.preflight import check_first_start

    path = str(config.absolute()) if config is not None else ""
    settings = starting_config(path, layout.run)
    plan = make_plan(settings, path=path, host=host, port=port)
    check_first_start(layout, settings, plan)
    return plan


def _foreground(layout: "Layout", plan: "Plan", progress: "Progress") -> int:
    import asyncio

    from moonpool.wiring import logging as logs
    from moonpool.wiring.launch import run_platform

    layout.create()
    with layout.log("supervisor").open("ab") as log:
        logs.set_up(module="supervisor", instance="supervisor", level=plan.log_level, fd=log.fileno())
        with progress:
            return asyncio.run(run_platform(layout, plan, progress.report))


def _background(layout: "Layout", plan: "Plan", progress: "Progress", wait: float | None) -> int:
    """Follow the supervisor's reports until it listens, or with `wait` until all is ready."""
    from moonpool.cli.following import follow
    from moonpool.wiring.daemon import start_in_background

    pipe = start_in_background(layout, plan)
    log = layout.log("supervisor")
    try:
        with progress:
            done = follow(pipe, progress, until_ready=wait is not None, seconds=wait or 30.0)
    except KeyboardInterrupt:
        say("It goes on starting in the background: see `moonpool status`, stop it with `moonpool down`.")
        return 130
    if done is None:
        fail(f"the supervisor ended without a word; its last ones are in {log}")
    if not done:
        fail(
            f"not ready after {wait:g} s: {progress.waiting_for()}\n"
            "  → It goes on starting: see `moonpool status`; stop it with `moonpool down`."
        )
    return 0
