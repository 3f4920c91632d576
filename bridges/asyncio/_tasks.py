"""Who owns an asyncio task: the scope in whose code it was created.

On a loop shared by all scopes, a task from `asyncio.create_task()` would outlive the
scope that started it. Here a scope ends, or is restarted in place, only when its tasks
have ended. What shall live longer is started in the lifespan scope, or with an empty
context: `asyncio.create_task(coro, context=contextvars.Context())`. Coroutines of installed
libraries are theirs to end, and so is what their code creates.
"""

import asyncio
import contextvars
import logging
import os
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias, TypeVar, final
from weakref import WeakSet

from ...runtime._errors import ApplicationExited

LIBRARIES: Final = tuple(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib"))
GREENROOM: Final = str(Path(__file__).parents[2]) + os.sep  # a library too, where it is installed
ASYNCIO: Final = str(Path(asyncio.__file__).parent) + os.sep

T = TypeVar("T")
AnyTask: TypeAlias = asyncio.Task[Any]
TaskFactory: TypeAlias = Callable[..., "asyncio.Future[Any]"]

logger = logging.getLogger("greenroom.asyncio")


class _Owner:
    """The tasks of one scope; most scopes never have any."""

    __slots__ = ("task", "tasks")

    def __init__(self) -> None:
        self.task = asyncio.current_task()  # the scope's own
        self.tasks: set[AnyTask] | None = None


_owner: contextvars.ContextVar[_Owner | None] = contextvars.ContextVar(
    "greenroom_task_owner", default=None
)


# What trio has asked to end: not by the code of the task itself, nor any other asyncio code.
cancelled_by_trio: Final["WeakSet[asyncio.Future[Any]]"] = WeakSet()


def scope_is_cancelled() -> bool:
    """Tell whether trio has asked the scope to end, in whose code this is called."""
    owner = _owner.get()
    return owner is None or owner.task in cancelled_by_trio


def register_task(task: AnyTask, context: contextvars.Context | None) -> None:
    """Note the new `task` with the scope in whose code it was created, if it is a scope's.

    `context` is what was given to `create_task`, None for the current one. To be called
    by what makes the task.
    """
    owner = _owner.get() if context is None else context.get(_owner)
    if owner is None or task.done():  # an eager task may be done already
        return
    if not _is_a_librarys(_creator(sys._getframe(2))):
        if owner.tasks is None:
            owner.tasks = set()
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard)


def _creator(frame: FrameType | None) -> str:
    """Give the file of the code that asked asyncio for a task, looking from `frame` upwards.

    `wait_for` of Python 3.11, `gather` and others make tasks for whoever calls them.
    """
    while frame is not None and frame.f_code.co_filename.startswith(ASYNCIO):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _is_a_librarys(file: str) -> bool:
    return file.startswith(LIBRARIES) and not file.startswith(GREENROOM)


def disowned(context: contextvars.Context) -> contextvars.Context:
    """Give a copy of `context` in which no scope owns what is created."""
    copy = context.copy()
    copy.run(_owner.set, None)
    return copy


def note_owners(loop: asyncio.AbstractEventLoop) -> None:
    """Have tasks of `loop`, another server's, noted with the scope that creates them."""
    factory = loop.get_task_factory()
    if not isinstance(factory, OwningFactory):
        loop.set_task_factory(OwningFactory(factory))


@final
class OwningFactory:
    """A task factory that notes each task with the scope in whose code it was created.

    Args:
        inner: makes the tasks; asyncio itself if None.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: TaskFactory | None) -> None:
        self._inner: Final = inner

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any
    ) -> "asyncio.Future[Any]":
        """Make a task, and note whose it is."""
        task: Any
        if self._inner is None:
            task = asyncio.Task(coro, loop=loop, **kwargs)
        else:
            task = self._inner(loop, coro, **kwargs)
        register_task(task, kwargs.get("context"))
        return task  # type: ignore[no-any-return]


async def run_owner(fn: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await `fn(*args)` as the owner of every task that is created within.

    At its end, however it came, tasks that are left are cancelled and awaited. Their
    own errors go to the loop's exception handler, as with any forgotten task.
    """
    owner = _Owner()
    token = _owner.set(owner)
    try:
        return await fn(*args)
    except SystemExit as error:
        # asyncio would end its loop, and the server with it.
        raise ApplicationExited(error.code) from error
    finally:
        _owner.reset(token)
        while owner.tasks and (left := {task for task in owner.tasks if _is_left(task)}):
            for task in left:
                if not task.cancelling():  # else it ends, and that is known
                    logger.warning(
                        "%r is cancelled, since the scope in whose code it was started has "
                        "ended or is restarted; see greenroom.bridges.asyncio for tasks that "
                        "shall live longer",
                        task,
                    )
            await end_tasks(left)


def _is_left(task: AnyTask) -> bool:
    """Tell whether `task` has to end with its scope.

    What a library has started for itself, such as the reader of a connection that all
    share, is that library's: the scope was only the first to need it.
    """
    if task.done():  # and its callback is on the way
        return False
    code = getattr(task.get_coro(), "cr_code", None)
    return code is None or not _is_a_librarys(code.co_filename)


async def end_tasks(tasks: set[AnyTask]) -> None:
    """Cancel each of `tasks` once and wait for all; `tasks` may grow meanwhile.

    Being cancelled does not cut the wait short; the cancellation is raised at its end.
    """
    cancellation: asyncio.CancelledError | None = None
    asked: set[AnyTask] = set()
    while pending := {task for task in tasks if not task.done()}:
        for task in pending - asked:
            task.cancel()
        asked |= pending
        try:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
