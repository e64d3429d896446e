"""What an operator at the machine can ask and see, whatever is down."""

import pytest

from moonpool.adapters.config.kept import KeptFile
from moonpool.contracts import context
from moonpool.contracts.documents.wire import Kept, Snapshot, Stored
from moonpool.core.errors import Unavailable
from moonpool.core.principal import Role
from moonpool.ports.discovery import Instance
from moonpool.wiring.layout import Layout
from moonpool.wiring.operator import config_server, documents_note, last_known
from moonpool.wiring.secrets import context_key, load_root
from moonpool.wiring.topology import TopologyFile


@pytest.fixture
def layout(tmp_path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


def instance(name: str) -> Instance:
    return Instance(
        name=name, release="v1", instance=f"{name}-0-1", pid=1, state="ready", endpoint=f"unix:/{name}"
    )


def test_the_config_server_is_asked_with_the_folders_secret(layout, monkeypatch) -> None:
    monkeypatch.delenv("MOONPOOL_SECRET", raising=False)
    with pytest.raises(Unavailable):
        config_server(layout)
    TopologyFile(layout.topology).publish((instance("chat"), instance("config")))
    with pytest.raises(FileNotFoundError):
        config_server(layout)
    root = load_root(layout.root_key, "")
    direct = config_server(layout)
    assert direct.endpoint == "unix:/config"
    told = context.verify(context_key(root, "config"), direct.context, audience="config", now=0)
    assert told.principal.role is Role.OWNER
    assert told.principal.user.startswith("operator:")
    monkeypatch.setenv("MOONPOOL_SECRET", "x" * 40)
    root = load_root(layout.root_key, "x" * 40)
    context.verify(context_key(root, "config"), config_server(layout).context, audience="config", now=0)


def test_a_note_of_how_all_stand(layout) -> None:
    for name, more in (
        ("config", {"version": 3, "live": True}),
        ("chat", {"version": 3, "live": True, "pending": ("gateway.port",)}),
        ("auth", {"version": 2, "live": True}),
        ("user", {"version": 3, "live": True, "refused": "version 4: no"}),
        ("model", {"version": 3, "live": False}),
        ("ghost", {"version": 9, "live": False}),
    ):
        KeptFile(layout.run, name).write(Kept(instance=f"{name}-0-1", **more))
    running = tuple(instance(name) for name in ("config", "chat", "auth", "user", "model"))
    note = documents_note(layout, running)
    assert (note.version, note.away, note.behind) == (3, ["model"], ["auth", "user"])
    assert note.pending == {"gateway.port": ["chat"]}


def test_what_was_known_last(layout) -> None:
    assert last_known(layout) is None
    snapshot = Snapshot(
        epoch="e", sequence=1, documents=(Stored(name="platform", version=1, content={}, author="a"),)
    )
    KeptFile(layout.run, "config").write(Kept(instance="config-0-1", snapshot=snapshot))
    assert last_known(layout) == snapshot
