"""Tasks beside an actor's own, for the length of one incarnation.

An actor's handlers never overlap; what should go on meanwhile runs here, and reports by
telling the actor. A nursery has to be opened around what it serves, but an actor asks for
one in the middle of a handler, so this one lives in a task of its own next to the actor's.
"""

import contextvars
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, final

import trio

from ._reasons import flatten, sort_out


@final
class ActorNursery:
    """Starts tasks that end with the actor's incarnation at the latest; see `Context.nursery`."""

    __slots__ = ("_closing", "_failure", "_nursery", "_on_failure", "_over", "_scope", "_waiting")

    def __init__(self, on_failure: Callable[[], object]) -> None:
        self._on_failure = on_failure
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._closing = trio.Event()
        self._over = trio.Event()
        self._failure: BaseException | None = None
        self._waiting: list[tuple[contextvars.Context, Callable[..., Any], tuple[Any, ...]]] = []

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Start `await async_fn(*args)` as a task; what it raises crashes the actor.

        If another task here has failed, or the actor is cancelled from outside, it is
        cancelled at its first checkpoint.

        Raises:
            RuntimeError: the incarnation has ended.
        """
        if self._closing.is_set():
            raise RuntimeError("the actor's incarnation is over")
        if self._nursery is None:
            self._waiting.append((contextvars.copy_context(), async_fn, args))
        else:
            self._nursery.start_soon(async_fn, *args)

    async def run(self) -> None:
        """Hold the nursery open until it is closed; raises nothing but cancellation."""
        passing: BaseException | None = None
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    for context, async_fn, args in self._waiting:
                        context.run(nursery.start_soon, async_fn, *args)
                    self._waiting.clear()
                    try:
                        await trio.sleep_forever()
                    finally:
                        if nursery.cancel_scope.cancel_called:  # a task has failed
                            self._on_failure()
                        # Until the actor has heard of it, it may want to start more.
                        with trio.CancelScope(shield=True):
                            await self._closing.wait()
        except BaseException as error:  # noqa: BLE001 - it becomes the actor's crash
            outside = trio.current_effective_deadline() == -inf
            self._failure, passing = sort_out(error, cancelled=outside)
            del error
        finally:
            self._over.set()
        if passing is not None:
            try:
                raise passing
            finally:
                del passing

    async def aclose(self) -> BaseException | None:
        """Cancel the tasks and wait for their end, shielded; give what failed among them."""
        self._closing.set()
        self._scope.cancel(reason="the actor's incarnation is over")
        with trio.CancelScope(shield=True):
            await self._over.wait()
        return None if self._failure is None else flatten(self._failure)
