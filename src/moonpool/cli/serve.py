"""`moonpool serve`: modules in this one process, what a container runs."""

import os
from typing import Annotated

import typer

from moonpool.cli.options import ConfigOption, DataOption


def serve(
    target: Annotated[
        str, typer.Option(metavar="NAME,…", help="Modules to run: gateway, or services by name.")
    ],
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ADDRESS",
            help="Where a target listens: http://HOST:PORT or unix:PATH. May be repeated; "
            "also $MOONPOOL_LISTEN, separated by commas.",
            show_default=False,
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ADDRESS",
            help="Where another module is reached. May be repeated; also $MOONPOOL_PEERS, "
            "separated by commas. Default: its socket in the same data folder.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Run modules in the foreground of this one process, without a supervisor.

    Logs go to stderr, one JSON object a line. SIGTERM drains. All processes of a platform need the same
    root secret: the same data folder, or the same $MOONPOOL_SECRET.

    **Examples**

    `moonpool serve --target=gateway --listen gateway=http://0.0.0.0:8080 --peer chat=http://chat:8081`

    `moonpool serve --target=chat,billing --listen chat=http://0.0.0.0:8081 --listen billing=http://0.0.0.0:8082`
    """
    from moonpool.wiring import serve as serving
    from moonpool.wiring.configuration import starting_config
    from moonpool.wiring.layout import Layout, default_data

    targets = tuple(name.strip() for name in target.split(",") if name.strip())
    if not targets:
        raise typer.BadParameter("name at least one module, for example gateway", param_hint="--target")
    path = str(config.absolute()) if config is not None else ""
    layout = Layout(data or default_data())
    document = starting_config(path, layout.run)
    gateway = document.gateway
    host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
    plan = serving.ServePlan(
        targets=targets,
        listen=_addresses(listen, "MOONPOOL_LISTEN", "--listen"),
        peers=_addresses(peer, "MOONPOOL_PEERS", "--peer"),
        public=f"{'https' if gateway.tls_certificate else 'http'}://{host}:{gateway.port}",
        config=path,
        drain_timeout=gateway.drain_seconds,
        log_level=document.telemetry.log_level,
    )
    raise typer.Exit(serving.serve(layout, plan))


def _addresses(given: list[str] | None, variable: str, option: str) -> dict[str, str]:
    """The variable's, overruled by the option's."""
    named = [part for part in os.environ.get(variable, "").split(",") if part.strip()]
    found = {}
    for text in (*named, *(given or ())):
        name, equals, address = text.strip().partition("=")
        if not equals or not name or not address:
            raise typer.BadParameter(f"{text!r} is not NAME=ADDRESS", param_hint=option)
        found[name] = address
    return found
