import msgspec
import pytest

from moonpool.contracts.usage import Usage, UsageEvent
from moonpool.services.billing.decode import MOST_TOKENS, Unreadable, decode

EVENT = UsageEvent(
    id="req_1",
    at=1_700_000_000.0,
    user="u",
    tenant="t",
    key="k",
    route="/v1/chat/completions",
    model="m",
    target="tgt",
    release="v1",
    usage=Usage(prompt_tokens=3, completion_tokens=4),
    streamed=True,
)


def same(event: UsageEvent) -> bool:
    return msgspec.to_builtins(event) == msgspec.to_builtins(EVENT)


def changed(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(EVENT), **fields})


def test_a_good_event() -> None:
    assert same(decode(msgspec.json.encode(EVENT)))


def test_fields_of_later_releases_are_no_fault() -> None:
    assert same(decode(changed(invented="later")))


def test_a_backslash_is_no_nul() -> None:
    assert decode(changed(model="a\\u0000")).model == "a\\u0000"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        changed(id=""),
        changed(id="x" * 201),
        changed(id="a\0b"),
        changed(at=-1.0),
        changed(at=1e300),
        changed(model="a\0b"),
        changed(model="m" * 2001),
        changed(outcome="o" * 33),
        changed(usage={"prompt_tokens": -1}),
        changed(usage={"prompt_tokens": 1.5}),
        changed(usage={"prompt_tokens": MOST_TOKENS + 1}),
        changed(usage={"completion_tokens": 10**30}),
    ],
)
def test_what_no_database_should_see(value: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        decode(value)
    assert str(refused.value)
