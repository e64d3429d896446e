"""A Redis for each test that may do anything to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.redis_server import RedisServer, redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server
