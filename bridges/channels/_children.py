"""Tasks that end with their consumer: those it starts by name, and those of its asyncio code.

`start_soon` gives a consumer children: their crash is its own, and its end is theirs. A
task from a plain `asyncio.create_task()` ends with its consumer, too, on every server: on
the loop that Greenroom hosts each scope owns its tasks anyway, and `own_tasks` does the
same on the loop of another server.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, final

import trio

from ...runtime._errors import instead_of_exit
from ..asyncio import HostedLoop, TaskCancelled
from ..asyncio._tasks import AnyTask, end_tasks, note_owners, run_owner


def _running_task() -> object:
    """Give the task that runs here, of trio or of asyncio; None if none does.

    A coroutine that is closed, and not at an end by itself, runs in another task or in none.
    """
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()
    return None if asyncio._get_running_loop() is None else asyncio.current_task()


@final
class Child:
    """A task that a consumer has started by `start_soon`."""

    __slots__ = ("_children", "_fn", "_scope", "_task", "ended")

    def __init__(self, children: "Children", fn: Callable[..., Awaitable[object]]) -> None:
        self._children = children
        self._fn = fn
        self._scope: trio.CancelScope | None = None
        self._task: AnyTask | None = None
        self.ended: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Child {name_of(self._fn)}>"

    def cancel(self) -> None:
        """Ask the task to end; its consumer goes on. From the consumer's own code."""
        if self._scope is not None:
            self._scope.cancel()
        if self._task is not None:
            self._task.cancel()

    def start(self, awaitable: Awaitable[object]) -> AnyTask | None:
        """Start a task that awaits what `fn` has returned, in the flavour that runs."""
        if trio.lowlevel.in_trio_task():
            self._scope = trio.CancelScope()
            self.ended = trio.Event()
            context = contextvars.copy_context()
            trio.lowlevel.spawn_system_task(self._run, awaitable, name=self._fn, context=context)
        else:
            self._task = asyncio.get_running_loop().create_task(
                self._run(awaitable), name=name_of(self._fn)
            )
            self._task.add_done_callback(partial(self._ended, awaitable))
        return self._task

    def _ended(self, awaitable: Awaitable[object], _task: AnyTask) -> None:
        # Cancelled before its first step, the task has not even begun to await.
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        self._children.discard(self)

    async def _run(self, awaitable: Awaitable[object]) -> None:
        here = _running_task()
        try:
            if self._scope is None:
                await awaitable
            else:
                with self._scope:
                    await awaitable
        except Exception as error:  # noqa: BLE001 -- it is the consumer's to raise
            self._children.failed(self, error)
        except asyncio.CancelledError as error:
            if self._task is None or self._task.cancelling():
                raise
            # Nobody has asked for it: something that it awaited was cancelled.
            cancelled = TaskCancelled()
            cancelled.__cause__ = error
            self._children.failed(self, cancelled)
        except BaseException as error:
            exited = instead_of_exit(error) if _running_task() is here else None
            if exited is None:
                raise
            self._children.failed(self, exited)
        finally:
            self._children.discard(self)
            if self.ended is not None:
                self.ended.set()


@final
class Children:
    """The tasks of one instance of a consumer.

    Args:
        crash: told of a task's failure, and of its function's name.
    """

    __slots__ = ("_closed", "_crash", "_running", "_tasks")

    def __init__(self, crash: Callable[[Exception, str], object]) -> None:
        self._crash = crash
        self._running: set[Child] = set()
        self._tasks: set[AnyTask] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._running)

    def start_soon(self, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> Child:
        """Start a task.

        Raises:
            RuntimeError: the consumer has ended.
            TypeError: `fn` returns nothing to await.
        """
        if self._closed:
            raise RuntimeError(f"{name_of(fn)} can't be started: the consumer has ended")
        awaitable: Any = fn(*args)
        if not inspect.isawaitable(awaitable):
            raise TypeError(
                f"start_soon() takes an async function, and {name_of(fn)} has returned "
                f"{awaitable!r}; if it blocks, write start_soon(sync_to_async({name_of(fn)}), ...)"
            )
        child = Child(self, fn)
        task = child.start(awaitable)
        self._running.add(child)
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return child

    def failed(self, child: Child, error: Exception) -> None:
        """Learn of a task's failure."""
        self._crash(error, name_of(child._fn))

    def discard(self, child: Child) -> None:
        """Learn of a task's end."""
        self._running.discard(child)

    async def aclose(self) -> None:
        """Cancel the tasks and wait for their end; no other can be started from now on."""
        self._closed = True
        if self._tasks:
            await end_tasks(self._tasks)
        if self._running and trio.lowlevel.in_trio_task():
            with trio.CancelScope(shield=True):
                for child in list(self._running):
                    child.cancel()
                for child in list(self._running):
                    if child.ended is not None:
                        await child.ended.wait()


def check_function(fn: object) -> None:
    """Look at what `start_soon` was given, and close a coroutine object.

    Raises:
        TypeError: it is no function.
    """
    if inspect.iscoroutine(fn):
        fn.close()  # else Python would warn that it was never awaited
        name = name_of(fn)  # type: ignore[arg-type]  # a coroutine has a name, too
        raise TypeError(
            "start_soon() takes an async function, and calls it itself: "
            f"write start_soon({name}, ...), not start_soon({name}(...))"
        )
    if not callable(fn):
        raise TypeError(f"start_soon() takes an async function and its arguments, not {fn!r}")


def name_of(fn: Callable[..., object]) -> str:
    """Give the name of a function, as a reader of its code knows it."""
    return getattr(fn, "__qualname__", None) or repr(fn)


def on_hosted_loop() -> bool:
    """Tell whether the loop that runs is one that Greenroom hosts."""
    return isinstance(asyncio.get_running_loop(), HostedLoop)


async def own_tasks(fn: Callable[..., Awaitable[object]], *args: Any) -> None:
    """Under asyncio: await `fn(*args)` as the owner of the tasks that are created within.

    For loops of other servers: they get a task factory, around the one that they have.
    """
    note_owners(asyncio.get_running_loop())
    await run_owner(fn, *args)
