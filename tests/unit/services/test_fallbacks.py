"""Every service's degraded twin: what all have in common, and the smaller ones whole."""

import subprocess
import sys

import msgspec
import pytest

from harness.twins import CAUSE, Twin
from moonpool.contracts.config import SERVICES
from moonpool.contracts.manifest import Access, Remember
from moonpool.core.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionReset,
    FirstByteTimeout,
    Overloaded,
    PlatformError,
    Unavailable,
)
from moonpool.core.message import Request
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

SHARED = {"/", "/assets/{path:path}", "/v1/models", "/v1/models/{model:path}"}
"""What is the same whoever asks: a new one here is a decision about privacy."""


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_one_and_remembers_with_care(service: str) -> None:
    twin = Twin(service)
    for route in twin.manifest.routes:
        if route.remember is not Remember.NO:
            assert route.method == "GET"
        if route.remember is Remember.EVERYONE:
            assert route.path in SHARED
            assert route.access is not Access.ADMIN


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("user", "/api/users/me"),
        ("chat", "/api/conversations"),
        ("model", "/v1/models"),
        ("training", "/v1/fine_tuning/jobs"),
        ("monitoring", "/api/monitoring/health"),
        ("storage", "/v1/files"),
        ("billing", "/api/billing/usage"),
        ("auth", "/api/auth/me"),
    ],
)
async def test_reads_are_answered_from_what_is_known(service: str, path: str) -> None:
    twin = Twin(service)
    assert await twin.ask("GET", path) is None
    twin.remember(path, b'{"known":1}', query="limit=5")
    answer = await twin.ask("GET", path, query="limit=5")
    assert answer is not None
    assert (answer.status, answer.body, answer.header(b"age")) == (200, b'{"known":1}', b"60")
    assert await twin.ask("GET", path, query="limit=6") is None
    assert twin.fallback.degraded(twin.context("GET", path), Request("GET", path), CAUSE) is None


@pytest.mark.parametrize(
    ("service", "method", "path", "code"),
    [
        ("user", "PATCH", "/api/users/me", "read_only"),
        ("auth", "POST", "/api/auth/keys", "read_only"),
        ("auth", "DELETE", "/api/auth/keys/{key_id}", "not_revoked"),
        ("storage", "POST", "/v1/files", "upload_refused"),
        ("storage", "DELETE", "/v1/files/{file_id}", "read_only"),
        ("model", "PUT", "/admin/models/{model:path}", "read_only"),
        ("chat", "PATCH", "/api/conversations/{conversation_id}", "read_only"),
        ("training", "POST", "/v1/fine_tuning/jobs/{job_id}/cancel", "read_only"),
    ],
)
async def test_writes_are_told_when_to_try_again(service: str, method: str, path: str, code: str) -> None:
    twin = Twin(service)
    with pytest.raises(Unavailable) as raised:
        await twin.ask(method, path, b"{}")
    assert (raised.value.code, raised.value.retry_after) == (code, 5.0)
    assert twin.later.kept == []


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (Unavailable("the disk is full"), "Nothing was changed."),
        (ConnectFailed("cannot connect"), "Nothing was changed."),
        (ConnectionReset("closed the connection"), "the change may have been made"),
        (FirstByteTimeout("did not answer"), "the change may have been made"),
    ],
)
async def test_a_refused_write_tells_why_and_whether_it_may_have_been_done(
    cause: PlatformError, told: str
) -> None:
    twin = Twin("user")
    request = Request("PATCH", "/api/users/me", body=b"{}")
    with pytest.raises(Unavailable) as raised:
        await twin.fallback.answer(twin.context("PATCH", "/api/users/me"), request, cause)

    assert raised.value.message == f"profiles are read-only for the moment: {cause.message}"
    assert told in (raised.value.hint or "")


async def test_a_model_is_found_in_the_list() -> None:
    twin = Twin("model")
    twin.remember("/v1/models", b'{"object":"list","data":[{"id":"a/b","x":1},{"id":"c"}]}')
    answer = await twin.ask("GET", "/v1/models/{model:path}", model="a/b")
    assert answer is not None
    assert (answer.body, answer.header(b"age")) == (b'{"id":"a/b","x":1}', b"60")
    assert await twin.ask("GET", "/v1/models/{model:path}", model="b") is None


async def test_a_training_job_is_accepted_and_kept() -> None:
    twin = Twin("training")
    body = b'{"model":"m","training_file":"file-1"}'
    answer = await twin.ask("POST", "/v1/fine_tuning/jobs", body)
    assert answer is not None
    assert (answer.status, answer.header(b"location")) == (202, b"/v1/deferred/dl_1")
    told = msgspec.json.decode(answer.body)
    assert (told["id"], told["object"], told["status"]) == ("dl_1", "deferred", "queued")
    ((request, route),) = twin.later.kept
    assert (request.body, route) == (body, "/v1/fine_tuning/jobs")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b"[" * 9000, b'{"model":"m","training_file":7}', b'{"model":"\xff"}', b"\xff"]
)
async def test_what_training_would_refuse_is_not_kept(body: bytes) -> None:
    twin = Twin("training")
    with pytest.raises(BadRequest):
        await twin.ask("POST", "/v1/fine_tuning/jobs", body)
    assert twin.later.kept == []


async def test_a_job_that_cannot_be_kept_is_not_accepted() -> None:
    twin = Twin("training")
    twin.later.full = Overloaded("full")
    with pytest.raises(Overloaded):
        await twin.ask("POST", "/v1/fine_tuning/jobs", b'{"model":"m","training_file":"f"}')


def degraded(path: str, payload: object):
    twin = Twin("inference")
    ctx = twin.context("POST", path)
    ctx.payload = payload
    return twin.fallback.degraded(ctx, Request("POST", path), CAUSE)


CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]'


@pytest.mark.parametrize(
    ("path", "payload", "kind"),
    [
        ("/v1/chat/completions", parse(ChatCompletionRequest, CHAT + b"}"), "chat.completion"),
        (
            "/v1/chat/completions",
            parse(ChatCompletionRequest, CHAT + b',"stream":true}'),
            "chat.completion.chunk",
        ),
        ("/v1/completions", parse(CompletionRequest, b'{"model":"m","prompt":"x"}'), "text_completion"),
        (
            "/v1/completions",
            parse(CompletionRequest, b'{"model":"m","prompt":"x","stream":true}'),
            "text_completion",
        ),
    ],
)
def test_a_degraded_completion_is_valid_and_says_so(path: str, payload: object, kind: str) -> None:
    response = degraded(path, payload)
    body = response.body
    if payload.stream:
        assert response.header(b"content-type") == b"text/event-stream"
        assert body.endswith(b"\n\ndata: [DONE]\n\n")
        body = body.removeprefix(b"data: ").partition(b"\n\n")[0]
    told = msgspec.json.decode(body)
    assert (told["object"], told["model"], told["degraded"]["cause"]) == (
        kind,
        "m",
        "upstream_connect_failed",
    )
    (choice,) = told["choices"]
    text = choice.get("text") or (choice.get("message") or choice.get("delta"))["content"]
    assert "not available" in text
    assert choice["finish_reason"] == "stop"
    assert told["usage"] is None if payload.stream else told["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("/v1/embeddings", parse(EmbeddingRequest, b'{"model":"m","input":"x"}')),
        (
            "/v1/chat/completions",
            parse(ChatCompletionRequest, CHAT + b',"response_format":{"type":"json_object"}}'),
        ),
        ("/v1/chat/completions", parse(ChatCompletionRequest, CHAT + b',"n":2}')),
    ],
)
def test_where_a_program_reads_there_is_no_object(path: str, payload: object) -> None:
    assert degraded(path, payload) is None


def test_fallbacks_are_light() -> None:
    """They are loaded into every gateway: no web framework, no database."""
    names = ", ".join(f"moonpool.services.{service}.fallback" for service in SERVICES)
    heavy = "{'litestar', 'sqlalchemy', 'aiosqlite', 'uvicorn'}"
    code = (
        f"import sys, {names}; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
