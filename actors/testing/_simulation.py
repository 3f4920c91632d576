"""What is left of a run: what came out, what happened, and how much there was to decide."""

from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar, final

from ._plan import Plan
from ._steering import Steering

T = TypeVar("T")

SIMULATION: Final = "(simulation)"
"""Who speaks in a trace where no task does."""

Line: TypeAlias = tuple[float, int, str, str | None]
"""Virtual time, step, task, and what is said there; `None` for the step itself."""


@final
@dataclass(frozen=True, slots=True)
class Simulation(Generic[T]):
    """One run of a scenario, which is over.

    Args:
        plan: what decided about it.
        value: what the scenario returned; `None` if it was cancelled or failed.
        error: what it raised, if `simulate` was told to catch that.
        cancelled: whether it ended by the cancellation of `cancel_at`.
        hit: whether `cancel_at` came true while its target was alive.
        ended_at: virtual seconds from its begin to its end.
        checkpoints: steps that its tasks made, and so the values of `cancel_at` that mean
            something, from 0.
        decisions: moments when two or more tasks could run, and so the choices that mean
            something, from 0.
        crash_points: crash points that it passed, and so the numbers in `crashes` that mean
            something, from 0.
        crashes_hit: the crash points at which it crashed, in order, each with its name and how
            often it had been passed, as "half written 2". One of `crashes` that is not among
            them was never passed, or is mistyped.
        tasks_left: names of system tasks that the scenario left behind.
        aimed_at: the first step at which each target of `aim` can be hit.
        steering: how far `choices` have decided about the order of tasks.
        waited_outside: whether it waited for a thread or a socket, in real time. Such a run
            may differ from the next one.
        lines: the trace as data: virtual time, step, task, and text; `None` for a step itself.
    """

    plan: Plan
    value: T | None
    error: BaseException | None
    cancelled: bool
    hit: bool
    ended_at: float
    checkpoints: int
    decisions: int
    crash_points: int
    crashes_hit: tuple[str, ...]
    tasks_left: tuple[str, ...]
    aimed_at: dict[str, int]
    steering: Steering
    waited_outside: bool
    lines: tuple[Line, ...] = field(repr=False)

    @property
    def steered(self) -> bool:
        """Whether the order of tasks was that of `choices`, and no other."""
        return self.steering is Steering.STEERED

    @property
    def choices_used(self) -> tuple[int, ...]:
        """The choices whose decisions have come, in their order."""
        return tuple(sorted(choice for choice in self.plan.choices if choice < self.decisions))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the scenario said by `note`, in order."""
        return tuple(
            text for _, _, who, text in self.lines if text is not None and who != SIMULATION
        )

    @property
    def trace(self) -> str:
        """All that happened, a line each: virtual time, step, task, and text.

        The same plan gives the same bytes, in any process, with the same release of trio.
        """
        text = render(self.lines)
        if self.steering is Steering.STEERED:
            return text
        return f"# {self.steering.value}\n{text}"


def render(lines: tuple[Line, ...] | list[Line]) -> str:
    """Write lines of a trace."""
    return "\n".join(
        f"{time:10.6f} {step:6d} {task}{'' if text is None else ': ' + text}"
        for time, step, task, text in lines
    )
