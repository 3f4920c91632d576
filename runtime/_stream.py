"""Carries a connection's bytes over any trio stream: TLS, tests in memory, systems without epoll.

The same connections run here as over sockets; only the price differs: two tasks each.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import final

import trio

from ._transport import HIGH_WATER, LOW_WATER, RECEIVE_SIZE, Receiver


@final
class StreamTransport:
    """A `trio.abc.Stream` as a transport; `run` is its life."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._receiver: Receiver
        self._outgoing = bytearray()
        self._to_write = trio.Event()
        self._may_read = trio.Event()
        self._may_read.set()
        self._wakers: list[Callable[[], object]] = []
        self.closing = False
        self._linger = False
        self._eof = False
        self._scope = trio.CancelScope()
        self.closed = False

    async def run(self, receiver: Receiver) -> None:
        """Carry bytes until the connection ends or this is cancelled; then close the stream."""
        self._receiver = receiver
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_on)
                    await self._read_on()
        finally:
            self.abort()
            await trio.aclose_forcefully(self._stream)

    async def _read_on(self) -> None:
        while True:
            await self._may_read.wait()
            try:
                data = await self._stream.receive_some(RECEIVE_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.abort()
                return
            if not data:
                break
            if not self.closing:
                self._receiver.data_received(bytes(data))
        self._eof = True
        if not self.closing:
            self._receiver.eof_received()
        elif not self._outgoing:
            self.abort()

    async def _write_on(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write = trio.Event()
            while self._outgoing:
                part = bytes(self._outgoing[:RECEIVE_SIZE])
                try:
                    await self._stream.send_all(part)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.abort()
                    return
                del self._outgoing[: len(part)]
                if len(self._outgoing) <= LOW_WATER:
                    self._wake_writers()
            if self.closing:
                await self._finish()
                return

    async def _finish(self) -> None:
        if (
            self._linger
            and not self._eof
            and isinstance(self._stream, trio.abc.HalfCloseableStream)
        ):
            try:
                await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.abort()
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.aclose()  # TLS says goodbye here, if somebody still listens
        self.abort()

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer to read."""
        return len(self._outgoing)

    @property
    def congested(self) -> bool:
        """Whether more than `HIGH_WATER` bytes wait for the peer to read."""
        return len(self._outgoing) > HIGH_WATER

    def write(self, data: bytes) -> None:
        """Keep `data` for the writing task; ignored once closed."""
        if not self.closed and not self.closing:
            self._outgoing += data
            self._to_write.set()

    def wake_when_writable(self, wake: Callable[[], object]) -> None:
        """Call `wake` once when no longer congested, or closed."""
        self._wakers.append(wake)

    def _wake_writers(self) -> None:
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def pause_reading(self) -> None:
        """Read at most once more until `resume_reading`."""
        if self._may_read.is_set():
            self._may_read = trio.Event()

    def resume_reading(self) -> None:
        """Read again."""
        self._may_read.set()

    def close(self, *, linger: bool = False) -> None:
        """Close once what was written has left; see `Transport.close`."""
        if not self.closed and not self.closing:
            self.closing = True
            self._linger = linger
            self._may_read.set()
            self._to_write.set()

    def abort(self) -> None:
        """Close now, whatever is waiting."""
        if not self.closed:
            self.closed = True
            self._outgoing.clear()
            self._scope.cancel()
            self._wake_writers()
            self._receiver.connection_lost()
