"""What the chat service promises, and the policies of its routes."""

from moonpool.contracts.manifest import BodyKind, Letters, Manifest, Remember, Route, Timeouts

ANSWER_SECONDS = 900.0
"""An answer that takes longer is stopped, whether its client is there or not."""
SCOPE = "chat"
_BODY_LIMIT = 4 * 1024 * 1024
_ONE = "/api/conversations/{conversation_id}"
_MESSAGE = _ONE + "/messages/{message_id}"
_ANSWER = Timeouts(total=ANSWER_SECONDS + 30.0, first_byte=300.0, between_bytes=120.0)
_JOIN = Timeouts(total=30.0, first_byte=300.0, between_bytes=120.0)
_READ = Timeouts(total=15.0, first_byte=10.0)


def _read(path: str, summary: str, method: str = "GET") -> Route:
    return Route(
        method=method,
        path=path,
        scope=SCOPE,
        body=BodyKind.NONE,
        timeouts=_READ,
        remember=Remember.CALLER if method == "GET" else Remember.NO,
        summary=summary,
    )


def _write(method: str, path: str, summary: str, timeouts: Timeouts = _READ) -> Route:
    return Route(
        method=method,
        path=path,
        scope=SCOPE,
        body=BodyKind.BUFFERED,
        body_limit=_BODY_LIMIT,
        timeouts=timeouts,
        letters=Letters.ASKED if method == "POST" else Letters.NO,
        summary=summary,
    )


MANIFEST = Manifest(
    service="chat",
    summary="Conversations: stored messages, streamed answers that survive their client",
    fallback="moonpool.services.chat.fallback:create",
    routes=(
        _write("POST", "/api/conversations", "Start a conversation"),
        _read("/api/conversations", "List conversations, the most recently used first"),
        _read(_ONE, "One conversation"),
        _write("PATCH", _ONE, "Rename a conversation"),
        _read(_ONE, "Delete a conversation with its messages", method="DELETE"),
        _read(_ONE + "/messages", "List a conversation's messages"),
        _write("POST", _ONE + "/messages", "Ask: store the message, stream and store the answer", _ANSWER),
        _write("POST", _ONE + "/exchanges", "Add a question with its answer that were had elsewhere"),
        _read(_MESSAGE, "One message"),
        Route(
            method="GET",
            path=_MESSAGE + "/stream",
            scope=SCOPE,
            body=BodyKind.NONE,
            timeouts=_JOIN,
            summary="Join an answer from its beginning",
        ),
        _read(_MESSAGE + "/cancel", "Stop a running answer", method="POST"),
    ),
    calls=("inference", "model", "billing"),
)
