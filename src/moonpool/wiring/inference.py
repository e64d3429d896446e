"""The way to the models, for whoever asks them: the gateway for its clients, chat for conversations.

One piece, so that a call from service to service passes what a client's request passes below the edge.
"""

from pathlib import Path

from moonpool.adapters.journal.local import LocalJournal
from moonpool.balancing.inference import InferenceBalancer
from moonpool.balancing.models import Models
from moonpool.contracts.usage import TOPIC as USAGE
from moonpool.core.component import Component
from moonpool.core.handler import Handler
from moonpool.middleware.answers import SoundAnswers
from moonpool.middleware.inference import InferenceUpstream
from moonpool.middleware.metering import Metering
from moonpool.wiring.clients import HttpCatalogueClient
from moonpool.wiring.following import CatalogueFollower
from moonpool.wiring.infrastructure import Infrastructure
from moonpool.wiring.settings import ModuleSettings


class InferencePath:
    """`upstream` ends a chain; `metering` stands around it; `components` run for as long as both."""

    def __init__(self, settings: ModuleSettings, infrastructure: Infrastructure) -> None:
        clock, log, pools = infrastructure.clock, infrastructure.log, infrastructure.pools
        self.journal = LocalJournal(
            infrastructure.data / "spool", USAGE, settings.instance, infrastructure.events, log
        )
        self.metering = Metering(self.journal)
        models = Models(pools)
        balancer = InferenceBalancer(clock, infrastructure.random)
        pools.on_gone(lambda endpoint: balancer.forget(endpoint.instance))
        self.upstream: Handler = SoundAnswers(
            InferenceUpstream(
                models=models, balancer=balancer, client=infrastructure.client, signer=infrastructure.signer
            )
        )
        snapshot = Path(settings.topology).parent / f"catalogue-{settings.name}.json"
        client = HttpCatalogueClient(infrastructure.caller)
        self.components: list[Component] = [self.journal, CatalogueFollower(client, models, snapshot, log)]
