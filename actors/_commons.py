"""What all actors of one tree share."""

from collections.abc import Callable
from typing import Any, final

from ._alarms import Alarms
from ._dead_letters import DeadLetters


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

    def close(self) -> None:
        """Let go of what needs a task."""
        self.alarms.close()
