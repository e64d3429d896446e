"""Options that several commands take, so that they are called and explained the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="MOONPOOL_DATA",
        help="Which platform: the folder that holds all it keeps. Default: ~/.moonpool",
        show_default=False,
        show_envvar=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object, for scripts.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The platform's configuration (YAML).", show_default=False),
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="MOONPOOL_URL",
        help="Where the gateway is. Default: where the data folder's platform has it.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="MOONPOOL_API_KEY",
        help="The API key. Default: the data folder's admin.key.",
        show_default=False,
    ),
]
