"""Bytes out of and into one socket, without a task.

`Transport` is what a connection asks of whatever carries its bytes. `SocketTransport` does
it for plain sockets that a `Pump` watches, `_stream.py` for any trio stream.
"""

import select
import socket
from collections.abc import Callable
from typing import Final, Protocol, final

from ._pump import Pump

RECEIVE_SIZE: Final = 65536
HIGH_WATER: Final = 65536  # bytes waiting for a slow client above which its writer waits
LOW_WATER: Final = HIGH_WATER // 4  # bytes at which the writer goes on


class Receiver(Protocol):
    """Who a transport reports to: a connection. None of these ever waits."""

    def data_received(self, data: bytes) -> None:
        """Take some bytes, one or more."""

    def eof_received(self) -> None:
        """Learn that the peer sends nothing more; it may still read."""

    def connection_lost(self) -> None:
        """Learn, once, that the transport is closed, by whichever side."""


class Transport(Protocol):
    """A carrier of bytes in both directions; nothing here waits or raises."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""

    @property
    def closing(self) -> bool:
        """Whether `close` was called; what was written may still be on its way."""

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer to read."""

    @property
    def congested(self) -> bool:
        """Whether more than `HIGH_WATER` bytes wait for the peer to read."""

    def write(self, data: bytes) -> None:
        """Send now what the peer takes, keep the rest; ignored once closed."""

    def wake_when_writable(self, wake: Callable[[], object]) -> None:
        """Call `wake` once when no longer congested, or closed."""

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`, so that the peer's writes come to wait."""

    def resume_reading(self) -> None:
        """Read again; has no effect after end of file."""

    def close(self, *, linger: bool = False) -> None:
        """Close once what was written has left.

        With `linger` only our direction is closed then, and the rest after the peer's: a
        socket closed with unread data in it may destroy what was just written (RFC 9112
        section 9.6). Whoever asks for it calls `abort` after a while.
        """

    def abort(self) -> None:
        """Close now, whatever is waiting."""


@final
class SocketTransport:
    """A non-blocking stream socket, watched by a pump."""

    __slots__ = (
        "_eof",
        "_fd",
        "_linger",
        "_mask",
        "_outgoing",
        "_pump",
        "_receiver",
        "_socket",
        "_wakers",
        "closed",
        "closing",
    )

    def __init__(self, pump: Pump, sock: socket.socket) -> None:
        self._pump = pump
        self._socket = sock
        self._fd = sock.fileno()
        self._mask = 0
        self._outgoing: bytearray | None = None
        self._wakers: list[Callable[[], object]] | None = None
        self.closing = False
        self._eof = False
        self._linger = False
        self._receiver: Receiver
        self.closed = False

    def start(self, receiver: Receiver) -> None:
        """Begin to read, into `receiver`; data that is there already is read at once."""
        self._receiver = receiver
        self._mask = select.EPOLLIN
        self._pump.register(self._fd, self._mask, self._on_events)
        self._read()

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer to read."""
        return 0 if self._outgoing is None else len(self._outgoing)

    @property
    def congested(self) -> bool:
        """Whether more than `HIGH_WATER` bytes wait for the peer to read."""
        return self._outgoing is not None and len(self._outgoing) > HIGH_WATER

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & ~select.EPOLLOUT and not self.closed:
            if self._mask & select.EPOLLIN:
                self._read()
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                # Reported even when nobody reads, and again and again until closed.
                self.abort()

    def _read(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if not data:
            self._eof = True
            self._watch(self._mask & ~select.EPOLLIN)
            if not self.closing:
                self._receiver.eof_received()
            elif self._outgoing is None:
                self.abort()
        elif not self._linger:
            self._receiver.data_received(data)

    def write(self, data: bytes) -> None:
        """Send now what the peer takes, keep the rest; ignored once closed."""
        if self._outgoing is not None:
            if not self.closing:
                self._outgoing += data
            return
        if self.closed or self.closing:
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.abort()
            return
        if sent != len(data):
            self._outgoing = bytearray(memoryview(data)[sent:])
            self._watch(self._mask | select.EPOLLOUT)

    def _flush(self) -> None:
        outgoing = self._outgoing
        if outgoing is None:
            self._watch(self._mask & ~select.EPOLLOUT)
            return
        try:
            sent = self._socket.send(outgoing)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        del outgoing[:sent]
        if len(outgoing) <= LOW_WATER:
            self._wake_writers()
        if not outgoing and self._outgoing is outgoing:
            self._outgoing = None
            self._watch(self._mask & ~select.EPOLLOUT)
            if self.closing:
                self._finish()

    def wake_when_writable(self, wake: Callable[[], object]) -> None:
        """Call `wake` once when no longer congested, or closed."""
        if self._wakers is None:
            self._wakers = []
        self._wakers.append(wake)

    def _wake_writers(self) -> None:
        wakers, self._wakers = self._wakers, None
        for wake in wakers or ():
            wake()

    def _watch(self, mask: int) -> None:
        if mask != self._mask and not self.closed:
            self._mask = mask
            self._pump.modify(self._fd, mask)

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`, so that the peer's writes come to wait."""
        self._watch(self._mask & ~select.EPOLLIN)

    def resume_reading(self) -> None:
        """Read again; has no effect after end of file."""
        if not self._eof and not self.closing:
            self._watch(self._mask | select.EPOLLIN)

    def close(self, *, linger: bool = False) -> None:
        """Close once what was written has left; see `Transport.close`."""
        if self.closed or self.closing:
            return
        self.closing = True
        self._linger = linger
        if self._outgoing is None:
            self._finish()

    def _finish(self) -> None:
        if self._eof or not self._linger:
            self.abort()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._watch(select.EPOLLIN)  # what comes is thrown away; its end closes

    def abort(self) -> None:
        """Close now, whatever is waiting."""
        if self.closed:
            return
        self.closed = True
        self._outgoing = None
        self._pump.unregister(self._fd)
        self._socket.close()
        self._wake_writers()
        self._receiver.connection_lost()
