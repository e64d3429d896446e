from litestar import get

from moonpool.asgi.application import Application


@get("/things", sync_to_thread=False)
def handler() -> dict[str, int]:
    return {}


def test_no_library_that_we_do_not_use_looks_at_our_types() -> None:
    app = Application([handler], logging_config=None)
    plugins = [type(plugin).__name__ for plugin in app.plugins]
    assert "MsgspecDIPlugin" in plugins
    assert [name for name in plugins if name.startswith(("Pydantic", "Attrs"))] == []


def test_its_schema_needs_none_either() -> None:
    schema = Application([handler], logging_config=None).openapi_schema.to_schema()
    assert "/things" in schema["paths"]
