"""What modules say to each other survives its way over the wire, and does not change afterwards."""

import msgspec
import pytest

from moonpool.contracts.auth import Verdict, VerifyKey
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.manifest import Access, Manifest, Route
from moonpool.contracts.monitoring import ModuleHealth
from moonpool.contracts.requests import AttemptRecord, DecisionRecord, RequestRecord
from moonpool.contracts.usage import Usage, UsageEvent
from moonpool.core.principal import Principal

ATTEMPT = AttemptRecord(endpoint="e", release="v1", started_ms=1.0, ended_ms=None, status=None, error="x")
VALUES = [
    Verdict(principal=Principal(user="u"), expires_at=3.5),
    Verdict(principal=None, reason="revoked"),
    VerifyKey("k"),
    Catalogue(3, (Model(id="m", targets=(Target(id="t", url="http://x/v1"),), fallbacks=("n",)),)),
    Manifest(service="s", summary="S", routes=(Route(method="GET", path="/x", access=Access.LOCAL),)),
    ModuleHealth(name="n", instance="i", release="r", endpoint="e", pid=1, state="ready", status="ready"),
    UsageEvent(
        id="r", at=1.0, user="u", tenant="t", key="k", route="/", model="m", target="i", release="v",
        usage=Usage(prompt_tokens=3, cached_tokens=1), streamed=True,
    ),
    RequestRecord(
        id="r", trace_id="t", at=1.0, method="GET", route="/", status=200, service="s", release="v", user="u",
        tenant="t", key="k", peer="p", duration_ms=1.0, first_byte_ms=None, bytes_out=3, outcome="completed",
        flags=("UH",), attempts=(ATTEMPT,), decisions=(DecisionRecord("f", "v", "r", 0.5),),
    ),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_round_trip(value: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_newer_release_may_add_fields(value: msgspec.Struct) -> None:
    """Two releases run side by side: what the older does not know it passes over."""
    fields = msgspec.json.decode(msgspec.json.encode(value))
    fields["added_later"] = {"a": 1}
    assert msgspec.json.decode(msgspec.json.encode(fields), type=type(value)) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_frozen(value: msgspec.Struct) -> None:
    name = value.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(value, name, None)
