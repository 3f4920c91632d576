"""What all actors of one tree share."""

from collections import deque
from collections.abc import Callable
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ._alarms import Alarms
from ._dead_letters import DeadLetters
from ._ends import ActorEnd, words_for
from ._events import EventStream
from ._groups import Groups
from ._reasons import ExitReason
from ._receptionist import Receptionist
from ._registry import Registry

if TYPE_CHECKING:
    from ._cell import Cell

# Abnormal ends that are kept for reports.
ENDS_KEPT: Final = 50


@final
class Commons:
    """Made with the tree, and closed when its root has ended.

    Args:
        start_task: starts a task that outlives the actors.
        dead_letters: where lost messages go.
    """

    def __init__(
        self,
        start_task: Callable[[Callable[[], Any], str], None],
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self.dead_letters = DeadLetters() if dead_letters is None else dead_letters
        self.alarms = Alarms(start_task)
        self.thread: Final = get_ident()  # where they live
        self.events: Final = EventStream()
        self.registry: Final = Registry()
        self.receptionist: Final = Receptionist()
        self.groups: Final = Groups()
        self.ended: Final[deque[ActorEnd]] = deque(maxlen=ENDS_KEPT)
        self.deadline = inf  # of the whole tree's end
        # Who cleans up now, and in which scope: shielded, so that only this may cut it short.
        self.cleanups: Final[dict[Cell, trio.CancelScope]] = {}
        self._no_more_letters = self.dead_letters.subscribe(self.events.publish)

    def be_over_by(self, deadline: float) -> None:
        """Let nothing that ends, or will end, take longer than until then."""
        self.deadline = min(self.deadline, deadline)
        for scope in self.cleanups.values():
            scope.deadline = min(scope.deadline, self.deadline)

    def note_end(self, path: str, uid: int, reason: ExitReason) -> None:
        """Keep an abnormal end for reports."""
        at = trio.current_time() if trio.lowlevel.in_trio_run() else None
        self.ended.append(ActorEnd(path, uid, words_for(reason), at))

    def close(self) -> None:
        """Let go of what needs a task, and of what outlives the tree."""
        self.alarms.close()
        self._no_more_letters()
