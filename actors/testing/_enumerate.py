"""All runs of one scenario that differ by a single cancellation, or a single crash."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar, TypeVarTuple

from ._errors import Unsteady
from ._plan import Plan, as_choices, as_crashes
from ._simulate import simulate
from ._simulation import Simulation, render

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Errors = type[BaseException] | tuple[type[BaseException], ...]


def every_cancellation(
    scenario: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    choices: Iterable[int] = (),
    crashes: Iterable[int | str] = (),
    target: str | None = None,
    catch: _Errors = (),
    max_steps: int = 100_000,
) -> Iterator[Simulation[T]]:
    """Run the scenario once for each step at which it can be cancelled, in their order.

    A run without cancellation comes first, to count the steps, and is not given. Between two
    steps nothing happens, so there is no other moment at which a cancellation could come.

    Args:
        scenario: an async function, which makes all the state that it uses.
        args: its arguments.
        choices: as for `simulate`, the same for each run.
        crashes: as for `simulate`, the same for each run.
        target: what is cancelled instead of the whole scenario; see `aim`. Only the steps at
            which it is alive are given.
        catch: as for `simulate`.
        max_steps: as for `simulate`.

    Raises:
        Unsteady: a run differs from the first one before its cancellation.
        ValueError: the scenario does not call `aim` for `target`.
    """
    base = Plan(as_choices(choices), as_crashes(crashes))
    first = simulate(scenario, *args, plan=base, catch=catch, max_steps=max_steps)
    if target is not None and target not in first.aimed_at:
        known = ", ".join(map(repr, first.aimed_at)) or "nothing"
        raise ValueError(f"the scenario aims at {known}, and not at {target!r}; see aim()")
    begin = 0 if target is None else first.aimed_at[target]
    for step in range(begin, first.checkpoints):
        plan = replace(base, cancel_at=step, target=target)
        run = simulate(scenario, *args, plan=plan, catch=catch, max_steps=max_steps)
        _compare(first, run, step)
        if run.hit:
            yield run


def every_crash(
    scenario: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    choices: Iterable[int] = (),
    catch: _Errors = (),
    max_steps: int = 100_000,
) -> Iterator[Simulation[T]]:
    """Run the scenario once for each crash point that it passes, in their order.

    A run without crashes comes first, to count them, and is not given. See `crash_point`.

    Args:
        scenario: an async function, which makes all the state that it uses.
        args: its arguments.
        choices: as for `simulate`, the same for each run.
        catch: as for `simulate`.
        max_steps: as for `simulate`.
    """
    base = Plan(as_choices(choices))
    first = simulate(scenario, *args, plan=base, catch=catch, max_steps=max_steps)
    for point in range(first.crash_points):
        plan = replace(base, crashes=(point,))
        yield simulate(scenario, *args, plan=plan, catch=catch, max_steps=max_steps)


def _compare(first: Simulation[T], run: Simulation[T], step: int) -> None:
    """Hold the steps before the cancellation against those of the first run."""
    before = [line for line in first.lines if line[1] < step]
    now = [line for line in run.lines if line[1] < step]
    if before == now or first.waited_outside or run.waited_outside or not run.steered:
        return
    nothing = (0.0, step, "nothing", None)
    for one, other in zip([*before, nothing], [*now, nothing], strict=False):
        if one != other:
            raise Unsteady(one[1], render([one]), render([other]))
