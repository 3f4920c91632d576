"""Which task comes first, where several could run.

Sans-IO: a `Schedule` only orders what it is given. `_steering.py` asks it, in trio's loop.

Source: Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding
Bugs" (PCT): tasks have priorities, and at a few points of change the first becomes the last.
Most races need one or two such changes, wherever they are.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, Generic, TypeVar, final

T = TypeVar("T")

_NOBODY: Final = frozenset[object]()


@final
class Schedule(Generic[T]):
    """The order of tasks, which is that of their age wherever no choice says otherwise.

    A decision is a moment when two or more tasks can run. Each choice is the number of a
    decision, counted from 0, at which the first task is sent behind all others, and stays
    there. A number that stands there twice sends two, one after the other. The order of
    the choices means nothing, so each can be left out or changed without the others.

    Args:
        choices: numbers of decisions; those that never come have no effect.

    >>> schedule = Schedule[str]([1])
    >>> [schedule.order(["a", "b", "c"]) for _ in range(3)]
    [['a', 'b', 'c'], ['b', 'c', 'a'], ['b', 'c', 'a']]
    """

    __slots__ = ("_changes", "_ranks", "_sent_back", "active", "aside", "decisions")

    def __init__(self, choices: Iterable[int] = ()) -> None:
        self._changes = Counter(choices)
        self._ranks: dict[T, int] = {}
        self._sent_back = 0
        self.active = True
        """Whether decisions count; if not, the order is that of age."""
        self.aside: Collection[object] = _NOBODY
        """Who is no part of this: always first, and never counted."""
        self.decisions = 0
        """How often there were two or more to choose from."""

    def order(self, tasks: list[T]) -> list[T]:
        """Put `tasks`, given by age, the oldest first, into the order in which they run."""
        if not self.active:
            return tasks
        first = [task for task in tasks if task in self.aside]
        rest = [task for task in tasks if task not in self.aside] if first else tasks
        if len(rest) < 2:
            return tasks if not first else first + rest
        ranks = self._ranks
        if ranks:
            rest = sorted(rest, key=lambda task: ranks.get(task, 0))
        for _ in range(self._changes[self.decisions] if self._changes else 0):
            self._sent_back += 1
            ranks[rest[0]] = self._sent_back
            rest = [*rest[1:], rest[0]]
        self.decisions += 1
        return first + rest
