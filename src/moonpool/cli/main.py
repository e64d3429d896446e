"""`moonpool`: the commands, and what becomes of their errors.

Loading this module must stay quick: everything but typer is imported by the command that needs it.
"""

import sys
from typing import Annotated

import typer

from moonpool.cli.billing import app as billing
from moonpool.cli.chat import chat
from moonpool.cli.config import app as config
from moonpool.cli.dlq import app as dlq
from moonpool.cli.doctor import doctor
from moonpool.cli.down import down
from moonpool.cli.explain import explain
from moonpool.cli.keys import app as keys
from moonpool.cli.models import models
from moonpool.cli.program import runnable
from moonpool.cli.release import app as release
from moonpool.cli.serve import serve
from moonpool.cli.status import status
from moonpool.cli.up import up
from moonpool.cli.upgrade import app as upgrade

EPILOG = "Start with `moonpool up`, then `moonpool chat`. When something is odd: `moonpool doctor`."

app = typer.Typer(
    name="moonpool",
    help="A self-hosted LLM platform behind one resilient gateway.",
    epilog=runnable(EPILOG),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
PLATFORM = "The platform"
app.command(rich_help_panel=PLATFORM)(up)
app.command(rich_help_panel=PLATFORM)(down)
app.command(rich_help_panel=PLATFORM)(status)
app.command(rich_help_panel=PLATFORM)(doctor)
app.command(rich_help_panel=PLATFORM)(serve)
app.add_typer(release, rich_help_panel=PLATFORM)
app.add_typer(config, rich_help_panel=PLATFORM)
app.add_typer(upgrade, rich_help_panel=PLATFORM)
USE = "Using it"
app.command(rich_help_panel=USE)(chat)
app.command(rich_help_panel=USE)(models)
app.add_typer(keys, rich_help_panel=USE)
app.add_typer(billing, rich_help_panel=USE)
app.command(rich_help_panel=USE)(explain)
app.add_typer(dlq, rich_help_panel=USE)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"moonpool {version('moonpool')}")
        except PackageNotFoundError:
            print("moonpool (from a source folder)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The program. Faults that can be foreseen end as one paragraph on stderr."""
    from moonpool.cli.printable import printable
    from moonpool.core.errors import MoonpoolError

    try:
        app()
    except MoonpoolError as error:
        hint = f"\n  → {error.hint}" if error.hint and error.hint not in str(error) else ""
        print(f"moonpool: {runnable(printable(f'{error}{hint}'))}", file=sys.stderr)
        sys.exit(_exit_code(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"moonpool: {place}{(error.strerror or str(error)).lower()}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells have it


def _exit_code(error: Exception) -> int:
    from moonpool.cli.api import CommandFailed

    return error.exit_code if isinstance(error, CommandFailed) else 1


if __name__ == "__main__":
    main()
