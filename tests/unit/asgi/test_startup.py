import pytest

from moonpool.asgi.startup import PlainStartupErrors, first_startup_error
from moonpool.core.errors import StartupError

CAUSE = StartupError("no weights")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (CAUSE, CAUSE),
        (ValueError(), None),
        (ExceptionGroup("g", [ValueError(), ExceptionGroup("g", [CAUSE])]), CAUSE),
        (ExceptionGroup("g", [ValueError()]), None),
    ],
)
def test_first_startup_error(error: BaseException, found: StartupError | None) -> None:
    assert first_startup_error(error) is found


@pytest.mark.parametrize("raised", [CAUSE, ExceptionGroup("g", [CAUSE])])
async def test_a_failed_start_raises_its_cause(raised: Exception) -> None:
    async def app(scope, receive, send) -> None:
        raise raised

    with pytest.raises(StartupError) as caught:
        await PlainStartupErrors(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert caught.value is CAUSE


async def test_other_groups_are_left_alone() -> None:
    async def app(scope, receive, send) -> None:
        raise ExceptionGroup("g", [ValueError()])

    with pytest.raises(ExceptionGroup):
        await PlainStartupErrors(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
