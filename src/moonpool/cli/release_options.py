"""What `moonpool release` takes: everything that makes a release what it is."""

from pathlib import Path
from typing import Annotated

import typer

ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="A service, or gateway.")]
LabelArgument = Annotated[str, typer.Argument(metavar="LABEL", help="As `release list` shows it.")]
NewLabelArgument = Annotated[
    str, typer.Argument(metavar="[LABEL]", help="Its name. Default: the next of v2, v3, …")
]
WheelOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="WHEEL", help="Build a virtual environment from it.", show_default=False),
]
EnvironmentOption = Annotated[
    Path | None,
    typer.Option("--venv", metavar="DIR", help="A virtual environment that is there.", show_default=False),
]
CommandOption = Annotated[
    str,
    typer.Option(
        metavar="'PROGRAM …'",
        help="Serves HTTP on the socket it inherits (LISTEN_FDS), or on {socket} or {port}.",
        show_default=False,
    ),
]
ReadyPathOption = Annotated[
    str, typer.Option(metavar="PATH", help="With --command: what it answers with 2xx when it is ready.")
]
FolderOption = Annotated[
    str, typer.Option(metavar="DIR", help="With --command: where it runs.", show_default=False)
]
EndpointOption = Annotated[
    str,
    typer.Option(metavar="URL", help="An OpenAI-compatible endpoint (inference only).", show_default=False),
]
ModelOption = Annotated[
    str, typer.Option(metavar="NAME", help="With --url: the model's name there.", show_default=False)
]
ApiKeyEnvOption = Annotated[
    str,
    typer.Option(metavar="VARIABLE", help="With --url: names the variable with its key.", show_default=False),
]
PriceOption = Annotated[
    str,
    typer.Option(
        metavar="KIND=NUMBER,…",
        help="With --url: what a million tokens cost there, such as prompt=0.27,completion=1.10.",
        show_default=False,
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of this release, such as engine.slots=8; values are YAML (repeat for more).",
        show_default=False,
    ),
]
VariablesOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="Of its environment (repeat).", show_default=False),
]
ReplicasOption = Annotated[
    int | None, typer.Option(min=1, help="Instances of it, when it has all of the traffic.")
]
NoteOption = Annotated[str, typer.Option(help="Why it is there.", show_default=False)]
