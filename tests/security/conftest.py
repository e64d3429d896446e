"""What tests of hostile input to a whole platform share."""

from collections.abc import Callable, Iterator

import pytest

from harness.siege import Siege, besieged


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with besieged(tmp_path_factory.mktemp("hostile") / "data") as siege:
        yield siege


@pytest.fixture
def asked(stage: Siege) -> Callable[[], int]:
    """How many requests have reached the endpoint since the test began."""
    before = stage.injector.count("far")
    return lambda: stage.injector.count("far") - before
