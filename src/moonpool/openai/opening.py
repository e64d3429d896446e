"""What of a stream's beginning is content: up to there an answer can still be had from somebody else.

Comments (DeepSeek sends them while a request is queued) are none, and neither is the first event of a chat,
which only says that the assistant speaks: servers send it before they have begun to work.
"""

LOOKED_AT = 32 * 1024
"""Bytes without a whole event after which it is not waited any longer."""
_ROLE = b'"role":'
_NOTHING_YET = (
    b'"content":""',
    b'"content": ""',
    b'"content":null',
    b'"content": null',
    b'"delta":{"role":"assistant"}',
    b'"delta": {"role": "assistant"}',
)
_SOMETHING = (b'"tool_calls":', b'"reasoning_content":"', b'"finish_reason":"', b'"finish_reason": "')


def is_content(begun: bytes) -> bool:
    """Of a stream's bytes so far. Wrong guesses cost little: what is taken for content ends retrying early."""
    if b"\r" in begun:
        begun = begun.replace(b"\r\n", b"\n")
    if not begun.lstrip(b"\n").startswith((b":", b"data:")):
        return bool(begun.strip())
    events = [event.lstrip(b"\n") for event in begun.split(b"\n\n")[:-1]]
    told = [event for event in events if event and not event.startswith(b":")]
    if not told:
        return len(begun) >= LOOKED_AT
    first = told[0]
    if len(told) > 1 or _ROLE not in first or not any(mark in first for mark in _NOTHING_YET):
        return True
    return any(mark in first for mark in _SOMETHING)
