"""An awaitable for work that was done when it was called.

A layer that never waits does its work in the call itself, in the caller's thread. What it
returns can still be awaited, under trio as under asyncio, handed to `create_task`, or
not be awaited at all: `self.channel_layer.send(...)` in a sync consumer has sent.
"""

from collections.abc import Coroutine, Iterator
from typing import Any, Final, NoReturn, final


@final
class Done(Coroutine[Any, Any, None]):
    """A coroutine at its end; there is one, `DONE`, for everybody."""

    __slots__ = ()

    def __await__(self) -> Iterator[Any]:  # type: ignore[override]  # any iterator will do
        return iter(())

    def send(self, _value: Any, /) -> NoReturn:
        """Say that there is nothing left to run."""
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> NoReturn:
        """Raise what was thrown in, as a finished coroutine does."""
        if val is None:
            val = typ() if isinstance(typ, type) else typ
        raise val.with_traceback(tb)

    def close(self) -> None:
        """Do nothing: nothing is open."""


DONE: Final = Done()
