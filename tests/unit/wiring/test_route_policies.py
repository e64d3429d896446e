"""Manifests in force: the configuration over what services declare, and when chains are built anew."""

import msgspec
import pytest

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.manifest import BalancerKind, Manifest, Route, Timeouts
from moonpool.wiring.registry import load_manifests
from moonpool.wiring.route_policies import RoutePolicies, in_force

ASK = Route(
    method="POST",
    path="/v1/ask",
    balancer=BalancerKind.INFERENCE,
    timeouts=Timeouts(total=900.0, connect=2.0, first_byte=300.0),
)
READ = Route(method="GET", path="/api/read")
MODELS = Manifest(service="inference", summary="", routes=(ASK, READ))


def config(**fields: object) -> PlatformConfig:
    return msgspec.convert(fields, PlatformConfig)


def test_one_route_s_policy_is_over_that_of_all_models_is_over_the_manifest() -> None:
    wanted = config(
        resilience={"timeouts": {"total": 60, "first_token": 20}},
        routes={"POST /v1/ask": {"timeouts": {"total": 10}}, "GET /api/read": {"attempts": 1}},
    )
    ask, read = in_force(MODELS, wanted).routes

    assert ask.timeouts == Timeouts(total=10.0, connect=2.0, first_byte=20.0)
    assert (read.timeouts, read.attempts) == (READ.timeouts, 1)


def test_nothing_wanted_is_the_manifest_itself() -> None:
    for manifest in load_manifests():
        assert in_force(manifest, PlatformConfig()) is manifest


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"routes": {"POST /v1/ask": {"attempts": 1}}}, True),
        ({"resilience": {"timeouts": {"connect": 1}}}, True),
        ({"resilience": {"hedge": {"enabled": True}}}, True),
        ({"resilience": {"hedge": {"at_least": 2}, "retry": {"attempts": 5}}}, False),
        ({"limits": {"default": {"concurrent": 1}}}, False),
        ({}, False),
    ],
)
def test_chains_are_built_anew_only_when_they_would_be_others(fields: dict[str, object], told: bool) -> None:
    calls = []
    policies = RoutePolicies([MODELS], PlatformConfig(), lambda: calls.append(policies.manifests))
    policies.follow(config(**fields))
    assert len(calls) == told
    policies.follow(config(**fields))
    assert len(calls) == told
    policies.follow(PlatformConfig())
    assert len(calls) == 2 * told
    assert policies.manifests == [MODELS]


def test_releases_with_other_manifests_have_the_same_policies() -> None:
    policies = RoutePolicies([MODELS], PlatformConfig(), lambda: None)
    other = msgspec.structs.replace(MODELS, routes=(msgspec.structs.replace(ASK, metered=True),))
    policies.take_releases({("inference", "v2"): other})
    assert policies.releases == {("inference", "v2"): other}
    policies.follow(config(routes={"POST /v1/ask": {"priority": 0}}))
    (route,) = policies.releases["inference", "v2"].routes
    assert (route.metered, route.priority) == (True, 0)
