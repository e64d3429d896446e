"""How `moonpool config` reaches the documents: through the gateway, straight to the config server, or, when
nothing runs, on the disk."""

from pathlib import Path
from typing import TYPE_CHECKING

from moonpool.cli.output import say

if TYPE_CHECKING:
    from moonpool.cli.api import Api
    from moonpool.configserver.views import DocumentView

PATH = "/admin/config"


def documents_api(data: Path | None, url: str, key: str) -> "Api":
    """With --url through the gateway; else the data folder's config server itself, whatever else is down."""
    from moonpool.cli.api import NOT_ALLOWED, NOT_RUNNING, Api, CommandFailed, Place, find
    from moonpool.core.errors import Unavailable
    from moonpool.wiring.layout import Layout, default_data
    from moonpool.wiring.operator import config_server

    if url:
        return Api(find(data, url, key))
    layout = Layout(data or default_data())
    try:
        direct = config_server(layout)
    except Unavailable as error:
        hint = "Start it with `moonpool up`, or name another one with --data DIR or --url URL."
        raise CommandFailed(error.message, exit_code=NOT_RUNNING, hint=hint) from None
    except OSError as error:
        raise CommandFailed(
            f"{error.filename}: {(error.strerror or str(error)).lower()}",
            exit_code=NOT_ALLOWED,
            hint="Ask as the user who runs the platform, or through the gateway with --url URL --key KEY.",
        ) from None
    return Api(Place(direct.endpoint, "", direct.context))


def read_document(
    document: str, version: int | None, data: Path | None, url: str, key: str
) -> "DocumentView":
    """From the config server, or what a platform that does not run has known last."""
    from moonpool.cli.api import NOT_RUNNING, CommandFailed
    from moonpool.configserver.views import DocumentView
    from moonpool.wiring.layout import Layout, default_data
    from moonpool.wiring.operator import last_known

    try:
        return documents_api(data, url, key).get(
            f"{PATH}/documents/{document}", DocumentView, version=version
        )
    except CommandFailed as error:
        if error.exit_code != NOT_RUNNING or url:
            raise
        known = last_known(Layout(data or default_data()))
        kept = known.find(document) if known else None
        if kept is None or version not in (None, kept.version):
            raise
    say("No platform runs: this is what it knew last.")
    return DocumentView(
        name=kept.name,
        version=kept.version,
        author=kept.author,
        reason=kept.reason,
        at=kept.at,
        content=kept.content,
    )
