"""Ends tasks that do not end when they are cancelled: they swallow it, or are shielded.

A task that has children waits for them, and ends when they do, so only those without are
stopped. `HardStop` is a `SystemExit`, the one thing that everybody lets pass: an actor's
supervisor, too.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, cast, final

import outcome
import trio

# What a task may do for its cleaning up, before it is taken for one that spins.
_STEPS = 100


class HardStop(SystemExit):
    """Raised in tasks of a run that does not end when it is cancelled."""


def end_waits(tasks: Iterable[trio.lowlevel.Task]) -> None:
    """Wake those of the waiting `tasks` that have no children, by a `HardStop`."""
    for task in tasks:
        if not any(nursery.child_tasks for nursery in task.child_nurseries):
            trio.lowlevel.reschedule(task, outcome.Error(HardStop()))


@final
class SpinStop:
    """Ends tasks that spin, one by one, from the moment when it is made."""

    def __init__(self) -> None:
        self._steps: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Let the coming step of `task` raise `HardStop`, if it made very many since then."""
        self._steps[task] += 1
        if self._steps[task] > _STEPS:
            # Trio runs each step in the task's context, which is thus where one can be replaced.
            task.context = cast("Any", _ThrowingContext(task))


@final
class _ThrowingContext:
    """Stands in for a task's context, for one step that raises."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self._context = task.context

    def run(self, step: Callable[[Any], Any], value: Any) -> Any:  # noqa: ARG002 - what would have been
        """Throw into the task instead of letting it go on."""
        self._task.context = self._context
        return self._context.run(self._task.coro.throw, HardStop())
