"""What may be a name."""

import re

import msgspec
import pytest

from moonpool.contracts.names import ONE_LINE
from moonpool.contracts.releases import Label, Variable
from moonpool.contracts.routing import Name
from moonpool.core.errors import BadRequest
from moonpool.openai.parse import parse
from moonpool.services.billing.schema import NewCredit
from moonpool.services.chat.schema import MessageId, NewConversation
from moonpool.services.training.schema import NewJob

ODD = ["\0", "a\0b", "a\n", "\r", "\t", "\x1b[2J", "\x7f", "\x9b", "a\u2028b"]


@pytest.mark.parametrize("name", ["", "laptop", "Ada Lovelace", "Löwe 🦁", "[/red]", "a\u200db"])
def test_one_line_of_printable_text(name: str) -> None:
    assert re.search(ONE_LINE, name)


@pytest.mark.parametrize("name", ODD)
def test_no_controls(name: str) -> None:
    assert not re.search(ONE_LINE, name)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(
    ("shape", "fields", "field"),
    [
        (NewConversation, {}, "title"),
        (NewConversation, {}, "model"),
        (NewCredit, {"amount": "1.00"}, "reference"),
        (NewCredit, {"amount": "1.00"}, "note"),
        (NewJob, {"model": "m", "training_file": "f"}, "suffix"),
    ],
)
def test_whatever_users_name_is_held_to_it(
    shape: type, fields: dict[str, str], field: str, name: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(msgspec.json.encode({**fields, field: f"a{name}"}), type=shape)
    msgspec.json.decode(msgspec.json.encode({**fields, field: "a"}), type=shape)


def test_a_name_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(BadRequest) as refused:
        parse(NewConversation, b'{"title": "a\\u0000"}')
    told = refused.value
    assert (told.param, told.code) == ("title", "invalid_value")
    assert "one line of text without control characters" in told.message


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Label, "v2"), (Name, "beta"), (Variable, "API_KEY"), (MessageId, "msg_" + "0" * 26)],
)
def test_a_word_ends_where_its_text_does(kind: object, text: str) -> None:
    assert msgspec.convert(text, kind) == text  # type: ignore[call-overload]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(f"{text}\n", kind)  # type: ignore[call-overload]
