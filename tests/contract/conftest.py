"""Real servers for the adapters that need one."""

from collections.abc import Iterator

import pytest

from harness.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    """An empty one, and patient: what it says is tested here, not how soon."""
    redis.ask("FLUSHALL")
    return f"{redis.url}?timeout=5"
