import asyncio

import pytest

from moonpool.wiring.probe import Answer, Health, ask

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
async def serve(tmp_path):
    """Serve `answer` to whoever asks; the path."""
    servers = []

    async def start(answer, *, hang=False):
        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if hang:
                await reader.read()
            writer.close()

        path = str(tmp_path / "x.sock")
        servers.append(await asyncio.start_unix_server(handle, path))
        return f"unix:{path}"

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Unready\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1 503 Unready\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ],
)
async def test_an_answer(serve, answer):
    path = await serve(answer, hang=True)
    assert await ask(path, "/readyz", timeout=5) == Answer(503, b"body")


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"]
)
async def test_no_whole_answer(serve, answer):
    assert await ask(await serve(answer), "/readyz", timeout=5) is None


async def test_silence_and_absence(serve, tmp_path):
    assert await ask(await serve(b"", hang=True), "/readyz", timeout=0.02) is None
    assert await ask(f"unix:{tmp_path}/missing.sock", "/readyz", timeout=1) is None


def test_reading_a_report():
    report = Answer(200, b'{"status": "degraded", "checks": {"events": "away"}, "more": 1}')
    assert report.ok
    assert report.health() == Health("degraded", {"events": "away"})
    assert Answer(200, b"ok").health() == Health()
    assert Answer(200, b'{"status": 7}').health() == Health()
    assert not Answer(503, b"").ok
