"""`moonpool models`: what can be asked, and who answers."""

from typing import TYPE_CHECKING

from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import console, print_json

if TYPE_CHECKING:
    from moonpool.cli.answers import Model, Target
    from moonpool.cli.api import Api


def models(
    data: DataOption = None, url: UrlOption = "", key: KeyOption = "", as_json: JsonOption = False
) -> None:
    """List the models: alias, targets (for admins), context in tokens, capabilities.

    A target's id (`tgt_…`) is what `explain` calls it. More than one target: the first of the best
    `priority` (0 by default) that is well answers; `fallbacks` when none of them can.

    **Examples**

    `moonpool models`

    `moonpool models --json | jq -r '.data[].id'`
    """
    from moonpool.cli.api import Api, find

    found = _fetch(Api(find(data, url, key)))
    if as_json:
        print_json({"object": "list", "data": found})
    else:
        _show(found)


def _fetch(api: "Api") -> "list[Model]":
    """With targets if the key may see them."""
    from moonpool.cli.answers import Models
    from moonpool.cli.api import NOT_ALLOWED, CommandFailed

    try:
        return api.get("/admin/models", Models).data
    except CommandFailed as error:
        if error.exit_code != NOT_ALLOWED or error.code == "invalid_api_key":
            raise
    return api.get("/v1/models", Models).data


def _show(found: "list[Model]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "targets", "context", "capabilities", "fallbacks", "from"):
        table.add_column(heading)
    for model in found:
        table.add_row(
            model.id,
            "\n".join(map(_describe, model.targets or ())) or "-",
            str(model.context or "-"),
            " ".join(model.capabilities),
            " ".join(model.fallbacks) or "-",
            model.source or "-",
        )
    console().print(table)


def _describe(target: "Target") -> str:
    place = target.url or "local"
    share = f" priority {target.priority}" if target.priority else ""
    share += f" weight {target.weight}" if target.weight != 1 else ""
    return f"{target.id}  {place} ({target.model}){share}"
