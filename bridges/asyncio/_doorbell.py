"""Calls into the trio thread from other threads, at half the cost of `run_sync_soon`.

trio's own entry goes through a socket pair and has to be safe in signal handlers. For
the way home of a worker thread, several of them in each call, an event descriptor and
one write for all that is asked for at once will do. Linux only; elsewhere trio's own
entry is used.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import trio

Ring: TypeAlias = Callable[..., object]

_bell: Final[trio.lowlevel.RunVar["Doorbell | None"]] = trio.lowlevel.RunVar(
    "greenroom_doorbell", None
)


def current_ring() -> Ring:
    """Give `ring(fn, *args)`, which any thread may call to have `fn` called in this trio run.

    Calls keep their order. `fn` must not raise. `ring` raises `trio.RunFinishedError`
    when the run is over.
    """
    bell = _bell.get()
    if bell is None:
        if not hasattr(os, "eventfd"):
            return trio.lowlevel.current_trio_token().run_sync_soon
        bell = Doorbell()
        _bell.set(bell)
        trio.lowlevel.spawn_system_task(bell.answer)
    return bell.ring


@final
class Doorbell:
    """One trio run's way in."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._rung = False  # the descriptor is readable, and nobody has answered yet
        self._closed = False
        self._lock = threading.Lock()  # a closed descriptor's number may belong to somebody else

    def ring(self, fn: Callable[..., object], *args: Any) -> None:
        """Have `fn(*args)` called in the trio thread soon; called from any thread."""
        with self._lock:
            if not self._closed:
                self._calls.append((fn, args))
                if not self._rung:
                    self._rung = True
                    os.eventfd_write(self._descriptor, 1)
                return
        # Nobody answers any more, but other system tasks may still wait for their threads.
        self._token.run_sync_soon(fn, *args)

    async def answer(self) -> None:
        """Make the calls, until the run ends."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._descriptor)
                with self._lock:
                    os.eventfd_read(self._descriptor)
                    self._rung = False
                self._make_calls()
        finally:
            with self._lock:
                self._closed = True
                os.close(self._descriptor)
            self._make_calls()

    def _make_calls(self) -> None:
        for _ in range(len(self._calls)):  # what is asked for meanwhile rings again
            fn, args = self._calls.popleft()
            fn(*args)
