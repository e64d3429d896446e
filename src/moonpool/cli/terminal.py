"""What commands draw tables on. Loads rich: commands come here through `output.console`."""

from typing import Any

from rich.console import Console
from rich.text import Text

from moonpool.cli.printable import printable


class Terminal(Console):
    """Shows what is stored as it stands: a name's `[` begins no markup, its ESC commands no terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)
