"""Listening sockets: TCP, Unix, or inherited from the process that started this one.

Every function returns plain non-blocking sockets that already listen; the server
accepts from them and closes them. A failure tells which address, why, and what to do.
"""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final, final

# Linux caps it at net.core.somaxconn (4096); 2048 is what uvicorn's users know.
BACKLOG: Final = 2048


@final
class CannotListen(Exception):
    """Raised when an address can't be listened on; the text says what would help."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, why)
        self.address = address
        self.why = why

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.why}"


def open_tcp(host: str, port: int, backlog: int = BACKLOG) -> list[socket.socket]:
    """Listen on every address that `host` stands for, all on the same port.

    Args:
        host: a name or an address, IPv6 with or without brackets. "" is every address
            of the machine, over IPv4 and IPv6.
        port: 0 lets the system choose one.
        backlog: connections that wait for `accept`, beyond which the system refuses.

    Raises:
        CannotListen: the port is taken or not allowed, or `host` is not of this machine.
        ValueError: `port` is outside 0 to 65535.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}; it must be 0 to 65535")
    name = host.removeprefix("[").removesuffix("]")
    shown = f"{_bracketed(name)}:{port}"
    try:
        found = socket.getaddrinfo(
            name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        raise CannotListen(shown, f"the host is unknown ({error})") from error
    listeners: list[socket.socket] = []
    refused: list[CannotListen] = []
    for family, _, _, _, address in dict.fromkeys(found):
        # "localhost" with port 0: the second address takes the port that the first one got.
        chosen = listeners[0].getsockname()[1] if listeners else port
        try:
            listeners.append(_listen_tcp(family, (address[0], chosen, *address[2:]), backlog))
        except OSError as error:
            # A machine without IPv6 still resolves "localhost" to ::1.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                close_all(listeners)
                raise CannotListen(shown, _why_not_tcp(error, chosen)) from error
            refused.append(CannotListen(shown, _why_not_tcp(error, chosen)))
    if not listeners:
        raise refused[0]
    return listeners


def open_unix(path: str | Path, mode: int = 0o666, backlog: int = BACKLOG) -> list[socket.socket]:
    """Listen on a Unix socket at `path`, replacing one that no server answers any more.

    Args:
        path: at most 107 bytes on Linux.
        mode: its permissions. All may connect by default, so that a web server running as
            another user can; the folder's permissions decide who reaches it.
        backlog: as for `open_tcp`.

    Raises:
        CannotListen: a server answers there, a file that is no socket is there, or the
            folder is missing or not writable.
    """
    remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        # Nobody can connect before listen(), so nobody gets in under the wrong mode.
        Path(path).chmod(mode)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotListen(f"unix:{path}", error.strerror or str(error)) from error
    return [listener]


def remove_stale(path: str | Path) -> None:
    """Remove the Unix socket at `path` if no server answers there.

    Called before binding, and after the listener was closed, when it leaves a socket alone
    that a successor has bound in the meantime.

    Raises:
        CannotListen: a server answers, or `path` is something other than a socket.
    """
    shown = f"unix:{path}"
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            raise CannotListen(shown, "a file that is not a socket is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a server with a full backlog is alive as well
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
        return
    except BlockingIOError:
        pass  # alive
    except OSError as error:
        raise CannotListen(shown, error.strerror or str(error)) from error
    raise CannotListen(shown, "another server answers there; stop it or choose another path")


def open_inherited(fd: int) -> list[socket.socket]:
    """Adopt the listening socket that file descriptor `fd` is, as socket activation passes it.

    The descriptor stays open if it is refused: whoever passed it may still need it.

    Raises:
        CannotListen: `fd` is not open, not a stream socket, or does not listen.
    """
    shown = f"file descriptor {fd}"
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        what = {errno.EBADF: "it is not open", errno.ENOTSOCK: "it is not a socket"}
        why = what.get(error.errno or 0, error.strerror or str(error))
        raise CannotListen(shown, f"{why}; pass one that a parent process listens on") from error
    if listener.type != socket.SOCK_STREAM:
        why = "it is not a stream socket"
    elif not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        why = "it is a socket that does not listen; the parent must call listen() on it"
    else:
        listener.setblocking(False)
        return [listener]
    listener.detach()
    raise CannotListen(shown, why)


def describe(listener: socket.socket, *, secure: bool = False) -> str:
    """Give the address to type into a browser, with https if `secure`, or `unix:` and the path.

    >>> with socket.create_server(("127.0.0.1", 0)) as listener:
    ...     describe(listener).rpartition(":")[0]
    'http://127.0.0.1'
    """
    address = listener.getsockname()
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        return f"http{'s' if secure else ''}://{_bracketed(address[0])}:{address[1]}"
    return f"unix:{os.fsdecode(address)}"


def close_all(listeners: list[socket.socket]) -> None:
    """Close every one of `listeners`; one that is closed already is no fault."""
    for listener in listeners:
        listener.close()


def _listen_tcp(
    family: socket.AddressFamily, address: tuple[object, ...], backlog: int
) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart waits a minute for the last server's TIME_WAIT connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Or [::] takes IPv4's port too, and the IPv4 address can't be bound beside it.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _why_not_tcp(error: OSError, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; stop the other program or choose another port"
        case errno.EACCES:
            return f"port {port} needs more rights; choose one from 1024 on"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case _:
            return error.strerror or str(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
