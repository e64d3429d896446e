"""Where a request may go, best first: tiers of candidates.

tier 0   the instances of the release that was chosen      ┐ retry goes from instance to instance
tier 1   those of other releases, or the next target       │ failover goes from tier to tier
tier n   another model that may answer instead             ┘
"""

from collections.abc import Sequence
from typing import NamedTuple

from moonpool.balancing.endpoint import Endpoint
from moonpool.contracts.catalogue import Target


class Candidate(NamedTuple):
    """`target` is None for services, which have nothing but instances."""

    endpoint: Endpoint
    target: Target | None = None

    @property
    def instance(self) -> str:
        return self.endpoint.instance


class Tier(NamedTuple):
    """`name` is for decisions, and the same for as long as the tier means the same. `alias` is the model's,
    "" for services; `context` the most tokens of a prompt and its answer together, if that is known."""

    name: str
    candidates: Sequence[Candidate]
    alias: str = ""
    context: int | None = None
