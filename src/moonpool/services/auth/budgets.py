"""Budgets of keys, as auth grants them: billing is told, and counts what is spent of them."""

from msgspec import UNSET, UnsetType

from moonpool.contracts.budgets import Budget, BudgetClient, SetBudget
from moonpool.contracts.catalogue import CatalogueClient
from moonpool.core.errors import MoonpoolError, Unavailable
from moonpool.services.auth.store import StoredKey

NOTHING_COSTS = "no model has a price: nothing counts against the budget until one has (`price` of a model)"


class Budgets:
    def __init__(self, billing: BudgetClient | None, catalogue: CatalogueClient | None) -> None:
        self._billing = billing
        self._catalogue = catalogue

    async def tell(self, key: StoredKey, budget: Budget | None, *, new: bool = False) -> None:
        """Raises Unavailable: then it is not promised that the budget holds."""
        if self._billing is None:
            raise _away()
        wish = SetBudget(key=key.id, tenant=key.organisation, user=key.user, budget=budget, new=new)
        try:
            await self._billing.set_budget(wish)
        except MoonpoolError:
            raise _away() from None

    async def drop(self, key: StoredKey) -> None:
        """Of a key that is revoked: nothing is lost when billing does not hear of it."""
        try:
            await self.tell(key, None)
        except Unavailable:
            return

    async def warning(self, budget: Budget | None) -> str | UnsetType:
        """Whether the budget can have an effect, where that is known."""
        if budget is None or self._catalogue is None:
            return UNSET
        try:
            catalogue = await self._catalogue.catalogue()
        except MoonpoolError:
            return UNSET
        return UNSET if any(model.price is not None for model in catalogue.models) else NOTHING_COSTS


def _away() -> Unavailable:
    return Unavailable(
        "the budget cannot be set while billing is away", code="budget_not_set", retry_after=2.0
    )
