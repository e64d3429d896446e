"""What is off is refused in the operators' words, and told not to be repeated."""

import pytest

from moonpool.contracts.manifest import Route
from moonpool.core.errors import Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.switched_off import SwitchedOff
from moonpool.openai.errors import render_error


async def answer(ctx, request) -> Response:
    raise AssertionError("it is off")


@pytest.mark.parametrize(
    ("notice", "hint"), [("Until Monday.", "Until Monday."), ("", "The operators of this platform")]
)
def test_it_is_told(make_ctx, notice: str, hint: str) -> None:
    ctx = make_ctx(route=Route(method="GET", path="/x", enabled=False, notice=notice))
    with pytest.raises(Unavailable, match="GET /x is switched off") as refused:
        SwitchedOff()(ctx, Request("GET", "/x"), answer)

    assert hint in (refused.value.hint or "")
    assert ctx.decisions[-1][:3] == ("switched off", "refuse", notice)
    response = render_error(refused.value)
    assert (response.status, response.header(b"x-should-retry")) == (503, b"false")
    assert response.header(b"retry-after") is None


def test_other_routes_do_not_pass_it() -> None:
    assert not SwitchedOff().applies(Route(method="GET", path="/x"))
    assert SwitchedOff().applies(Route(method="GET", path="/x", enabled=False))
