"""What JSON itself leaves open and msgspec lets pass: duplicate keys, depth, bytes that are not UTF-8.

Two parsers that disagree on a document are a way past every check of the first one (the last of two
equal keys wins here, the first one there), so such documents are refused (RFC 8259 section 4: names
SHOULD be unique). On the hot path: a few microseconds a kilobyte, and linear in the document.
"""

import json

import msgspec

from moonpool.core.errors import BadRequest

MAX_DEPTH = 64
"""Objects and arrays within each other; no documented request comes near it."""

MAX_STRINGS = 100_000
"""Names and texts of a document that has to be looked at a second time, by code that is much slower than the
first look and holds everybody else up: half a million took 0.6 s."""
MAX_BRACKETS = 500_000
"""The same for objects and arrays. Brackets in texts count, too: it is far beyond what prompts have."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def is_all_of(body: bytes, parsed: msgspec.Struct) -> bool:
    """Whether `parsed` holds everything that stands in `body`: then nothing in it was overwritten, skipped
    or unseen, and `check` has nothing to find but depth, where the struct leaves depth open.

    By the argument of `_marks`: `parsed`, whose structs omit their defaults and whose tags were all in the
    document, encodes to a part of it. What a client spells out needlessly (`"stop": null`), unknown fields
    and duplicates make the sums differ, and only then the generic look is taken.
    """
    return _marks(body) == _marks(_encode(parsed))


def may_be_deep(body: bytes) -> bool:
    """Whether there are enough brackets in `body` for more levels than are allowed."""
    return body.count(b"{") + body.count(b"[") > MAX_DEPTH


def check(body: bytes) -> None:
    """Raise BadRequest when `body`, known to be JSON, is one of the documents told of above.

    A duplicate key is found without looking at keys: decoded and encoded again, a document has lost
    the quotation marks of every member that a later one overwrote (see `_marks`).
    """
    if _marks(body) > 2 * MAX_STRINGS or body.count(b"{") + body.count(b"[") > MAX_BRACKETS:
        raise BadRequest(
            "The body has too many members.",
            code="too_many_members",
            hint=f"Send at most {MAX_STRINGS} names and texts.",
        )
    try:
        document = _decode(body)
        if _marks(body) != _marks(_encode(document)):
            _name_duplicate(body)
    except UnicodeDecodeError:
        raise BadRequest("The body is not valid UTF-8.", code="invalid_encoding") from None
    except RecursionError:
        raise too_deep() from None
    except msgspec.ValidationError:
        raise BadRequest(
            "The body holds a number out of range.", code="invalid_json", hint="Numbers must be finite."
        ) from None
    except msgspec.DecodeError as error:
        raise malformed(error) from None
    if may_be_deep(body):
        _check_depth(document)


def missing() -> BadRequest:
    return BadRequest("The request has no body.", code="missing_body", hint="Send a JSON object as the body.")


def malformed(error: msgspec.DecodeError) -> BadRequest:
    """What a client is told about a body that is not JSON."""
    message = str(error)
    reason = message.removeprefix("JSON is malformed: ")
    if "truncated" in reason:
        reason = "it ends too early or holds half of a surrogate pair"
    return BadRequest(
        f"The body is not valid JSON: {reason}.",
        code="invalid_json",
        hint="Send one JSON object, encoded as UTF-8.",
    )


def _marks(text: bytes) -> int:
    """Quotation marks without those that follow a backslash.

    A string counts 2, or 1 when it is spelled with `\\\\` at its end. Encoding spells a final
    backslash in just that way, so a string never counts more after a round trip than before; a member
    that was overwritten counted at least 1. Equal sums hence mean that nothing was lost.
    """
    marks = text.count(b'"')
    return marks - text.count(b'\\"') if b"\\" in text else marks


def _name_duplicate(body: bytes) -> None:
    """The exact and slower look: the sums also differ when a string ends in an odd spelling of `\\`."""

    def members(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRequest(
                    f"The key {json.dumps(key[:64])} appears twice in one object.",
                    code="duplicate_key",
                    param=key[:64],
                    hint="Every key may appear once.",
                )
            seen.add(key)

    json.loads(body, object_pairs_hook=members)


def _check_depth(document: object) -> None:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)  # type: ignore[attr-defined]
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise too_deep()


def too_deep() -> BadRequest:
    return BadRequest(
        f"The body is nested more than {MAX_DEPTH} levels deep.",
        code="nesting_too_deep",
        hint="Send fewer objects and lists within each other.",
    )
