"""One run in progress: counts its steps, writes its trace, and does what its plan says.

Trio tells it of each step of a task. Only one is in progress in a process.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol, final

import trio

from .._ref import ActorRef
from ._clock import VirtualClock
from ._hard_stop import HardStop, SpinStop, end_waits
from ._names import readable_name, tasks_of_trio, where, without_addresses
from ._plan import Plan
from ._schedule import Schedule
from ._simulation import SIMULATION, Line

# After a run was cancelled for its length: so many steps more to come to an end by itself,
# and then as many while its tasks are stopped, before it is broken off.
_LAST_STEPS: Final = 10_000

# How often all tasks may wait for ever again, after those that did so were stopped.
_DEADLOCKS: Final = 1000


class Cancellable(Protocol):
    """What `aim` takes, beside an `ActorRef`: a `trio.CancelScope`, or what looks like it."""

    def cancel(self) -> object:
        """Cancel it; must not wait."""


@final
class Instrument(trio.abc.Instrument):
    """What trio calls during a run: it looks at all names of such an object, so this has few."""

    __slots__ = ("_clock", "_run")

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._clock = run.clock

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
        self._run.before_task_step(task)

    def before_io_wait(self, timeout: float) -> None:
        """Let time pass, if nothing else can happen."""
        self._clock.before_io_wait(timeout)

    def after_io_wait(self, timeout: float) -> None:
        """Let time pass, if nothing was heard from outside."""
        self._clock.after_io_wait(timeout)


@final
class Run:
    """The state of one simulation, from its begin to its end."""

    current: "Run | None" = None
    """The simulation that is in progress."""

    def __init__(self, plan: Plan, max_steps: int) -> None:
        self.plan = plan
        self.clock = VirtualClock(self._found_deadlock)
        self.schedule = Schedule[trio.lowlevel.Task](plan.choices)
        self.schedule.active = False
        self.scope = trio.CancelScope()
        self.lines: list[Line] = []
        self.steps = 0
        """Steps of the scenario's tasks until it was over."""
        self.ended_at = 0.0
        self.crash_points = 0
        self.crashes_hit: list[str] = []
        """The full names of the crash points that crashed."""
        self.hit = False
        """Whether `cancel_at` has cancelled something that was alive."""
        self.over = False
        self.aimed_at: dict[str, int] = {}
        """The steps at which targets were first named."""
        self.waiting: tuple[str, ...] | None = None
        """Where the tasks wait, once there was a deadlock."""
        self.deadlock_at = 0.0
        self._deadlocks = 0
        self._spin_stop: SpinStop | None = None
        self.endless: list[Line] | None = None
        """The last lines before the run was ended for its length."""
        self.failure: BaseException | None = None
        """What went wrong in here, where trio would swallow it."""
        self.tasks_left: tuple[str, ...] = ()
        self._all_steps = 0
        self._thread = threading.get_ident()
        self._max_steps = max_steps
        self._aims: dict[str, Callable[[], bool]] = {}
        self._passed: Counter[str] = Counter()
        self._labels: dict[trio.lowlevel.Task, str | None] = {}
        self._names: Counter[str] = Counter()

    # The scenario's task calls these at its begin and end.

    def begin(self, name: str) -> None:
        """Begin to count and to steer, in the first step of the scenario's own task."""
        own = trio.lowlevel.current_task()
        own.name = name
        outside = {task for task in tasks_of_trio() if task is not own}
        self._labels.update(dict.fromkeys(outside))
        self.schedule.aside = outside
        self.schedule.active = True
        self.before_task_step(own)

    def end(self, how: str) -> None:
        """Note what is left, and stop counting, in the last step of the scenario's own task."""
        self._tell(how)
        own = trio.lowlevel.current_task()
        # By name: trio keeps its tasks in a set.
        tasks = sorted(tasks_of_trio(), key=readable_name)
        left = [self._label(task) for task in tasks if task is not own]
        self.tasks_left = tuple(label for label in left if label is not None)
        self.ended_at = self.clock.now
        self.over = True
        self.schedule.active = False

    # Trio calls this.

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step, and do what is to be done before it."""
        if not self._labels:
            return  # the scenario has not begun
        label = self._label(task)
        if label is None:
            return
        step = self._all_steps
        self._all_steps = step + 1
        if not self.over:
            self.steps = step + 1
            if step == self.plan.cancel_at:
                self._cancel()
            self.lines.append((self.clock.now, step, label, None))
        if step >= self._max_steps:
            self._stop_endless(step, task)

    # The scenario calls these, by functions of this package.

    def note(self, text: str) -> None:
        """Write a line of the trace."""
        label = "no task"
        if threading.get_ident() != self._thread:
            label = "a thread"
        elif trio.lowlevel.in_trio_task():
            label = self._label(trio.lowlevel.current_task()) or "trio"
        self._write(label, text)

    def aim(self, name: str, cancel: Callable[[], bool]) -> None:
        """Let the plan's `target` mean this; `cancel` tells whether it was alive."""
        self._aims[name] = cancel
        self.aimed_at.setdefault(name, self.steps)

    def crashes_at(self, point: str) -> str | None:
        """Count a crash point; give its full name if it is to crash now."""
        number = self.crash_points
        self.crash_points += 1
        self._passed[point] += 1
        full = f"{point} {self._passed[point]}"
        crashes = self.plan.crashes
        if not crashes or not {number, point, full}.intersection(crashes):
            return None
        self.crashes_hit.append(full)
        self._tell(f"crash point {number} crashes: {full}")
        return full

    # What is done about it.

    def _tell(self, text: str) -> None:
        self._write(SIMULATION, text)

    def _write(self, label: str, text: str) -> None:
        if not self.over:
            clean = without_addresses(text).replace("\n", "\\n")
            self.lines.append((self.clock.now, self.steps - 1, label, clean))

    def _label(self, task: trio.lowlevel.Task) -> str | None:
        """Name a task as the trace does; `None` for trio's own."""
        try:
            return self._labels[task]
        except KeyError:
            name = readable_name(task)
            self._names[name] += 1
            count = self._names[name]
            label = self._labels[task] = name if count == 1 else f"{name}/{count}"
            return label

    def _cancel(self) -> None:
        target = self.plan.target
        if target is None:
            self.hit = True
            self._tell("the scenario is cancelled")
            self.scope.cancel(reason=f"cancel_at={self.plan.cancel_at}")
        elif target in self._aims:
            self._tell(f"{target} is cancelled")
            try:
                self.hit = self._aims[target]()
            except Exception as error:  # noqa: BLE001 - raised again when the run is over
                self.failure = error

    def _stop_endless(self, step: int, task: trio.lowlevel.Task) -> None:
        if self.endless is None:
            self.endless = self.lines[-20:]
            self.scope.cancel(reason="the simulation has too many steps")
        elif step >= self._max_steps + 2 * _LAST_STEPS:
            self.clock.broken = HardStop()
        elif step >= self._max_steps + _LAST_STEPS:
            if self._spin_stop is None:
                self._spin_stop = SpinStop()
            self._spin_stop.before_task_step(task)

    def _found_deadlock(self) -> None:
        waiting = {
            task: label
            for task, label in self._labels.items()
            if label is not None and task.coro.cr_frame is not None
        }
        self._deadlocks += 1
        if not waiting or self._deadlocks > _DEADLOCKS:
            self.clock.broken = HardStop()
        elif self.waiting is None:
            self.deadlock_at = self.clock.now
            self.waiting = tuple(f"{label} in {where(task)}" for task, label in waiting.items())
            self.scope.cancel(reason="the simulation is in a deadlock")
        else:
            end_waits(waiting)


def note(text: object) -> None:
    """Write a line into the trace of the simulation that is in progress.

    Outside of simulations it does nothing, so that it may stay in a program. Addresses such
    as in the `repr` of most objects are left out, since no two runs have the same.
    """
    run = Run.current
    if run is not None:
        run.note(str(text))


def aim(target: ActorRef[Any] | Cancellable, name: str = "") -> None:
    """Let the plan's `cancel_at` hit this, if its `target` has this name.

    An actor is killed, a cancel scope cancelled. Outside of simulations it does nothing.

    Args:
        target: what the scenario wants to see cancelled at each possible moment from now.
        name: by default an actor's path; a scope needs one.

    Raises:
        ValueError: a scope has no name.
    """
    run = Run.current
    if run is None:
        return
    if isinstance(target, ActorRef):
        ref = target

        def kill() -> bool:
            alive = ref.alive
            ref.kill("the simulation")
            return alive

        run.aim(name or ref.path, kill)
        return
    if not name:
        raise ValueError("a cancel scope needs a name to be a target: aim(scope, 'upload')")
    scope = target

    def cancel() -> bool:
        scope.cancel()
        return True

    run.aim(name, cancel)
