"""The domain of auth: verifying keys, and who may create, see and revoke them."""

from prometheus_client import CollectorRegistry, Counter

from moonpool.asgi.once import Once
from moonpool.asgi.outbox import Outbox
from moonpool.contracts.asked import Asked
from moonpool.contracts.auth import REVOCATIONS, Verdict
from moonpool.contracts.budgets import Budget
from moonpool.core.clock import Clock
from moonpool.core.errors import Conflict, NotFound, PermissionDenied, Unauthenticated, Unavailable
from moonpool.core.principal import Principal, Role
from moonpool.ports.database import Database
from moonpool.services.auth import keys, schema, store
from moonpool.services.auth.activity import Activity
from moonpool.services.auth.budgets import Budgets
from moonpool.services.auth.grants import Wish, administers, grant, may_revoke, roles_within

_UNKNOWN = Verdict(principal=None, reason="unknown")


class AuthService:
    """Whatever the database cannot answer is Unavailable (503): a key is called unknown only when it
    was looked for and not found."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        activity: Activity,
        once: Once,
        budgets: Budgets,
        pepper: bytes,
        clock: Clock,
        metrics: CollectorRegistry,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._once = once
        self._budgets = budgets
        self._activity = activity
        self._pepper = pepper
        self._clock = clock
        self._verdicts = Counter(
            "moonpool_auth_verdicts", "Answers about keys", ["verdict"], registry=metrics
        )

    async def verify(self, text: str) -> Verdict:
        """Who calls with the key `text`. Raises Unavailable when the database is away."""
        verdict = await self._judge(text)
        self._verdicts.labels(verdict.reason or "valid").inc()
        return verdict

    async def _judge(self, text: str) -> Verdict:
        key = keys.parse(text)
        if key is None:
            return _UNKNOWN
        async with self._database.snapshot() as connection:
            stored = await store.find_key(connection, key.id)
        if stored is None or not keys.matches(self._pepper, key.text, stored.digest):
            return _UNKNOWN
        status = stored.status(self._clock.time())
        if status != "active":
            return Verdict(principal=None, expires_at=stored.expires_at, reason=status)
        self._activity.note(stored.id)
        return Verdict(principal=stored.principal(), expires_at=stored.expires_at)

    async def create(
        self, caller: Principal, name: str, wish: Wish, asked: Asked | None = None
    ) -> schema.KeyView:
        """Raises PermissionDenied when the caller would grant more than he has, Conflict when the same
        request has created its key: the text cannot be told again."""
        now = self._clock.time()
        key = keys.mint(self._clock)
        async with self._database.transaction() as connection:
            own = await store.find_key(connection, caller.key)
            _must_be_active(caller, own, now)
            granted = grant(
                caller,
                wish,
                now=now,
                granter_expires=own.expires_at if own else None,
                granter_budget=own.budget if own else None,
            )
            before = await self._once.claim(connection, asked, key.id)
            if before is not None:
                raise _created(before)
            await store.insert_key(
                connection,
                key_id=key.id,
                digest=keys.digest(self._pepper, key.text),
                organisation=caller.tenant,
                user=caller.user,
                name=name,
                grant=granted,
                created_by=caller.key or caller.user,
                now=now,
            )
            stored = await store.find_key(connection, key.id)
        assert stored is not None
        if stored.budget is not None:
            await self._promise(stored)
        warning = await self._budgets.warning(stored.budget)
        return schema.view(stored, now, key.text, warning=warning)

    async def _promise(self, key: store.StoredKey) -> None:
        """Nobody has the key's text yet; without its budget nobody ever will."""
        assert key.budget is not None
        try:
            await self._budgets.tell(key, key.budget, new=True)
        except Unavailable:
            async with self._database.transaction() as connection:
                await store.revoke_key(connection, key.id, self._clock.time())
            raise

    async def change_budget(self, caller: Principal, key_id: str, budget: Budget | None) -> schema.KeyView:
        """Another budget from now on, or none.

        Raises NotFound, PermissionDenied for those who do not administer and for keys that have a budget
        themselves, Unavailable when billing is away.
        """
        now = self._clock.time()
        async with self._database.snapshot() as connection:
            own = await store.find_key(connection, caller.key)
            key = await store.find_key(connection, key_id)
        _must_be_active(caller, own, now)
        if not administers(caller) or (own is not None and own.budget is not None):
            raise PermissionDenied("only admins change budgets, with keys that have none")
        if key is None or key.organisation != caller.tenant:
            raise _unknown(key_id)
        await self._budgets.tell(key, budget)
        async with self._database.transaction() as connection:
            await store.set_budget(connection, key_id, budget)
            changed = await store.find_key(connection, key_id)
        assert changed is not None
        return schema.view(changed, now, warning=await self._budgets.warning(budget))

    async def list(
        self, caller: Principal, *, after: str | None, limit: int, include_revoked: bool
    ) -> schema.KeyList:
        """Newest first."""
        async with self._database.snapshot() as connection:
            found = await store.list_keys(
                connection,
                caller.tenant,
                user=None if administers(caller) else caller.user,
                roles=roles_within(caller.role),
                include_revoked=include_revoked,
                after=after,
                limit=limit + 1,
            )
        now = self._clock.time()
        return schema.KeyList(
            data=[schema.view(key, now) for key in found[:limit]], has_more=len(found) > limit
        )

    async def revoke(self, caller: Principal, key_id: str) -> None:
        """End a key for good; revoking it once more is no error.

        Raises NotFound for a key that the caller may not see, PermissionDenied for one with more
        rights than his, Conflict for the last key with all rights.
        """
        now = self._clock.time()
        async with self._database.transaction() as connection:
            key = await store.find_key(connection, key_id)
            if key is None or key.organisation != caller.tenant or not _visible(caller, key):
                raise _unknown(key_id)
            if not may_revoke(caller, key=key.id, user=key.user, role=key.role, scopes=key.scopes):
                raise PermissionDenied(
                    "this key has rights that the key you call with has not",
                    param="key_id",
                    hint="Use a key with more rights.",
                )
            everything = key.role is Role.OWNER and not key.scopes and key.status(now) == "active"
            if everything and not await store.has_other_owner_key(connection, key, now):
                raise _last_owner_key()
            if await store.revoke_key(connection, key_id, now):
                await self._outbox.add(connection, topic=REVOCATIONS, key=key_id)
        self._outbox.notify()
        if key.budget is not None:
            await self._budgets.drop(key)

    async def me(self, caller: Principal) -> schema.Me:
        async with self._database.snapshot() as connection:
            key = await store.find_key(connection, caller.key)
        return schema.Me(
            user=caller.user,
            organisation=caller.tenant,
            role=caller.role,
            scopes=caller.scopes,
            limits=caller.limits,
            administers=administers(caller),
            key=schema.view(key, self._clock.time()) if key is not None else None,
        )


def _visible(caller: Principal, key: store.StoredKey) -> bool:
    return key.user == caller.user or administers(caller)


def _must_be_active(caller: Principal, own: store.StoredKey | None, now: float) -> None:
    """A gateway may not have heard yet that the key it lets in is over."""
    if caller.key and (own is None or own.status(now) != "active"):
        raise Unauthenticated("the API key is no longer valid", hint="Use another key.")


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"there is no API key '{key_id}'", code="key_not_found", param="key_id")


def _created(key: str) -> Conflict:
    return Conflict(
        f"this request has created the key '{key}' already; its text was told then, and is kept nowhere",
        code="key_created",
        hint=f"If nobody has it: `moonpool keys revoke {key}`, and create another one.",
    )


def _last_owner_key() -> Conflict:
    return Conflict(
        "this is the last key with all rights: without it nobody could administer the platform",
        code="last_owner_key",
        param="key_id",
        hint="Create another one first: `moonpool keys create --role owner`.",
    )
