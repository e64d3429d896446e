"""The clients a service may be handed: those its manifest's `calls` name, None otherwise."""

import msgspec

from moonpool.contracts.auth import AuthClient
from moonpool.contracts.budgets import BudgetClient
from moonpool.contracts.catalogue import CatalogueClient
from moonpool.contracts.inference import InferenceClient
from moonpool.contracts.monitoring import ProbeClient


class Clients(msgspec.Struct, frozen=True, kw_only=True):
    auth: AuthClient | None = None
    budgets: BudgetClient | None = None
    model: CatalogueClient | None = None
    inference: InferenceClient | None = None
    probe: ProbeClient | None = None
