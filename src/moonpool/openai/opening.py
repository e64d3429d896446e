"""What of a stream's beginning is content: up to there an answer can still be had from somebody else.

Comments (DeepSeek sends them while a request is queued) are none, and neither is the first event of a chat,
which only says that the assistant speaks: servers send it before they have begun to work.
"""

import re

import msgspec

from moonpool.core.errors import UpstreamMalformed
from moonpool.openai.reported import check

LARGEST = 32 * 1024
"""Bytes of the first event; what is longer is no chunk of a model's answer."""
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_ROLE = b'"role":'
_ERROR = b'"error"'
_NOTHING_YET = (
    b'"content":""',
    b'"content": ""',
    b'"content":null',
    b'"content": null',
    b'"delta":{"role":"assistant"}',
    b'"delta": {"role": "assistant"}',
)
_SOMETHING = re.compile(rb'"tool_calls":|"reasoning_content": ?"[^"]|"finish_reason": ?"')


def is_content(begun: bytes) -> bool:
    """Of a stream's bytes so far.

    Raises UpstreamMalformed when they are no events of JSON, and Reported when an error is told before any
    content.
    """
    if b"\r" in begun:
        begun = begun.replace(b"\r\n", b"\n")
    begun = begun.lstrip(b"\n")
    if begun and not begun.startswith(_FIELDS) and len(begun) > len(b"retry:"):
        raise UpstreamMalformed("the endpoint's stream is no stream of events")
    events = begun.split(b"\n\n")
    if len(events[-1]) > LARGEST:
        raise UpstreamMalformed(f"the endpoint's first event is larger than {LARGEST} bytes")
    # A block without data (a comment, `retry: 3000`) is no event: HTML standard, section 9.2.6.
    told = [event for event in events[:-1] if event.startswith(b"data:") or b"\ndata:" in event]
    if not told:
        return False
    first = told[0]
    _check(first)
    if _ROLE not in first or not any(mark in first for mark in _NOTHING_YET) or _SOMETHING.search(first):
        return True
    if len(told) > 1 and _ERROR in told[1]:
        _check(told[1])
    return len(told) > 1


def _check(event: bytes) -> None:
    data = b"".join(line[5:] for line in event.split(b"\n") if line.startswith(b"data:")).strip()
    if data == b"[DONE]":
        return
    try:
        check(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UpstreamMalformed("the endpoint's first event is no JSON object") from None
