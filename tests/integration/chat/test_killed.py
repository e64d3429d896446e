"""A chat process is killed in the middle of an answer: what had arrived is kept, and told as interrupted."""

import asyncio
import signal
import sys
from pathlib import Path

from moonpool.adapters.database.migrate import service_migrations
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.core.clock import SystemClock
from moonpool.core.principal import Principal
from moonpool.services.chat.leases import LEASE, Leases
from moonpool.services.chat.schema import Status
from moonpool.services.chat.store import Store

ME = Principal(user="user_1", tenant="org_1")
RATE = 100
"""Words a second: 50 may be lost, with a beat every half second."""

CHILD = f"""
import asyncio, json, sys
from pathlib import Path
import structlog
from prometheus_client import CollectorRegistry
from moonpool.adapters.database.migrate import service_migrations
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.core.body import Stream
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.message import Response
from moonpool.core.principal import Principal
from moonpool.services.chat.leases import Leases
from moonpool.services.chat.metrics import make_metrics
from moonpool.services.chat.runner import Runner
from moonpool.services.chat.schema import NewConversation, NewMessage
from moonpool.services.chat.service import Chat
from moonpool.services.chat.store import Store

async def speak(stream):
    for number in range(100_000):
        data = json.dumps({{"choices": [{{"delta": {{"content": f"{{number}} "}}}}]}})
        stream.feed(f"data: {{data}}\\n\\n".encode())
        await asyncio.sleep(1 / {RATE})

class Model:
    async def chat(self, principal, body, *, request_id):
        stream = Stream()
        self.task = asyncio.create_task(speak(stream))
        return Response(200, [(b"content-type", b"text/event-stream")], stream)

async def main():
    database = SqliteDatabase(Path(sys.argv[1]), service_migrations("chat"))
    await database.start()
    store = Store(database, SYSTEM_CLOCK, instance="chat-0")
    leases = Leases(database, SYSTEM_CLOCK, instance="chat-0")
    metrics = make_metrics(CollectorRegistry())
    runner = Runner(leases, Model(), SYSTEM_CLOCK, structlog.get_logger(), metrics)
    keeper = asyncio.create_task(runner.keep())
    chat = Chat(store, runner, None, default_model="m", default_context=8192)
    me = Principal(user="user_1", tenant="org_1")
    conversation = await store.create(me, NewConversation())
    run, _ = await chat.ask(me, conversation.id, NewMessage(content="Count."))
    print(conversation.id, run.id, flush=True)
    while True:
        await asyncio.sleep(0.01)
        print(run.answer.content.count(" "), flush=True)

asyncio.run(main())
"""


class Later(SystemClock):
    """When the lease of whoever was alive just now has run out."""

    @staticmethod
    def time() -> float:
        return SystemClock.time() + LEASE + 1.0


async def test_a_killed_answer_keeps_all_but_the_last_half_second(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    conversation, answer = (await process.stdout.readline()).decode().split()
    arrived = 0
    while arrived < RATE * 1.2:
        arrived = int(await process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = (await process.stdout.read()).split()
    arrived = int(rest[-1]) if rest else arrived
    await process.wait()

    database = SqliteDatabase(path, service_migrations("chat"))
    await database.start()
    assert await Leases(database, Later(), instance="chat-1").sweep() == 1
    message = await Store(database, Later(), instance="chat-1").message(ME, conversation, answer)
    await database.stop()
    words = message.content.split()
    assert message.status is Status.INTERRUPTED
    assert words == [str(number) for number in range(len(words))]
    assert len(words) >= arrived - RATE  # twice the beat: the machine may be busy
