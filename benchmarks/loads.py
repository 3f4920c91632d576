"""Loads for a server: a closed loop over a few connections, as lean as plain sockets are.

Only the server's CPU time is measured, so all these have to do is to be correct and not
to keep it waiting for long.
"""

import base64
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

PAYLOAD = b"x" * 64
MASK = b"\x12\x34\x56\x78"


def connect(port: int) -> socket.socket:
    """Open one connection to this machine."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_websocket(port: int, path: str) -> socket.socket:
    """Open a WebSocket by hand."""
    sock = connect(port)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = sock.recv(4096)
        if not part:
            raise SystemExit(f"no WebSocket at {path}: {answer!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"no WebSocket at {path}: {answer[:200]!r}")
    return sock


def text_frame(payload: bytes) -> bytes:
    """Make a client's text frame of fewer than 126 bytes."""
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return bytes((0x81, 0x80 | len(payload))) + MASK + masked


@contextmanager
def open_sockets(
    count: int, open_one: Callable[[], socket.socket]
) -> Iterator[list[socket.socket]]:
    """Open `count` connections, and close them at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_one()) for _ in range(count)]


def exchange(
    sockets: list[socket.socket], request: bytes, complete: Callable[[bytes], bool], times: int
) -> None:
    """Send `request` on each connection, `times` times, each after the last one's answer."""
    with selectors.DefaultSelector() as selector:
        left = dict.fromkeys(sockets, times)
        answers = dict.fromkeys(sockets, b"")
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(request)
        while left:
            ready = selector.select(30)
            if not ready:
                raise SystemExit("the server has not answered for 30 s")
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                part = sock.recv(65536)
                if not part:
                    raise SystemExit(f"the server closed a connection after {answers[sock]!r}")
                answers[sock] += part
                if complete(answers[sock]):
                    answers[sock] = b""
                    left[sock] -= 1
                    if left[sock]:
                        sock.sendall(request)
                    else:
                        del left[sock]
                        selector.unregister(sock)


def echo(sockets: list[socket.socket], times: int) -> None:
    """Have one text of 64 bytes echoed, `times` times on each WebSocket."""
    expected = bytes((0x81, len(PAYLOAD))) + PAYLOAD
    exchange(sockets, text_frame(PAYLOAD), lambda answer: answer == expected, times)


def get(port: int, path: str, sockets: list[socket.socket], times: int) -> None:
    """Get one page, `times` times on each connection."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n"
        "User-Agent: benchmark\r\nAccept-Encoding: identity\r\n\r\n"
    ).encode()

    def complete(answer: bytes) -> bool:
        head, found, body = answer.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path} was answered by {head[:200]!r}")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return len(body) >= int(line.split(b":")[1])
        return body.endswith(b"0\r\n\r\n")

    exchange(sockets, request, complete, times)
