"""`moonpool doctor`: what is wrong, and what to do about it."""

from typing import Annotated

import typer

from moonpool.cli.options import ConfigOption, DataOption, JsonOption
from moonpool.cli.output import console, print_json
from moonpool.cli.program import runnable

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def doctor(
    data: DataOption = None,
    config: ConfigOption = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The port to look at. Default: the configured one, 8080."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check Python, packages, weights, folder, disk, memory, limits, clock, port and the running platform.

    Changes nothing. Exit code 1 when something will not work.

    **Examples**

    `moonpool doctor`

    `moonpool doctor --config models.yaml --json`
    """
    from moonpool.wiring.configuration import starting_config
    from moonpool.wiring.diagnosis import Verdict, diagnose
    from moonpool.wiring.layout import Layout, default_data

    layout = Layout(data or default_data())
    document = starting_config(str(config.absolute()) if config is not None else "", layout.run)
    out = console()
    checks = []
    for check in diagnose(layout, document, port=port):
        checks.append(check)
        if not as_json:
            from rich.text import Text

            mark, style = MARKS[check.verdict]
            out.print(Text(f"{mark} {check.name:<11}", style) + Text(check.detail))
            if check.hint:
                out.print(Text(f"  → {runnable(check.hint)}", "dim"))
    healthy = all(check.verdict is not Verdict.FAIL for check in checks)
    if as_json:
        print_json({"healthy": healthy, "checks": checks})
    if not healthy:
        raise typer.Exit(1)
