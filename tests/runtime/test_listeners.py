"""Listening sockets on real addresses of this machine."""

import os
import socket
from pathlib import Path

import pytest

from greenroom.runtime.listeners import (
    CannotListen,
    close_all,
    describe,
    open_inherited,
    open_tcp,
    open_unix,
    remove_stale,
)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_tcp_listens_without_blocking_on_a_port_of_the_system_s_choice() -> None:
    [listener] = open_tcp("127.0.0.1", 0)
    with listener:
        assert not listener.getblocking()
        port = listener.getsockname()[1]
        assert describe(listener) == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.mark.parametrize("host", ["localhost", ""])
def test_all_addresses_of_a_host_share_one_port(host: str) -> None:
    listeners = open_tcp(host, 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        assert len({listener.family for listener in listeners}) == len(listeners)
    finally:
        close_all(listeners)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_shown_in_brackets(host: str) -> None:
    [listener] = open_tcp(host, 0)
    with listener:
        assert describe(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_a_taken_port_is_named_with_what_to_do() -> None:
    [first] = open_tcp("127.0.0.1", 0)
    port = first.getsockname()[1]
    with first, pytest.raises(CannotListen, match=r"the port is in use") as failure:
        open_tcp("127.0.0.1", port)
    assert failure.value.address == f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("host", "why"),
    [("203.0.113.9", "no such address"), ("no.such.host.invalid", "the host is unknown")],
)
def test_a_host_of_another_machine_is_refused(host: str, why: str) -> None:
    with pytest.raises(CannotListen, match=why):
        open_tcp(host, 0)


def test_a_port_out_of_range_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="port is 65536"):
        open_tcp("127.0.0.1", 65536)


def test_a_unix_socket_has_its_mode_and_is_described_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    [listener] = open_unix(path, mode=0o600)
    with listener:
        assert path.stat().st_mode & 0o777 == 0o600
        assert describe(listener) == f"unix:{path}"
        assert not listener.getblocking()


def test_a_socket_file_that_nobody_answers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    [crashed] = open_unix(path)
    crashed.close()
    [listener] = open_unix(path)
    with listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_of_a_live_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    [live] = open_unix(path)
    with live, socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(CannotListen, match="another server answers"):
            open_unix(path)
        client.connect(str(path))


def test_a_live_server_whose_backlog_is_full_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    [live] = open_unix(path, backlog=0)
    with live, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with pytest.raises(CannotListen, match="another server answers"):
            remove_stale(path)
        assert path.exists()


def test_a_file_in_the_way_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(CannotListen, match="not a socket"):
        open_unix(path)
    assert path.read_text() == "keep me"


@pytest.mark.parametrize("name", ["missing/app.sock", "s" * 150])
def test_a_path_that_can_t_be_bound_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotListen, match=name):
        open_unix(tmp_path / name)


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_stale(tmp_path / "app.sock")


def test_an_inherited_socket_is_adopted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as parent:
        [listener] = open_inherited(os.dup(parent.fileno()))
        with listener:
            assert describe(listener) == f"http://127.0.0.1:{parent.getsockname()[1]}"
            assert not listener.getblocking()


def test_a_descriptor_that_is_not_a_listening_socket_is_refused_and_stays_open(
    tmp_path: Path,
) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(CannotListen, match="not a socket"):
        open_inherited(file.fileno())
    with socket.socket() as idle:
        with pytest.raises(CannotListen, match="does not listen"):
            open_inherited(idle.fileno())
        idle.getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(CannotListen, match="not a stream socket"):
            open_inherited(datagrams.fileno())
        datagrams.getsockname()
    with pytest.raises(CannotListen, match="not open"):
        open_inherited(9999)
