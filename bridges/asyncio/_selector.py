"""The selector of a hosted loop: looks, never waits, and says when to stop turning."""

import math
import selectors
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, final

Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]

TURNS: Final = 4  # asyncio's iterations in a row before trio gets a turn; more is faster, less fair


@final
class BurstSelector(selectors.BaseSelector):
    """Wraps the platform's selector for a loop that runs in bursts.

    asyncio tells its selector how long it may wait: not at all while callbacks are
    ready, else until the next timer. That is all one has to know to leave the waiting
    to trio. The last turn of a burst calls `on_idle` with the seconds until the next
    timer if nothing else is left to do, and `on_tired` if something may be.
    """

    on_idle: Callable[[float], None]
    on_tired: Callable[[], None]

    def __init__(self) -> None:
        self.ready = False  # trio, which watches `fileno()`, has seen something
        self._selector = selectors.DefaultSelector()
        self._turns = 0

    def begin_burst(self) -> None:
        """Allow `TURNS` more turns."""
        self._turns = TURNS

    def select(self, timeout: float | None = None) -> Ready:
        """Tell which descriptors are ready now, whatever the `timeout`.

        The system is asked only after trio has seen something: a burst that a callback
        began, as most do, costs no system call.
        """
        events = self._selector.select(0) if self.ready else []
        self.ready = bool(events)
        self._turns -= 1
        # With events the burst goes on, even if no callback was ready: what they wake, such
        # as the handler of a signal, shall not have to wait for trio's next tick.
        if not events and (timeout is None or timeout > 0):
            self.on_idle(math.inf if timeout is None else timeout)
        elif self._turns <= 0:
            self.on_tired()
        return events

    def retire(self) -> None:
        """From now on wait as the platform's selector does: trio turns the loop no more."""
        self.select = self._selector.select  # type: ignore[method-assign]

    def fileno(self) -> int:
        """Give the descriptor that is readable while any registered one is ready.

        Raises:
            OSError: this platform's selector has no such descriptor.
        """
        fileno = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise OSError(
                f"{type(self._selector).__name__} has no descriptor to wait for; "
                "hosting an asyncio loop needs epoll or kqueue"
            )
        descriptor: int = fileno()
        return descriptor

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As the platform's selector."""
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As the platform's selector."""
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As the platform's selector."""
        return self._selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As the platform's selector."""
        return self._selector.get_map()

    def close(self) -> None:
        """Close the platform's selector."""
        self._selector.close()
