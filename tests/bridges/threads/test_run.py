"""Blocking calls from both flavours: context, errors, cancellation, and the way home."""

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from asgiref.local import Local
from asgiref.sync import SyncToAsync, async_to_sync

from greenroom.bridges.asyncio import TaskCancelled, open_hosted_loop
from greenroom.bridges.threads import (
    ThreadPool,
    call_home,
    check_cancelled,
    run_sync,
    tell_home,
)

Main: TypeAlias = Callable[[], Awaitable[Any]]
Runner: TypeAlias = Callable[[Main], Any]

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def under_trio(main: Main) -> Any:
    return trio.run(main)


def under_trio_with_hosted_loop(main: Main) -> Any:
    async def run() -> Any:
        async with open_hosted_loop():
            return await main()

    return trio.run(run)


def on_hosted_loop(main: Main) -> Any:
    async def run() -> Any:
        async with open_hosted_loop() as loop:
            return await loop.run_asyncio(main)

    return trio.run(run)


def on_plain_asyncio(main: Main) -> Any:
    async def run() -> Any:
        return await main()

    return asyncio.run(run())


everywhere = pytest.mark.parametrize(
    "runner", [under_trio, under_trio_with_hosted_loop, on_hosted_loop, on_plain_asyncio]
)
with_a_loop = pytest.mark.parametrize(
    "runner", [under_trio_with_hosted_loop, on_hosted_loop, on_plain_asyncio]
)


async def pass_on() -> None:
    """Wait a moment in the flavour that runs."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


@everywhere
def test_a_call_runs_in_another_thread_and_gives_its_result_or_error(
    runner: Runner, pool: ThreadPool
) -> None:
    home = threading.current_thread()

    def crash() -> None:
        raise OSError("gone")

    async def main() -> None:
        thread = await run_sync(threading.current_thread, pool=pool)
        assert thread is not home
        assert await run_sync(threading.current_thread, pool=pool) is thread
        assert await run_sync(divmod, 7, 2, pool=pool) == (3, 1)
        with pytest.raises(OSError, match="gone"):
            await run_sync(crash, pool=pool)

    runner(main)


@everywhere
def test_context_and_asgiref_locals_go_along_and_come_back(
    runner: Runner, pool: ThreadPool
) -> None:
    language = Local()

    def work() -> tuple[str, str]:
        seen = colour.get(), language.code
        colour.set("green")
        language.code = "fr"
        return seen

    async def main() -> None:
        colour.set("red")
        language.code = "de"
        assert await run_sync(work, pool=pool) == ("red", "de")
        assert (colour.get(), language.code) == ("green", "fr")
        assert await run_sync(lambda: language.code, pool=pool) == "fr"

    contextvars.copy_context().run(runner, main)


@everywhere
def test_around_is_entered_in_the_thread_and_sees_the_error(
    runner: Runner, pool: ThreadPool
) -> None:
    seen: list[object] = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append(threading.current_thread())
        try:
            yield
        except OSError:
            seen.append("failed")
            raise

    def crash() -> None:
        seen.append(threading.current_thread())
        raise OSError("gone")

    async def main() -> None:
        with pytest.raises(OSError, match="gone"):
            await run_sync(crash, pool=pool, around=around)

    runner(main)
    assert seen[0] is seen[1]
    assert seen[2:] == ["failed"]


@everywhere
def test_call_home_runs_functions_and_coroutines_where_the_caller_waits(
    runner: Runner, pool: ThreadPool
) -> None:
    home = threading.current_thread()

    async def add(left: int, right: int) -> int:
        assert threading.current_thread() is home
        await pass_on()
        return left + right

    def crash() -> None:
        raise OSError("at home")

    def work() -> int:
        assert call_home(threading.current_thread) is home
        with pytest.raises(OSError, match="at home"):
            call_home(crash)
        result: int = call_home(add, 1, call_home(add, 2, 3))
        return result

    async def main() -> None:
        assert await run_sync(work, pool=pool) == 6
        assert pool.busy == 0

    runner(main)


@everywhere
def test_tell_home_keeps_order_and_is_done_before_the_call_returns(
    runner: Runner, pool: ThreadPool
) -> None:
    told: list[int] = []

    def work() -> None:
        for number in range(100):
            tell_home(told.append, number)
        assert call_home(len, told) == 100
        tell_home(told.append, 100)

    async def main() -> None:
        await run_sync(work, pool=pool)
        assert told == list(range(101))

    runner(main)


@everywhere
def test_an_error_of_tell_home_voids_what_follows_and_is_raised_once(
    runner: Runner, pool: ThreadPool
) -> None:
    told: list[str] = []

    def crash() -> None:
        raise OSError("told")

    def goes_on() -> str:
        tell_home(crash)
        with pytest.raises(OSError, match="told"):
            call_home(told.append, "void")
        call_home(told.append, "again")
        return "went on"

    async def main() -> None:
        with pytest.raises(OSError, match="told"):
            await run_sync(tell_home, crash, pool=pool)
        assert await run_sync(goes_on, pool=pool) == "went on"
        assert told == ["again"]

    runner(main)


def test_the_way_home_is_refused_where_there_is_none() -> None:
    for function in (call_home, tell_home):
        with pytest.raises(RuntimeError, match="run_sync"):
            function(int)
    with pytest.raises(RuntimeError, match="run_sync"):
        check_cancelled()


@with_a_loop
def test_async_to_sync_runs_on_the_callers_loop(runner: Runner, pool: ThreadPool) -> None:
    home = threading.current_thread()

    async def where() -> threading.Thread:
        await asyncio.sleep(0)
        return threading.current_thread()

    async def main() -> None:
        assert await run_sync(async_to_sync(where), pool=pool) is home

    runner(main)


def test_without_a_loop_async_to_sync_makes_one_of_its_own(pool: ThreadPool) -> None:
    async def where() -> threading.Thread:
        return threading.current_thread()

    async def main() -> None:
        assert await run_sync(async_to_sync(where), pool=pool) is not threading.current_thread()

    trio.run(main)


@everywhere
def test_nothing_of_a_loop_stays_in_the_thread(runner: Runner, pool: ThreadPool) -> None:
    # async_to_sync would wait for ever for a loop that has stopped.
    async def main() -> Any:
        return await run_sync(threading.current_thread, pool=pool)

    left: list[dict[str, Any]] = []
    thread = runner(main)

    async def look() -> None:
        def vacant() -> None:
            left.append(dict(SyncToAsync.threadlocal.__dict__))

        class Look:
            def run(self, before: object = None) -> Callable[[], object]:
                vacant()
                assert threading.current_thread() is thread
                return done.set

        done = threading.Event()
        pool.enqueue(Look())
        assert done.wait(10)

    trio.run(look)
    assert left == [{}]


@with_a_loop
def test_handlers_that_ask_each_other_do_not_exhaust_the_pool(
    runner: Runner, pool: ThreadPool
) -> None:
    both_started = threading.Barrier(2)

    async def ask() -> str:
        return await run_sync(lambda: "answer", pool=pool)

    def handler() -> str:
        both_started.wait(10)
        return async_to_sync(ask)()

    def handler_that_calls_home() -> str:
        both_started.wait(10)
        answer: str = call_home(ask)
        return answer

    async def main() -> list[str]:
        answers: list[str] = []

        async def call(fn: Callable[[], str]) -> None:
            answers.append(await run_sync(fn, pool=pool))

        for fn in (handler, handler_that_calls_home):
            if trio.lowlevel.in_trio_task():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call, fn)
                    nursery.start_soon(call, fn)
            else:
                await asyncio.gather(call(fn), call(fn))
        return answers

    assert runner(main) == ["answer"] * 4
    assert pool.threads <= 2


async def test_a_cancelled_caller_waits_for_the_thread_which_may_look(pool: ThreadPool) -> None:
    started, seen = threading.Event(), []

    def work() -> None:
        started.set()
        try:
            while True:
                check_cancelled()
                time.sleep(0.001)
        except trio.Cancelled:
            seen.append("cancelled")
            raise

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_in, pool, work)
            await trio.to_thread.run_sync(started.wait, 10)
            scope.cancel()
    assert scope.cancelled_caught
    assert seen == ["cancelled"]


def test_a_cancelled_asyncio_caller_waits_for_the_thread_which_may_look(
    pool: ThreadPool,
) -> None:
    started, seen = threading.Event(), []

    def work() -> None:
        started.set()
        try:
            while True:
                check_cancelled()
                time.sleep(0.001)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        call = asyncio.create_task(run_sync(work, pool=pool))
        await asyncio.to_thread(started.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert seen == ["cancelled"]


async def run_in(pool: ThreadPool, fn: Callable[[], Any]) -> Any:
    return await run_sync(fn, pool=pool)


async def test_a_trio_caller_that_was_cancelled_gets_the_result_all_the_same(
    pool: ThreadPool,
) -> None:
    scope = trio.CancelScope()
    result = None
    with scope:
        result = await run_sync(lambda: (call_home(scope.cancel), "result")[1], pool=pool)
        await trio.lowlevel.checkpoint()
    assert result == "result"
    assert scope.cancelled_caught


@everywhere
def test_a_call_that_no_thread_has_begun_is_given_up_at_once(runner: Runner) -> None:
    pool = ThreadPool(1)
    release = threading.Event()
    ran: list[str] = []

    async def main() -> None:
        if trio.lowlevel.in_trio_task():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_in, pool, lambda: release.wait(10))
                await trio.testing.wait_all_tasks_blocked()
                with trio.move_on_after(0.001) as scope:
                    await run_sync(ran.append, "ran", pool=pool)
                assert scope.cancelled_caught
                release.set()
        else:
            first = asyncio.create_task(run_sync(release.wait, 10, pool=pool))
            await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run_sync(ran.append, "ran", pool=pool), 0.001)
            release.set()
            await first
        await run_sync(int, pool=pool)

    runner(main)
    assert ran == []
    pool.close()


@with_a_loop
def test_cancelling_the_caller_cancels_what_the_thread_awaits(
    runner: Runner, pool: ThreadPool
) -> None:
    seen: list[str] = []
    began = threading.Event()

    async def wait_long() -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    async def wait_in_flavour() -> None:
        began.set()
        try:
            await (trio if trio.lowlevel.in_trio_task() else asyncio).sleep(3600)
        finally:
            seen.append("cancelled")

    async def main() -> None:
        for fn in (async_to_sync(wait_long), lambda: call_home(wait_in_flavour)):
            seen.clear()
            began.clear()
            if trio.lowlevel.in_trio_task():
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(run_in, pool, fn)
                        await trio.to_thread.run_sync(began.wait, 10)
                        scope.cancel()
                assert scope.cancelled_caught
            else:
                call = asyncio.create_task(run_sync(fn, pool=pool))
                await asyncio.to_thread(began.wait, 10)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            assert seen == ["cancelled"]
            assert pool.busy == 0

    runner(main)


async def test_an_asyncio_cancellation_inside_a_thread_is_an_ordinary_failure_in_trio(
    pool: ThreadPool,
) -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async with open_hosted_loop():
        with pytest.raises(TaskCancelled):
            await run_sync(async_to_sync(cancels_itself), pool=pool)


async def test_a_cancelled_call_spoils_no_later_one(pool: ThreadPool) -> None:
    # asgiref keeps its executor in the context: shared by a cancelled call, it is broken.
    async def nap() -> None:
        await asyncio.sleep(0)

    def work() -> None:
        async_to_sync(nap)()
        time.sleep(0.002)
        async_to_sync(nap)()

    async with open_hosted_loop():
        for attempt in range(20):
            with trio.move_on_after(0.0003 * attempt):
                await run_sync(work, pool=pool)
            await run_sync(async_to_sync(nap), pool=pool)


@everywhere
def test_an_error_of_a_call_keeps_no_cycle_alive(runner: Runner, pool: ThreadPool) -> None:
    class Witness(Exception):
        pass

    def crash() -> None:
        raise Witness

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            try:
                await run_sync(crash, pool=pool)
            except Witness as error:
                witness = weakref.ref(error)
            await run_sync(int, pool=pool)
            assert witness() is None
        finally:
            gc.enable()

    runner(main)
