"""Routing documents are checked where they are kept."""

import msgspec
import pytest

from moonpool.configserver.judging import Judge
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.contracts.routing import Routing
from moonpool.ports.config import Others
from moonpool.upgrade.documents import ROUTING, document_name

SHARED = {
    "service": "chat",
    "default": "v1",
    "shares": [{"release": "v1", "weight": 9_000}, {"release": "v2", "weight": 1_000}],
    "salt": "upg_1",
}
GOOD = {"service": "chat", "default": "v1", "shares": [{"release": "v1", "weight": 10_000}]}


def test_a_good_document_is_taken() -> None:
    assert validate(Document("x", GOOD), ROUTING, document_name("chat")).default == "v1"
    assert ROUTING.covers("routing/chat")


@pytest.mark.parametrize(
    ("name", "document", "place"),
    [
        ("routing/user", GOOD, "service"),
        ("routing/chat", {**GOOD, "default": "v2"}, "default"),
        ("routing/chat", {**GOOD, "shares": [{"release": "v1", "weight": 10_001}]}, "shares[0].weight"),
        ("routing/chat", {**GOOD, "killed": ["v1"]}, "killed"),
        ("routing/chat", {**GOOD, "wieght": 1}, "wieght"),
    ],
)
def test_a_bad_one_is_refused_with_its_place(name: str, document: dict, place: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        validate(Document("x", document), ROUTING, name)
    assert refused.value.param == place


@pytest.mark.parametrize(
    ("changed", "place"),
    [({"salt": "upg_2"}, "salt"), ({"unit": "request"}, "unit"), ({"default": "v2"}, "default")],
)
def test_callers_stay_where_they_are_while_releases_share_them(changed: dict, place: str) -> None:
    judge = Judge(Kinds([ROUTING]), {})
    with pytest.raises(DocumentFault, match="while releases share the traffic") as refused:
        judge.judge("routing/chat", SHARED, {**SHARED, **changed})
    assert refused.value.param == place

    more = [{"release": "v1", "weight": 5_000}, {"release": "v2", "weight": 5_000}]
    assert judge.judge("routing/chat", SHARED, {**SHARED, "shares": more}).changes
    assert judge.judge("routing/chat", GOOD, {**SHARED, **changed}, others=there("v2")).changes
    assert judge.judge("routing/chat", None, SHARED, others=there("v2")).changes


def there(*labels: str) -> Others:
    """What other documents say when these releases of chat were added."""
    releases = {label: {"service": "chat", "label": label} for label in labels}
    return {"releases/chat": {"service": "chat", "releases": releases}}.get


def test_only_releases_that_there_are_get_requests() -> None:
    judge = Judge(Kinds([ROUTING]), {})
    for others in (there(), there("v3"), lambda name: None):
        with pytest.raises(DocumentFault, match="there is no release chat@v2") as refused:
            judge.judge("routing/chat", GOOD, SHARED, others=others)
        assert refused.value.param == "shares[1].release"
        assert "v1" in refused.value.hint
    assert judge.judge("routing/chat", GOOD, SHARED, others=there("v2")).changes
    newer = {"service": "chat", "releases": {}, "shelves": 7}
    assert judge.judge("routing/chat", GOOD, SHARED, others=lambda name: newer).changes


def test_a_routing_that_was_never_valid_may_be_replaced() -> None:
    broken = msgspec.to_builtins(msgspec.convert(SHARED, Routing)) | {"default": "v9", "salt": "another"}
    assert Judge(Kinds([ROUTING]), {}).judge("routing/chat", broken, SHARED, others=there("v2")).changes
