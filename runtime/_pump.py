"""One trio task that watches every plain socket of a server.

trio waits on one file descriptor, that of an epoll instance of our own (an epoll
descriptor is itself pollable); all sockets are registered there once and stay. So a
message costs no registration, no task switch for reading, and a connection needs no
task: measured, half of what a task and a stream per connection cost.

Linux only: elsewhere `AVAILABLE` is false, and `_stream.py` drives the same connections.
"""

import logging
import select
from collections.abc import Callable
from typing import Final

import trio

AVAILABLE: Final = hasattr(select, "epoll")
BATCH: Final = 256  # events taken at once; the rest wait for the next turn, after the actors'

logger = logging.getLogger("greenroom.server")


class Pump:
    """Calls back, in the trio thread, whenever a registered descriptor is ready."""

    __slots__ = ("_callbacks", "_epoll")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}

    def register(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever one of the events of `mask` holds for `fd`."""
        self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def modify(self, fd: int, mask: int) -> None:
        """Watch for the events of `mask` from now on; 0 leaves errors and hang-ups."""
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Forget `fd`; to be called before it is closed."""
        del self._callbacks[fd]
        self._epoll.unregister(fd)

    async def run(self) -> None:
        """Watch until cancelled. What a callback raises is logged and stops nothing."""
        poll = self._epoll.poll
        callbacks = self._callbacks
        try:
            while True:
                ready = poll(0, BATCH)
                if not ready:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    continue
                for fd, events in ready:
                    # A callback before this one may have closed this descriptor.
                    callback = callbacks.get(fd)
                    if callback is not None:
                        try:
                            callback(events)
                        except Exception:  # one connection's fault is not the others'
                            logger.exception("the handler of descriptor %d failed", fd)
                await trio.lowlevel.checkpoint()  # now the actors run
        finally:
            self._epoll.close()
