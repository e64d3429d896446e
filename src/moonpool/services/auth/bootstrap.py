"""The first start, and what to do about a lost admin key.

    nothing in the database    organisation, owner, the owner's key, DIR/admin.key: once
    all there                  nothing to do
    file gone, or another key  a warning that says how to recover; nothing is changed
    DIR/admin.key.recover      a new admin key, the old one revoked, the file replaced

*Once*: everything is one transaction, and its first write is the installation's single row, whose
primary key lets one process through. The file is written inside the transaction, before the commit:
killed in between, the next start finds an empty database and a key in the file, and makes that key the
admin's. So a key can also be brought along: a well-formed one in DIR/admin.key before the first start.

*Nothing is changed* when the file is gone: operators move it to a vault, and a second replica has
another folder. Minting a key for whoever restarts the service would revoke theirs behind their back.
Asking takes a file in the data folder, which only those can make who could read the database anyway.
"""

import asyncio

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.outbox import Outbox
from moonpool.contracts.auth import REVOCATIONS
from moonpool.core.clock import Clock
from moonpool.core.ids import new_id
from moonpool.core.principal import KeyLimits, Role
from moonpool.ports.database import Database
from moonpool.services.auth import keys, store
from moonpool.services.auth.admin_key import AdminKeyFile
from moonpool.services.auth.grants import Grant

LOOK = 2.0
"""Seconds between looks for a request to recover."""
_RECOVER = "`moonpool keys recover` replaces it: a new admin key, and the old one is revoked."
_EVERYTHING = Grant(role=Role.OWNER, scopes=(), limits=KeyLimits(), expires_at=None)


class Bootstrap:
    def __init__(
        self,
        *,
        database: Database,
        file: AdminKeyFile,
        outbox: Outbox,
        pepper: bytes,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._file = file
        self._outbox = outbox
        self._pepper = pepper
        self._clock = clock
        self._log = log

    async def start(self) -> None:
        """Make sure that there is an installation.

        Raises StartupError when the key's file cannot be written: then nothing was created.
        """
        async with self._database.snapshot() as connection:
            existing = await store.find_installation(connection)
        if existing is None and await self._install():
            return
        if self._file.recovery_requested():
            await self.recover()
            return
        await self._check()

    async def run(self) -> None:
        """Watch for requests to recover, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            if self._file.recovery_requested():
                await self.recover()

    async def recover(self) -> None:
        """Replace the admin's key. Safe to repeat: killed anywhere, the request is still there."""
        async with self._database.transaction() as connection:
            installed = await store.find_installation(connection)
            if installed is None or not self._file.recovery_requested():
                return
            now = self._clock.time()
            key = keys.mint(self._clock)
            await self._insert_key(connection, key, installed, now)
            await store.replace_admin_key(connection, key.id)
            if await store.revoke_key(connection, installed.admin_key, now):
                await self._outbox.add(connection, topic=REVOCATIONS, key=installed.admin_key)
            self._file.write(key)
        self._file.recovered()
        self._outbox.notify()
        self._log.warning("admin key replaced on request", revoked=installed.admin_key, key=key.id)

    async def _install(self) -> bool:
        """Whether it was this process that installed."""
        brought = self._file.read()
        key = brought or keys.mint(self._clock)
        made = store.Installation(
            organisation=new_id("org", self._clock),
            admin_user=new_id("user", self._clock),
            admin_key=key.id,
        )
        now = self._clock.time()
        try:
            async with self._database.transaction() as connection:
                if await store.find_installation(connection) is not None:
                    return False
                await store.insert_organisation(connection, made.organisation, "Default", now)
                await store.insert_user(connection, made.admin_user, made.organisation, Role.OWNER, now)
                await self._insert_key(connection, key, made, now)
                # The one row of the installation stands before the file: of two processes on a database
                # with several writers, the second stops here and leaves the first one's file alone.
                await store.insert_installation(connection, made, now)
                if brought is None:
                    self._file.write(key)
                else:
                    self._file.protect()
        except IntegrityError:
            return False
        self._log.info("installed", organisation=made.organisation, admin_key=key.id, brought=bool(brought))
        return True

    async def _insert_key(
        self, connection: AsyncConnection, key: keys.ApiKey, owner: store.Installation, now: float
    ) -> None:
        await store.insert_key(
            connection,
            key_id=key.id,
            digest=keys.digest(self._pepper, key.text),
            organisation=owner.organisation,
            user=owner.admin_user,
            name="admin",
            grant=_EVERYTHING,
            created_by="platform",
            now=now,
        )

    async def _check(self) -> None:
        """Say so when the file does not hold a valid key."""
        key = self._file.read()
        if key is None:
            self._log.warning("the admin key's file is missing", path=str(self._file.path), hint=_RECOVER)
            return
        async with self._database.snapshot() as connection:
            stored = await store.find_key(connection, key.id)
        if stored is None or not keys.matches(self._pepper, key.text, stored.digest):
            problem = "the admin key's file holds a key that this platform does not know"
        elif stored.status(self._clock.time()) != "active":
            problem = f"the admin key's file holds a key that is {stored.status(self._clock.time())}"
        else:
            return
        self._log.warning(problem, path=str(self._file.path), key=key.id, hint=_RECOVER)
