"""What a platform shows beside the models: its health, itself, its traces, its books."""

import json

import pytest

from harness.platform import MODULES, SERVICES, UNCACHED, Answer, Platform, wait_until

pytestmark = pytest.mark.real_model


def test_every_module_is_ready_in_a_process_of_its_own(platform: Platform) -> None:
    modules = platform.modules()

    assert set(modules) == MODULES
    assert {module["state"] for module in modules.values()} == {"ready"}
    assert len({module["pid"] for module in modules.values()}) == len(MODULES)
    assert all(module["endpoint"] and module["release"] for module in modules.values())


def test_the_gateway_tells_its_health_to_anybody(platform: Platform) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        assert platform.request("GET", path, key="").status == 200
    health = platform.request("GET", "/healthz", key="").json()
    assert set(health["services"]) == SERVICES


def test_metrics_of_every_service_are_in_one_place(platform: Platform) -> None:
    metrics = platform.request("GET", "/metrics").body.decode()

    assert "moonpool_" in metrics
    assert all(name in metrics for name in ("gateway", "inference", "billing"))


def test_the_api_describes_itself(platform: Platform) -> None:
    document = platform.request("GET", "/openapi.json", key="").json()

    assert document["openapi"].startswith("3.")
    assert {"/v1/chat/completions", "/v1/models", "/api/auth/keys"} <= set(document["paths"])


def test_an_answer_can_be_explained(platform: Platform) -> None:
    answer = platform.chat("Hi", max_tokens=2)
    request_id = answer.headers["x-request-id"]

    record = wait_until(
        lambda: (found := platform.request("GET", f"/admin/requests/{request_id}")).status == 200 and found,
        "monitoring has the request",
    ).json()

    assert record["id"] == request_id
    assert record["status"] == 200
    filters = {decision["filter"] for decision in record["decisions"]}
    assert "authentication" in filters
    assert record["attempts"]
    assert platform.key not in json.dumps(record)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_billed_once_with_its_tokens(platform: Platform, stream: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer = platform.chat(
        "Say hello.", headers=UNCACHED, max_tokens=6, temperature=0, stream=stream, **options
    )
    if stream:
        events = answer.body.decode().split("\n\n")
        assert events[-2] == "data: [DONE]"
        told = json.loads(events[-3].removeprefix("data: "))["usage"]
    else:
        told = answer.json()["usage"]

    request_id = answer.headers["x-request-id"]
    event = wait_until(
        lambda: (
            (found := platform.request("GET", f"/api/billing/usage/{request_id}")).status == 200 and found
        ),
        "billing has the usage",
    ).json()

    assert event["id"] == request_id
    usage = event.get("usage", event)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        told["prompt_tokens"],
        told["completion_tokens"],
    )


def test_what_is_the_same_each_time_is_billed_the_first_time_only(platform: Platform) -> None:
    asked = {"max_tokens": 4, "temperature": 0, "seed": 4711}
    first, again, streamed = (
        platform.chat("Count to four.", **asked, stream=stream) for stream in (False, False, True)
    )

    assert [each.headers["x-moonpool-cache"] for each in (first, again, streamed)] == ["miss", "hit", "hit"]
    assert again.json()["choices"] == first.json()["choices"]
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    later = platform.chat("Hi", headers=UNCACHED, max_tokens=1)

    def status_in_books(answer: Answer) -> int:
        return platform.request("GET", f"/api/billing/usage/{answer.headers['x-request-id']}").status

    wait_until(lambda: status_in_books(later) == 200, "what was asked after them is billed")
    assert [status_in_books(each) for each in (first, again, streamed)] == [200, 404, 404]


def test_a_conversation_is_answered_and_kept(platform: Platform) -> None:
    created = platform.request("POST", "/api/conversations", {"title": "Geography", "model": "smollm2"})
    assert created.status in {200, 201}, created.body
    conversation = f"/api/conversations/{created.json()['id']}"

    said = {"content": "What is the capital of France?", "stream": False, "temperature": 0, "max_tokens": 32}
    answer = platform.request("POST", f"{conversation}/messages", said)
    assert answer.status in {200, 201}, answer.body

    messages = platform.request("GET", f"{conversation}/messages").json()["data"]
    assert {message["role"] for message in messages} >= {"user", "assistant"}
    assert any("Paris" in json.dumps(message) for message in messages if message["role"] == "assistant")
