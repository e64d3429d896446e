"""`moonpool chat`: ask a model from the terminal."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from moonpool.cli.options import DataOption, JsonOption, KeyOption, UrlOption
from moonpool.cli.output import fail, print_json, say

if TYPE_CHECKING:
    from moonpool.cli.api import Api
    from moonpool.cli.completion import Completion, Turn

COMPLETIONS = "/v1/chat/completions"
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


def chat(
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="What to ask. Without it: stdin, or a dialogue.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="ALIAS", help="Default: the first of `moonpool models`.", show_default=False),
    ] = "",
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="The system prompt. Default: none.", show_default=False)
    ] = "",
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer when it is whole.")
    ] = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Ask a model. The answer goes to stdout as it comes; Ctrl-C stops it.

    **Examples**

    `moonpool chat "What is the capital of France?"`

    `git diff | moonpool chat --system "Write a commit message for this diff."`

    `moonpool chat` (a dialogue, on a terminal)
    """
    from moonpool.cli.api import Api, find
    from moonpool.cli.completion import Turn

    dialogue = message is None and sys.stdin.isatty() and not as_json
    text = "" if dialogue else sys.stdin.read().strip() if message is None else message.strip()
    if not dialogue and not text:
        fail('there is nothing to ask.\n  → `moonpool chat "What is the capital of France?"`')
    api = Api(find(data, url, key))
    conversation = Conversation(api, model or _first_model(api), [Turn("system", system)] if system else [])
    try:
        if dialogue:
            _talk(conversation, stream=not no_stream)
        elif as_json:
            print_json(conversation.complete(text))
        elif not conversation.ask(text, stream=not no_stream):
            raise typer.Exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read stdout has had enough
        sys.stdout = None  # or the interpreter would flush it and complain
        raise typer.Exit(0) from None


class Conversation:
    """Turns with one model. A question stays only when it got an answer."""

    def __init__(self, api: "Api", model: str, turns: "list[Turn]") -> None:
        self._api = api
        self._model = model
        self._opening = list(turns)
        self._turns = list(turns)

    def restart(self) -> None:
        self._turns = list(self._opening)

    def ask(self, text: str, *, stream: bool) -> bool:
        """Print the answer; whether it was not interrupted. Raises CommandFailed."""
        from moonpool.cli.completion import Turn

        said: list[str] = []
        whole = True
        try:
            for piece in self._stream(text) if stream else [_content(self.complete(text))]:
                said.append(piece)
                _print(piece)
        except KeyboardInterrupt:
            whole = False
        finally:
            if said or not whole:
                _print("\n")
        if said:
            self._turns += [Turn("user", text), Turn("assistant", "".join(said))]
        return whole

    def complete(self, text: str) -> "Completion":
        from moonpool.cli.completion import Completion, Request

        return self._api.post(COMPLETIONS, Completion, Request(self._model, self._with(text), False))

    def _stream(self, text: str) -> Iterator[str]:
        from moonpool.cli.completion import Request, pieces

        chunks = self._api.stream(COMPLETIONS, Request(self._model, self._with(text), True))
        try:
            yield from pieces(chunks)
        finally:
            chunks.close()  # leaving early must tell the platform

    def _with(self, text: str) -> "list[Turn]":
        from moonpool.cli.completion import Turn

        return [*self._turns, Turn("user", text)]


def _talk(conversation: Conversation, *, stream: bool) -> None:
    from contextlib import suppress

    from moonpool.core.errors import MoonpoolError

    with suppress(ImportError):  # gives input() its line editing and history where there is one
        import readline  # noqa: F401
    say("Ctrl-C stops an answer, Ctrl-D ends, /new starts over.")
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        if text == "/new":
            conversation.restart()
        elif text:
            try:
                conversation.ask(text, stream=stream)
            except MoonpoolError as error:  # one failed answer does not end a dialogue
                say(f"moonpool: {error}")


def _first_model(api: "Api") -> str:
    from moonpool.cli.answers import Models

    models = api.get("/v1/models", Models).data
    for model in models:
        if not model.capabilities or "chat" in model.capabilities:
            return model.id
    fail("this platform has no model to chat with.\n  → Add one to its configuration, under `models`.")


def _content(completion: "Completion") -> str:
    return completion.choices[0].message.content or "" if completion.choices else ""


def _print(text: str) -> None:
    """To a terminal without control characters: a model must not be able to steer it."""
    if sys.stdout.isatty():
        text = "".join(character for character in text if character in "\n\t" or character.isprintable())
    sys.stdout.write(text)
    sys.stdout.flush()
