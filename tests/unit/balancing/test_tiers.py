from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.tiers import Candidate, Tier
from moonpool.contracts.catalogue import Target
from moonpool.http.address import Address


def endpoint(name: str) -> Endpoint:
    return Endpoint(Address.parse(f"unix:/run/{name}"), instance=name, release="v1")


def test_a_candidate_is_known_by_its_instance_whatever_its_target() -> None:
    one = endpoint("inference-0")
    assert Candidate(one).instance == Candidate(one, Target(id="x")).instance == "inference-0"
    assert Candidate(one).target is None


def test_a_service_s_tier_has_no_alias() -> None:
    tier = Tier("chat@v1", [Candidate(endpoint("chat-0"))])
    assert tier.alias == ""
    assert Tier("m/0", [], "m").alias == "m"
