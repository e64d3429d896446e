import contextlib
import socket
import stat
import sys

import pytest

from moonpool.core.errors import StartupError
from moonpool.wiring.layout import Layout
from moonpool.wiring.listening import bind_tcp, bind_unix, in_use, refuse, remove_sockets, socket_folder


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "d")
    layout.create()
    return layout


def test_any_free_port(layout):
    (sock,) = bind_tcp("127.0.0.1", 0)
    with sock, socket.create_connection(sock.getsockname()):
        assert sock.getsockname()[1] > 0


def test_a_port_that_was_just_closed_is_free():
    (first,) = bind_tcp("127.0.0.1", 0)
    port = first.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    first.accept()[0].close()  # the server's side lingers in TIME_WAIT
    client.close()
    first.close()
    bind_tcp("127.0.0.1", port)[0].close()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS knows no way to do it")
def test_who_comes_too_late_is_refused_whoever_else_has_the_socket(tmp_path):
    for sock in (*bind_tcp("127.0.0.1", 0), bind_unix(tmp_path / "x.sock")):
        with sock, sock.dup(), socket.socket(sock.family) as waiting, socket.socket(sock.family) as late:
            waiting.connect(sock.getsockname())
            refuse([sock])
            waiting.settimeout(2.0)
            with contextlib.suppress(ConnectionResetError):
                assert waiting.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                late.connect(sock.getsockname())
            refuse([sock])
        refuse([sock])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_this_machine(host):
    with pytest.raises(StartupError, match=r"(no address of this machine|cannot listen)(.|\n)*--host"):
        bind_tcp(host, 0)


def test_a_unix_socket_replaces_what_a_killed_supervisor_left(tmp_path):
    path = tmp_path / "a.sock"
    bind_unix(path).close()
    assert path.exists()
    assert not in_use(path)
    with bind_unix(path):
        assert in_use(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not in_use(tmp_path / "missing.sock")


def test_a_unix_socket_that_cannot_be(tmp_path):
    with pytest.raises(StartupError, match="cannot listen"):
        bind_unix(tmp_path / "missing" / "a.sock")


def test_short_paths_stay_in_the_run_folder(layout):
    assert socket_folder(layout, "a.sock") == layout.run


def test_long_paths_go_to_a_private_folder_that_is_remembered(layout):
    folder = socket_folder(layout, "a" * 100)
    assert folder != layout.run
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert socket_folder(layout, "a" * 100) == folder
    folder.chmod(0o755)  # somebody else may have been in there
    other = socket_folder(layout, "a" * 100)
    assert other != folder
    folder.rmdir()
    bind_unix(other / "a.sock").close()
    remove_sockets(layout, other)
    assert not other.exists()
    assert not (layout.run / "sockets").exists()
