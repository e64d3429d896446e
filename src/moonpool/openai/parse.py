"""Bytes of a request → checked struct, or an error that says where the fault is and what to do.

On the hot path of every request: one decode into the struct, the check of `wellformed` (a second decode
only for documents with more in them than the struct took), the struct's own rules. The same bytes go on
to the upstream unchanged.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec

from moonpool.contracts.names import ONE_LINE
from moonpool.core.errors import BadRequest
from moonpool.openai import wellformed
from moonpool.openai.choices import choices
from moonpool.openai.kinds import kind_hint
from moonpool.openai.places import with_keys

S = TypeVar("S", bound=msgspec.Struct)

HINTS = {
    "role": "Roles are system, developer, user, assistant and tool.",
    "messages": 'Send a list like [{"role": "user", "content": "…"}].',
    "model": "GET /v1/models lists the models.",
    "stream": "Use true or false.",
    "seed": "Use a whole number of 64 bits.",
    "temperature": "Use a number from 0 to 2.",
    "top_p": "Use a number from 0 to 1.",
    "presence_penalty": "Use a number from -2 to 2.",
    "frequency_penalty": "Use a number from -2 to 2.",
    "stop": "Use a text or a list of up to 16 texts.",
    "n": "Use a whole number from 1 to 128.",
    "max_tokens": "Use a whole number of tokens.",
    "max_completion_tokens": "Use a whole number of tokens, at least 1.",
    "top_logprobs": "Use a whole number from 0 to 20.",
    "logit_bias": "Use token ids as keys and numbers from -100 to 100 as values.",
    "tool_choice": "Use none, auto, required, or name a function.",
    "response_format": "The type is text, json_object or json_schema.",
    "prompt": "Send a text, a list of texts, a list of tokens, or a list of lists of tokens.",
    "input": "Send a text, a list of texts, a list of tokens, or a list of lists of tokens.",
    "encoding_format": "Use float or base64.",
    "dimensions": "Use a whole number, at least 1.",
    "content": "Use a text or a list of parts.",
    "stream_options": 'Use an object like {"include_usage": true}.',
    "tools": 'Send a list like [{"type": "function", "function": {"name": "…", "parameters": {…}}}].',
    "functions": 'Send a list like [{"name": "…", "parameters": {…}}], or use tools.',
    "function_call": 'Use none, auto, or {"name": "…"}.',
    "prediction": 'Use an object like {"type": "content", "content": "…"}.',
    "metadata": "Use an object of texts.",
    "modalities": 'Use a list like ["text"].',
    "thinking": 'Use an object like {"type": "enabled"}.',
    "parameters": "Use an object, a JSON schema.",
}

_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>[^`]+)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]+)`$")
_NO_NAME = f"Expected `str` matching regex {ONE_LINE!r}"
_LAST_NAME = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])*$")


@lru_cache(maxsize=64)
def _decoder(schema: type[S]) -> msgspec.json.Decoder[S]:
    return msgspec.json.Decoder(schema)


def parse(schema: type[S], body: bytes, hints: Mapping[str, str] = HINTS) -> S:
    """The body as `schema`, whose own `check()`, where it has one, is called too. `hints` by field.

    Raises BadRequest with `param` in the manner of `messages[0].role`.
    """
    try:
        parsed: S = _decoder(schema).decode(body)
    except msgspec.ValidationError as error:
        wellformed.check(body)  # a duplicate key or a broken byte is the better explanation
        told = with_keys(schema, body, str(error))
        raise invalid(told, {**_words(schema, error), **hints}) from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not valid UTF-8.", code="invalid_encoding") from None
    except RecursionError:
        raise wellformed.too_deep() from None
    except msgspec.DecodeError as error:
        raise wellformed.malformed(error) from None
    deep = getattr(parsed, "open_ended", False) and wellformed.may_be_deep(body)
    if deep or not wellformed.is_all_of(body, parsed):
        wellformed.check(body)
    check: Callable[[], None] | None = getattr(parsed, "check", None)
    if check is not None:
        check()
    return parsed


def invalid(told: str, hints: Mapping[str, str] = HINTS) -> BadRequest:
    """A struct's mismatch, `told` as msgspec does, in the client's terms."""
    what, path = _apart(told)
    return mismatch(what, path, hints)


def _apart(told: str) -> tuple[str, str]:
    """What is wrong, and where; "" is the whole body."""
    match = _PATH.match(told)
    assert match is not None
    return match["what"], (match["path"] or "").lstrip(".")


def missing(path: str, hints: Mapping[str, str]) -> BadRequest:
    """For a parameter that has to be there."""
    return BadRequest(
        f"Missing required parameter: '{path}'.",
        code="missing_required_parameter",
        param=path,
        hint=_hint(path, hints),
    )


def mismatch(what: str, path: str, hints: Mapping[str, str]) -> BadRequest:
    """`what` in the words of msgspec, for the value at `path`; "" is the whole body."""
    lacking = _MISSING.match(what)
    if lacking is not None:
        return missing(_inside(path, lacking["name"]), hints)
    unknown = _UNKNOWN.match(what)
    if unknown is not None:
        path = _inside(path, unknown["name"])
        return BadRequest(
            f"There is no parameter '{path}' here.",
            code="unknown_parameter",
            param=path,
            hint="GET /openapi.json describes those there are.",
        )
    place = f"'{path}'" if path else "the body"
    return BadRequest(
        f"Invalid value for {place}: {_plain(what)}.",
        code=_code(what),
        param=path or None,
        hint=_own_hint(path, hints) or kind_hint(what) or _hint(path, hints),
    )


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _code(what: str) -> str:
    """A wrong kind of value reads "Expected `x`, got `y`"; all else is about the value."""
    return "invalid_type" if what.startswith("Expected") and ", got " in what else "invalid_value"


def _own_hint(path: str, hints: Mapping[str, str]) -> str | None:
    """That of the field itself, or of the list or mapping that it is an entry of."""
    name = _LAST_NAME.search(path)
    return None if name is None else hints.get(name[1])


def _hint(path: str, hints: Mapping[str, str]) -> str | None:
    """By the innermost field that has one: `stop[3]` and `messages[0].role` end in `stop` and `role`."""
    while path:
        name = _LAST_NAME.search(path)
        if name is None:
            return None
        if name[1] in hints:
            return hints[name[1]]
        path = path[: name.start()].rstrip(".")
    return None


def _words(schema: type[msgspec.Struct], error: msgspec.ValidationError) -> dict[str, str]:
    """A hint for the field that takes another word."""
    what, path = _apart(str(error))
    if not what.startswith("Invalid enum value"):
        return {}
    name, words = _LAST_NAME.search(path), choices(schema, path)
    return {name[1]: f"Use one of {', '.join(words)}."} if name is not None and words else {}


def _plain(what: str) -> str:
    """msgspec's words without its notation."""
    if what == _NO_NAME:
        return "expected one line of text without control characters"
    text = what.replace("`", "").replace("array", "list")
    return text[:1].lower() + text[1:]
