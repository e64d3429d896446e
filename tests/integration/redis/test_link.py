"""Connections: passwords, databases, TLS, and a store that comes and goes."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from harness.redis_server import RedisServer, redis_server
from moonpool.adapters.redis.address import Address, parse_address
from moonpool.adapters.redis.link import Link
from moonpool.core.errors import Unavailable


@asynccontextmanager
async def linked(address: Address | str) -> AsyncIterator[Link]:
    parsed = parse_address(address) if isinstance(address, str) else address
    link = Link(parsed, use="test", meanwhile="nothing", timeout=1.0)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


async def test_the_password_is_used_and_not_logged(tmp_path: Path) -> None:
    with redis_server(tmp_path, password="s3cret") as server:
        async with linked(server.url) as link:
            assert await link.send("PING") == b"PONG"
        with capture_logs() as logs:
            async with linked(server.url.replace("s3cret", "wr0ng")) as link:
                assert not link.up
                with pytest.raises(Unavailable, match="WRONGPASS"):
                    link.send("PING")
    assert len(logs) == 1
    assert "wr0ng" not in str(logs)


async def test_the_database_is_chosen(redis: RedisServer) -> None:
    async with linked(f"{redis.url}/3") as link:
        await link.send("SET", "k", "v")
    assert redis.ask("-n", "3", "GET", "k") == "v"
    assert redis.ask("GET", "k") == ""


async def test_nobody_there(redis: RedisServer) -> None:
    redis.kill()
    async with linked(redis.url) as link:
        assert not link.up
        with pytest.raises(Unavailable):
            link.send("PING")


async def test_after_its_end_it_does_not_come_back(redis: RedisServer) -> None:
    async with linked(redis.url) as link:
        pass
    with pytest.raises(Unavailable):
        link.send("PING")


async def test_tls(redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection("127.0.0.1", redis.port)
        await asyncio.gather(_pump(reader, far[1]), _pump(far[0], writer))

    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    url = f"rediss://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        async with linked(url) as link:
            assert not link.up  # nobody vouches for it
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with linked(url) as link:
            assert await link.send("PING") == b"PONG"
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file
