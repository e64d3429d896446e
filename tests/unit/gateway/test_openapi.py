from moonpool.contracts.manifest import Access, Manifest, Route
from moonpool.gateway.openapi import merge


def service(name: str, *routes: Route) -> Manifest:
    return Manifest(service=name, summary=name.title(), routes=routes)


def page(reference: str) -> dict:
    return {
        "paths": {
            "/things/{id}": {"get": {"responses": {"200": {"$ref": reference}}, "summary": "theirs"}},
            "/internal/secret": {"get": {"responses": {}}},
        },
        "components": {
            "schemas": {
                "Page": {"properties": {"next": {"$ref": "#/components/schemas/Page"}}},
            }
        },
    }


def test_two_services_may_have_schemas_of_one_name() -> None:
    manifests = [
        service("a", Route(method="GET", path="/things/{thing}", summary="ours")),
        service("b", Route(method="GET", path="/others")),
    ]
    reference = "#/components/schemas/Page"
    merged = merge(manifests, {"a": page(reference), "b": page(reference)}, [])
    schemas = merged["components"]["schemas"]
    assert set(schemas) == {"a.Page", "b.Page"}
    assert schemas["b.Page"]["properties"]["next"]["$ref"] == "#/components/schemas/b.Page"
    operation = merged["paths"]["/things/{thing}"]["get"]
    assert operation["responses"]["200"]["$ref"] == "#/components/schemas/a.Page"
    assert (operation["summary"], operation["tags"]) == ("ours", ["a"])


def test_only_what_a_manifest_publishes() -> None:
    merged = merge([service("a", Route(method="GET", path="/things/{id}"))], {"a": page("x")}, [])
    assert set(merged["paths"]) == {"/things/{id}"}


def test_a_service_that_does_not_answer_is_described_by_its_manifest() -> None:
    routes = (
        Route(method="GET", path="/m/{model:path}"),
        Route(method="POST", path="/open", access=Access.PUBLIC),
    )
    merged = merge([service("a", *routes)], {}, [Route(method="GET", path="/livez", access=Access.PUBLIC)])
    assert set(merged["paths"]) == {"/m/{model}", "/open", "/livez"}
    (parameter,) = merged["paths"]["/m/{model}"]["get"]["parameters"]
    assert (parameter["name"], parameter["required"]) == ("model", True)
    assert merged["paths"]["/m/{model}"]["get"]["security"] == [{"key": []}]
    assert merged["paths"]["/open"]["post"]["security"] == []


def test_operation_ids_are_unique() -> None:
    routes = [Route(method=method, path=path) for method in ("GET", "POST") for path in ("/", "/a", "/a/{b}")]
    merged = merge([service("a", *routes), service("b", Route(method="GET", path="/c"))], {}, [])
    ids = [operation["operationId"] for path in merged["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids)) == 7
