"""Blocking code from asynchronous code, and the way home from there."""

from collections.abc import Callable
from typing import Any, TypeVar

import outcome
import trio

from ._asgiref import adopt_context_here
from ._call import AsyncioCall, Call, Threads, TrioCall, here
from ._default import default_pool
from ._pool import Around

T = TypeVar("T")


async def run_sync(
    fn: Callable[..., T],
    *args: Any,
    pool: Threads | None = None,
    around: Around | None = None,
) -> T:
    """Await `fn(*args)` in a leased thread; under trio, or under asyncio on any loop.

    The context goes along and comes back, asgiref's `Local`s with it. Inside,
    `async_to_sync(...)` runs on the caller's loop (under trio: the hosted one), and
    `call_home` reaches the caller. A thread cannot be interrupted: a cancelled caller
    waits for its end, while a call that no thread has begun is given up at once.

    Args:
        fn: a blocking function.
        args: its arguments.
        pool: a `ThreadPool`, or a `Lease` of one thread; `default_pool()` if None.
        around: makes a context manager that is entered in the thread, around the call.
    """
    threads = default_pool() if pool is None else pool
    call: Call
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint_if_cancelled()
        call = TrioCall(threads, around, fn, args)
    else:
        call = AsyncioCall(threads, around, fn, args)
    threads.enqueue(call)
    await call.wait()
    adopt_context_here(call.context)
    # An error's traceback holds the frames of this function and of the thread's: neither
    # may lead to the error again, or only the garbage collector would find it.
    answer, call.answer = call.answer, None
    assert answer is not None
    try:
        if isinstance(answer, outcome.Value):
            call.raise_told_error()
        result: T = answer.unwrap()
        return result
    finally:
        del answer


def call_home(fn: Callable[..., Any], *args: Any) -> Any:
    """From a leased thread: have `fn(*args)` done where `run_sync` was awaited.

    If it gives an awaitable, the waiting task awaits it, within its own cancel scopes
    and its own context. Whatever it raises is raised here.

    Raises:
        RuntimeError: this is no thread in which `run_sync` runs a function.
    """
    return _current_call().call_home(fn, args)


def tell_home(fn: Callable[..., object], *args: Any) -> None:
    """From a leased thread: have the synchronous `fn(*args)` called at home, without waiting.

    Calls keep their order, and all are made before `run_sync` returns. If one raises,
    the following are left out, the next `call_home` too, which raises the error; so may
    a `tell_home`, and at last `run_sync`.

    Raises:
        RuntimeError: this is no thread in which `run_sync` runs a function.
    """
    _current_call().tell_home(fn, args)


def check_cancelled() -> None:
    """From a leased thread: raise if the caller was cancelled meanwhile, else do nothing.

    It is the flavour's own `Cancelled`: let it pass.

    Raises:
        RuntimeError: this is no thread in which `run_sync` runs a function.
    """
    _current_call().check_cancelled()


def _current_call() -> Call:
    call = here.call
    if call is None:
        raise RuntimeError("this works only in the thread of a function started by run_sync()")
    return call
