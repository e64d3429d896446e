"""Routing documents are checked where they are kept."""

import pytest

from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.upgrade.documents import ROUTING, document_name

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
