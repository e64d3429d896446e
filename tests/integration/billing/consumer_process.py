"""Billing's consumer as a process of its own, for tests that kill it.

    python consumer_process.py FOLDER WHERE

WHERE is "" (runs until killed) or the step at which the process kills itself with SIGKILL the second
time it gets there: "stored" (after the database's commit, before the log's), "inserted" (inside the
database's transaction), "charged" (there too, before the events are inserted) or "committed" (after the log's
commit).
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from moonpool.adapters.database.migrate import service_migrations
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.adapters.events.sqlite_consumer import SqliteConsumer
from moonpool.contracts.config import BillingConfig
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.services.billing import counting, store
from moonpool.services.billing.posting import Posting

LEASE = 0.5
"""Seconds; short, so that a killed consumer's partitions are free again soon."""


def die_at_second(name: str, owner: object) -> None:
    """The second call of that coroutine function is the last thing this process does."""
    original, calls = getattr(owner, name), 0

    async def fatal(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        result = await original(*arguments, **named)
        if calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, fatal)


async def main(folder: Path, where: str) -> None:
    counting.BATCH = 20  # many small batches: many moments to be killed at
    if where == "inserted":
        die_at_second("add_events", store)
    elif where == "charged":
        die_at_second("post", Posting)
    elif where == "stored":
        die_at_second("store", counting.Counting)
    elif where == "committed":
        die_at_second("commit", SqliteConsumer)
    database = SqliteDatabase(folder / "billing.db", service_migrations("billing"))
    events = SqliteEventLog(folder / "events.db", lease=LEASE)
    await database.start()
    await events.start()
    consumer = counting.Counting(
        database=database,
        events=events,
        clock=SYSTEM_CLOCK,
        log=structlog.get_logger(),
        metrics=CollectorRegistry(),
        posting=Posting(BillingConfig(), SYSTEM_CLOCK),
    )
    print("running", flush=True)
    await consumer.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
