"""`moonpool chat`: what is asked, what is printed, how it ends."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from moonpool.cli import api as api_module
from moonpool.cli import chat as chat_module
from moonpool.cli.answers import Models
from moonpool.cli.api import CommandFailed, Place
from moonpool.cli.chat import INTERRUPTED, Conversation
from moonpool.cli.completion import Completion, Turn, pieces


def chunk(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"
WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 3},
}


class FakeApi:
    """A platform with a model that says `chunks`; an exception among them is raised."""

    def __init__(self, *chunks: bytes | BaseException) -> None:
        self.chunks = chunks
        self.asked: list[Any] = []
        self.closed = 0

    def get(self, path: str, shape: Any, **_: object) -> Any:
        assert (path, shape) == ("/v1/models", Models)
        return json_decode(
            {
                "data": [
                    {"id": "m1", "created": 0, "owned_by": "x"},
                    {"id": "m2", "created": 0, "owned_by": "x"},
                ]
            },
            Models,
        )

    def post(self, path: str, shape: Any, body: Any) -> Any:
        self.asked.append(body)
        return json_decode(WHOLE, shape)

    def stream(self, path: str, body: Any) -> Iterator[bytes]:
        self.asked.append(body)
        try:
            for each in self.chunks:
                if isinstance(each, BaseException):
                    raise each
                yield each
        finally:
            self.closed += 1


def json_decode(value: Any, shape: Any) -> Any:
    import msgspec

    return msgspec.json.decode(json.dumps(value), type=shape)


def run(monkeypatch: pytest.MonkeyPatch, fake: FakeApi, *arguments: str, stdin: str = "") -> Any:
    import typer

    monkeypatch.setattr(api_module, "find", lambda *_: Place("http://x", "k"))
    monkeypatch.setattr(api_module, "Api", lambda _: fake)
    app = typer.Typer()
    app.command()(chat_module.chat)
    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_the_answer_goes_to_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeApi(chunk("Pa"), chunk("ris") + DONE)
    result = run(monkeypatch, fake, "Capital of France?", "--system", "Be brief.")
    assert (result.exit_code, result.stdout) == (0, "Paris\n")
    asked = fake.asked[0]
    assert (asked.model, asked.stream) == ("m1", True)
    assert asked.messages == [Turn("system", "Be brief."), Turn("user", "Capital of France?")]
    assert fake.closed == 1


def test_without_a_message_stdin_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeApi(chunk("x") + DONE)
    result = run(monkeypatch, fake, "--model", "m2", stdin="a long\ntext\n")
    assert result.exit_code == 0
    assert fake.asked[0].model == "m2"
    assert fake.asked[0].messages == [Turn("user", "a long\ntext")]


def test_nothing_to_ask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeApi()
    result = run(monkeypatch, fake, stdin=" \n")
    assert result.exit_code == 1
    assert "nothing to ask" in result.stderr
    assert fake.asked == []


def test_no_stream_prints_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeApi()
    result = run(monkeypatch, fake, "x", "--no-stream")
    assert (result.exit_code, result.stdout) == (0, "Paris\n")
    assert fake.asked[0].stream is False


def test_json_prints_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, FakeApi(), "x", "--json")
    assert json.loads(result.stdout) == WHOLE


def test_ctrl_c_stops_the_answer_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeApi(chunk("Half"), KeyboardInterrupt())
    result = run(monkeypatch, fake, "x")
    assert (result.exit_code, result.stdout) == (INTERRUPTED, "Half\n")
    assert fake.closed == 1


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk("Half")],
        [chunk("Half"), b'data: {"error":{"message":"stalled","code":"x"}}\n\n'],
        [chunk("Half"), b"data: rubbish\n\n"],
        [chunk("Half"), b"data: " + b"x" * 1_100_000],
    ],
)
def test_a_broken_answer_is_an_error_after_its_text(
    monkeypatch: pytest.MonkeyPatch, chunks: list[bytes]
) -> None:
    result = run(monkeypatch, FakeApi(*chunks), "x")
    assert result.stdout == "Half\n"
    assert isinstance(result.exception, CommandFailed)
    assert result.exception.exit_code == 5


def test_events_may_be_cut_anywhere() -> None:
    stream = b": hi\n\n" + chunk("é") + chunk("\n") + DONE + chunk("late")
    cut = [stream[n : n + 1] for n in range(len(stream))]
    assert "".join(pieces(cut)) == "é\n"


def test_a_conversation_remembers_what_was_answered() -> None:
    fake = FakeApi(chunk("1") + DONE)
    conversation = Conversation(fake, "m", [Turn("system", "s")])  # type: ignore[arg-type]
    assert conversation.ask("one", stream=True)
    fake.chunks = (CommandFailed("away", exit_code=5),)
    with pytest.raises(CommandFailed):
        conversation.ask("two", stream=True)
    fake.chunks = (chunk("3") + DONE,)
    conversation.ask("three", stream=True)
    assert [turn.content for turn in fake.asked[-1].messages] == ["s", "one", "1", "three"]
    conversation.restart()
    conversation.ask("four", stream=True)
    assert [turn.content for turn in fake.asked[-1].messages] == ["s", "four"]


def test_a_dialogue_goes_on_after_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeApi(CommandFailed("away", exit_code=5))
    lines = iter(["one", "", "/new", "two"])

    def read(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    chat_module._talk(Conversation(fake, "m", []), stream=True)  # type: ignore[arg-type]
    assert len(fake.asked) == 2
    assert capsys.readouterr().err.count("moonpool: away") == 2


def test_a_model_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    chat_module._print("a\x1b]0;title\x07\x9b2J\r\tb é\n")
    assert terminal.getvalue() == "a]0;title2J\tb é\n"


def test_the_first_model_that_chats_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeApi()
    kinds = {"e": ["embeddings"], "c": ["chat"]}
    models = {"data": [{"id": id, "created": 0, "owned_by": "x", "capabilities": kinds[id]} for id in kinds]}
    monkeypatch.setattr(fake, "get", lambda *_: json_decode(models, Models))
    assert chat_module._first_model(fake) == "c"  # type: ignore[arg-type]


def test_completions_without_choices_are_empty() -> None:
    empty = Completion(id="", object="", created=0, model="", choices=[])
    assert chat_module._content(empty) == ""
