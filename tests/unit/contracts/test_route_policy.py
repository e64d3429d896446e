"""What operators want of routes: laid over the manifest, refused where it does not fit."""

import msgspec
import pytest
from msgspec import structs

from moonpool.contracts.documents.place import spell
from moonpool.contracts.manifest import (
    Access,
    BodyKind,
    Cached,
    Degraded,
    Letters,
    Manifest,
    Route,
    Timeouts,
)
from moonpool.contracts.route_policy import RoutePolicy, faults, governed, with_policies

ASK = Route(
    method="POST",
    path="/v1/ask",
    scope="inference",
    schema="Ask",
    cached=Cached(),
    letters=Letters.ASKED,
    timeouts=Timeouts(total=900.0, first_byte=300.0),
)
ONE = Route(method="GET", path="/api/things/{id}", body=BodyKind.NONE)
PAGE = Route(method="GET", path="/", access=Access.PUBLIC, body=BodyKind.NONE)
UPLOAD = Route(method="POST", path="/api/things", body=BodyKind.STREAMED)
SCRAPE = Route(method="GET", path="/api/scrape", access=Access.LOCAL, body=BodyKind.NONE)
CHANGE = Route(method="PUT", path="/admin/config/{name:path}", access=Access.ADMIN)
THINGS = Manifest(service="things", summary="", routes=(ASK, ONE, PAGE, UPLOAD, SCRAPE))
CONFIG = Manifest(service="config", summary="", routes=(CHANGE,))


def policy(**fields: object) -> RoutePolicy:
    return msgspec.convert(fields, RoutePolicy)


def told(name: str, **fields: object) -> list[tuple[str, str]]:
    found = faults({name: policy(**fields)}, [THINGS, CONFIG], "config")
    return [(spell(problem.path), problem.message) for problem in found]


def test_what_is_given_is_laid_over_and_the_rest_stays() -> None:
    wanted = policy(
        timeouts={"total": 30, "first_byte": 5},
        body_limit=1000,
        attempts=1,
        priority=2,
        cache={"fresh": 10, "if_error": 0},
        fallback=False,
        degraded="object",
        letters="no",
        access="admin",
    )
    route = governed(ASK, wanted)

    assert route == structs.replace(
        ASK,
        timeouts=structs.replace(ASK.timeouts, total=30.0, first_byte=5.0),
        body_limit=1000,
        attempts=1,
        priority=2,
        cached=Cached(fresh=10.0, if_error=0.0),
        fallback=False,
        degraded=Degraded.OBJECT,
        letters=Letters.NO,
        access=Access.ADMIN,
    )
    assert governed(ASK, policy()) == ASK
    assert governed(ASK, policy(cache={"enabled": False})).cached is None
    assert governed(ONE, policy(scope="files")).scope == "files"
    assert governed(ONE, policy(scope="files")).fallback
    off = governed(ASK, policy(enabled=False, notice="Until Monday."))
    assert (off.enabled, off.notice) == (False, "Until Monday.")


def test_only_the_named_route_is_another() -> None:
    found = with_policies(THINGS, {"GET /api/things/{thing_id}": policy(attempts=5)})

    assert found.routes[1] == structs.replace(ONE, attempts=5)
    assert [*found.routes[:1], *found.routes[2:]] == [*THINGS.routes[:1], *THINGS.routes[2:]]
    assert with_policies(THINGS, {}) is THINGS
    assert with_policies(THINGS, {"GET /else": policy(attempts=5)}) is THINGS
    assert with_policies(THINGS, {"POST /v1/ask": policy()}) is THINGS


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("POST /v1/asks", "Did you mean POST /v1/ask?"),
        ("GET /v1/ask", "There is POST /v1/ask."),
        ("/v1/ask", "There is POST /v1/ask."),
        ("nothing", "Write METHOD /path"),
        ("GET /livez", "the gateway's own routes have no policy"),
    ],
)
def test_an_unknown_route_is_refused_with_what_there_is(name: str, hint: str) -> None:
    (problem,) = faults({name: policy()}, [THINGS, CONFIG], "config")
    assert problem.path == ("routes", name)
    assert "no service has the route" in problem.message
    assert hint in problem.hint


def test_a_route_is_named_once() -> None:
    twice = {"GET /api/things/{id}": policy(), "GET /api/things/{x}": policy()}
    (problem,) = faults(twice, [THINGS], "config")
    assert (problem.path[1], problem.message) == (
        "GET /api/things/{x}",
        "it is the same route as GET /api/things/{id}",
    )


@pytest.mark.parametrize("fields", [{"enabled": False}, {"timeouts": {"total": 1}}, {}])
def test_the_way_back_stays_open(fields: dict[str, object]) -> None:
    assert told("PUT /admin/config/{name:path}", **fields) == [
        ('routes."PUT /admin/config/{name:path}"', "this route stays as it is")
    ]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("GET /api/scrape", {"access": "key"}, "access can only be tightened"),
        ("POST /v1/ask", {"scope": ""}, "there is no scope ''"),
        ("POST /v1/ask", {"scope": "all"}, "there is no scope 'all'"),
        ("POST /v1/ask", {"scope": "files"}, "a scope that is needed already cannot be another one"),
        ("GET /", {"scope": "files"}, "nobody is asked for a key here, so none has a scope"),
        ("GET /", {"body_limit": 1}, "requests of this route have no body"),
        ("POST /v1/ask", {"body_limit": 2**30}, "a body that is not streamed cannot be that long"),
        ("GET /", {"cache": {"fresh": 1}}, "answers of this route are not cached"),
        ("POST /v1/ask", {"letters": "failed"}, "dead letters can only be restricted"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    name: str, fields: dict[str, object], message: str
) -> None:
    place = f'routes."{name}".{next(iter(fields))}'
    assert told(name, **fields) == [(place, message)]
    route = next(each for each in THINGS.routes if name == f"{each.method} {each.path}")
    assert governed(route, policy(**fields)) == route, "what is kept of an older package does no harm"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("GET /", {"access": "key", "scope": "files"}),
        ("GET /api/scrape", {"access": "admin"}),
        ("POST /v1/ask", {"scope": "inference", "letters": "asked"}),
        ("POST /api/things", {"body_limit": 2**40}),
    ],
)
def test_what_fits_is_taken(name: str, fields: dict[str, object]) -> None:
    assert told(name, **fields) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"timeouts": {"total": 0}},
        {"attempts": 0},
        {"priority": 3},
        {"body_limit": -1},
        {"access": "public"},
        {"letters": "perhaps"},
        {"cache": {"fresh": -1}},
        {"time_out": 1},
    ],
)
def test_bounds_are_those_of_the_types(fields: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        policy(**fields)
