"""Runs a scenario once, as a plan says."""

import gc
import inspect
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar, TypeVarTuple

import trio

from .. import _cell
from ._errors import Deadlock, EndlessRun, NestedSimulation
from ._hard_stop import HardStop
from ._plan import Plan, as_choices, as_crashes
from ._run import Instrument, Run
from ._simulation import Simulation, render
from ._steering import steer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LINES_IN_NOTES = 12


def simulate(
    scenario: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    choices: Iterable[int] = (),
    crashes: Iterable[int | str] = (),
    cancel_at: int | None = None,
    target: str | None = None,
    plan: Plan | None = None,
    catch: type[BaseException] | tuple[type[BaseException], ...] = (),
    max_steps: int = 100_000,
) -> Simulation[T]:
    """Run `await scenario(*args)` in a trio of its own, in virtual time, as the plan says.

    The scenario makes all the state that it uses, so that each run finds the same. Time
    jumps to the next deadline when all tasks wait. `random` is seeded, and actors get the
    uids that they would get in a new process.

    Args:
        scenario: an async function.
        args: its arguments.
        choices: numbers of decisions, counted from 0. A decision is a moment when two or
            more tasks can run; the oldest comes first, and at these decisions it is sent
            behind all others and stays there. None: the oldest first, always.
        crashes: crash points that crash, by number or by name; see `crash_point`.
        cancel_at: cancels the scenario, or the target, right before this step of any task,
            counted from 0; see `every_cancellation`.
        target: what `cancel_at` cancels instead of the whole scenario; see `aim`.
        plan: all of these at once.
        catch: exceptions of the scenario that are kept in `Simulation.error`. All others
            are raised, with the plan and the end of the trace as notes.
        max_steps: more steps than this are taken for a run without end.

    Raises:
        Deadlock: all tasks wait, and nothing will wake one.
        EndlessRun: there were more than `max_steps` steps.
        NestedSimulation: a simulation, or trio, is running here already.
        TypeError: `scenario` is no async function, or another argument is not of its type.
        ValueError: a number is negative, or `plan` is given with what is part of it.
    """
    if not callable(scenario):
        if inspect.iscoroutine(scenario):
            scenario.close()
        raise TypeError(
            "simulate() takes an async function and its arguments, simulate(scenario, 1) and"
            f" not simulate(scenario(1)); it was given {scenario!r}"
        )
    parts = Plan(as_choices(choices), as_crashes(crashes), cancel_at, target)
    if plan is None:
        plan = parts
    elif not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, such as Plan(choices=[3]); it is {plan!r}")
    elif parts != Plan():
        raise ValueError(f"plan holds all choices; leave out {parts}, or the plan")
    for kind in catch if isinstance(catch, tuple) else (catch,):
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(
                "catch must be a class of exceptions or a tuple of such, as in an except clause;"
                f" it is {catch!r}"
            )
    if max_steps < 1:
        raise ValueError(f"max_steps must be 1 or more; it is {max_steps!r}")
    return _simulate(scenario, args, plan, catch, max_steps)


def _simulate(
    scenario: Callable[[*Ts], Awaitable[T]],
    args: tuple[*Ts],
    plan: Plan,
    catch: type[BaseException] | tuple[type[BaseException], ...],
    max_steps: int,
) -> Simulation[T]:
    run = Run(plan, max_steps)
    value: T | None = None
    error: BaseException | None = None

    async def main() -> None:
        nonlocal value
        run.begin(getattr(scenario, "__name__", "scenario"))
        how = "failed"
        try:
            with run.scope:
                value = await _call(scenario, args)
                how = "returned"
            if run.scope.cancelled_caught:
                how = "cancelled"
        except BaseException as error:
            how = f"raised {type(error).__name__}"
            raise
        finally:
            run.end(f"is over, {how}")

    with _all_to_itself(run), steer(run.schedule, repr(plan.choices)) as wheel:
        try:
            trio.run(main, clock=run.clock, instruments=[Instrument(run)])
        except trio.TrioInternalError as broken:
            error = broken.__cause__ if isinstance(broken.__cause__, HardStop) else broken
        except BaseException as raised:  # noqa: BLE001 - sorted out below
            error = raised
    simulation = Simulation(
        plan=plan,
        value=value,
        error=error,
        cancelled=run.hit and run.scope.cancelled_caught,
        hit=run.hit,
        ended_at=run.ended_at,
        checkpoints=run.steps,
        decisions=run.schedule.decisions,
        crash_points=run.crash_points,
        crashes_hit=tuple(run.crashes_hit),
        tasks_left=run.tasks_left,
        aimed_at=run.aimed_at,
        steering=wheel.steering,
        waited_outside=run.clock.waited_outside,
        lines=tuple(run.lines),
    )
    _raise_what_went_wrong(run, simulation, catch, max_steps)
    return simulation


def _call(scenario: Callable[[*Ts], Awaitable[T]], args: tuple[*Ts]) -> Awaitable[T]:
    coroutine = scenario(*args)
    if not isinstance(coroutine, Awaitable):
        raise TypeError(f"simulate() takes an async function, and {scenario!r} is none")
    return coroutine


def _raise_what_went_wrong(
    run: Run,
    simulation: Simulation[T],
    catch: type[BaseException] | tuple[type[BaseException], ...],
    max_steps: int,
) -> None:
    error = simulation.error
    if run.failure is not None:
        raise run.failure
    cause = None if isinstance(error, HardStop) else error
    if run.waiting is not None:
        raise Deadlock(run.deadlock_at, run.waiting, simulation.trace) from cause
    if run.endless is not None:
        raise EndlessRun(max_steps, render(run.endless), simulation.trace) from cause
    if error is not None and not isinstance(error, catch):
        lines = render(simulation.lines[-_LINES_IN_NOTES:])
        error.add_note(f"simulated with {simulation.plan}; the last lines of the trace:\n{lines}")
        raise error


@contextmanager
def _all_to_itself(run: Run) -> Iterator[None]:
    """Make this the simulation in progress, and the process the same for each of them."""
    if trio.lowlevel.in_trio_run():
        raise NestedSimulation("a run of trio")
    if Run.current is not None:
        raise NestedSimulation("another simulation")
    Run.current = run
    state = random.getstate()
    next_uid = _cell._next_uid
    collects = gc.isenabled()
    try:
        random.seed(0)
        _cell._next_uid = count(1).__next__  # type: ignore[misc]
        gc.disable()  # it would call finalizers at moments of its own
        yield
    finally:
        if collects:
            gc.enable()
        _cell._next_uid = next_uid  # type: ignore[misc]
        random.setstate(state)
        Run.current = None
