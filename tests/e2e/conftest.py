"""One platform for all end-to-end tests, started as a user would."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from harness.platform import Platform, running


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("e2e") / "data") as started:
        yield started


@pytest.fixture(scope="session")
def client(platform: Platform) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0, timeout=60) as sdk:
        yield sdk
