"""The commands that need a running platform, as somebody types them."""

import json

import pytest

from harness.platform import MODULES, Platform, wait_until

pytestmark = pytest.mark.real_model


def test_chat_streams_an_answer(platform: Platform) -> None:
    result = platform.command("chat", "What is the capital of France?")

    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout


def test_models_lists_what_can_be_asked(platform: Platform) -> None:
    plain, data = platform.command("models"), platform.command("models", "--json")

    assert "smollm2" in plain.stdout
    assert "smollm2" in json.dumps(json.loads(data.stdout))


def test_status_names_every_module(platform: Platform) -> None:
    result = platform.command("status")

    assert result.returncode == 0
    assert all(name in result.stdout for name in MODULES)


def test_a_key_works_until_it_is_revoked(platform: Platform) -> None:
    created = platform.command("keys", "create", "--name", "a test's", "--json")
    assert created.returncode == 0, created.stderr
    key = json.loads(created.stdout)
    assert platform.request("GET", "/v1/models", key=key["key"]).status == 200
    listed = platform.command("keys", "list", "--json").stdout
    assert key["id"] in listed
    assert key["key"] not in listed

    assert platform.command("keys", "revoke", key["id"]).returncode == 0

    wait_until(
        lambda: platform.request("GET", "/v1/models", key=key["key"]).status == 401,
        "the revoked key is refused",
        seconds=10,
    )


def test_explain_draws_the_decisions(platform: Platform) -> None:
    request_id = platform.chat("Hi", max_tokens=2).headers["x-request-id"]

    result = wait_until(
        lambda: (said := platform.command("explain", request_id)).returncode == 0 and said,
        "the request can be explained",
    )

    assert request_id in result.stdout
    assert "authentication" in result.stdout


def test_a_second_start_on_the_same_data_is_refused(platform: Platform) -> None:
    result = platform.command("up", "--detach", "--wait", "--port", "0")

    assert result.returncode != 0
    assert str(platform.data) in result.stderr
    assert "moonpool down" in result.stderr


def test_an_unknown_request_is_told_so(platform: Platform) -> None:
    result = platform.command("explain", "req_of_nobody")

    assert result.returncode != 0
    assert "req_of_nobody" in result.stderr
