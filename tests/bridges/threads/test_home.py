"""Tests of the way home from threads that no `run_sync` has leased."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest
import trio
import trio.testing

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.threads import Home, HomeClosed, ThreadPool, run_sync

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def add(a: int, b: int) -> int:
    return a + b


async def add_slowly(a: int, b: int) -> int:
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)
    return a + b


async def fail_slowly() -> None:
    await add_slowly(1, 2)
    raise KeyError("slowly")


def fail() -> None:
    raise KeyError("at once")


def calls_from_elsewhere(home: Home) -> None:
    """Make every kind of call, in a thread that is not home's."""
    assert home.call(add, 1, 2) == 3
    assert home.call(add_slowly, 1, 2) == 3
    assert home.call(threading.get_ident) != threading.get_ident()
    assert home.call(lambda: colour.get()) == "green"
    told: list[int] = []
    home.tell(told.append, 1)
    assert told == [1]
    for failing, text in ((fail, "at once"), (fail_slowly, "slowly")):
        with pytest.raises(KeyError, match=text):
            home.call(failing)
    with pytest.raises(KeyError, match="at once"):
        home.tell(fail)

    async def look() -> str:
        return colour.get()

    assert home.call(look) == "green"


async def test_any_thread_may_call_a_trio_task_home() -> None:
    colour.set("green")
    home = Home()
    await trio.to_thread.run_sync(calls_from_elsewhere, home, abandon_on_cancel=True)


def test_any_thread_may_call_an_asyncio_task_home() -> None:
    async def main() -> None:
        colour.set("green")
        home = Home()
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.run_in_executor(None, calls_from_elsewhere, home), 10)

    asyncio.run(main())


async def test_any_thread_may_call_a_task_on_the_hosted_loop_home() -> None:
    async def main() -> None:
        colour.set("green")
        await asyncio.to_thread(contextvars.Context().run, calls_from_elsewhere, Home())

    async with open_hosted_loop() as loop:
        await loop.run_asyncio(main)


async def test_thread_that_this_home_has_leased_calls_as_by_call_home() -> None:
    home = Home()
    task = trio.lowlevel.current_task()
    told: list[str] = []

    async def who() -> object:
        return trio.lowlevel.current_task()

    def handler() -> None:
        assert home.call(who) is task
        home.tell(told.append, "told")

    await run_sync(handler)
    assert told == ["told"]


async def test_thread_that_another_home_has_leased_does_not_ask_that_one() -> None:
    home = Home()
    mine = threading.get_ident()

    def handler() -> None:
        assert home.call(threading.get_ident) == mine

    def elsewhere() -> None:
        asyncio.run(run_sync(handler))

    await trio.to_thread.run_sync(elsewhere)


async def test_own_thread_may_not_wait_for_itself() -> None:
    home = Home()
    for method in (home.call, home.tell):
        with pytest.raises(RuntimeError, match=r"awaiting sync_to_async\(...\)"):
            method(add, 1, 2)


async def test_closed_home_takes_no_call_and_lets_go_who_waits() -> None:
    home = Home()
    waiting, go_on = trio.Event(), trio.Event()
    ended: list[str] = []

    async def wait() -> None:
        waiting.set()
        await go_on.wait()
        ended.append("wait")

    def caller() -> None:
        with pytest.raises(HomeClosed, match="has ended"):
            home.call(wait)
        ended.append("caller")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, caller)
        await waiting.wait()
        home.close()
    go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert ended == ["caller", "wait"]

    def late_caller() -> None:
        with pytest.raises(HomeClosed):
            home.tell(ended.append, "never")

    await trio.to_thread.run_sync(late_caller)
    assert ended == ["caller", "wait"]


def test_call_that_home_did_not_get_to_before_it_was_closed_is_not_made() -> None:
    made: list[int] = []

    async def main() -> None:
        home = Home()
        asked = threading.Event()
        post = home._post

        def post_and_tell(*args: Any) -> None:
            post(*args)
            asked.set()

        home._post = post_and_tell

        def caller() -> None:
            with pytest.raises(HomeClosed):
                home.call(made.append, 1)

        thread = threading.Thread(target=caller)
        thread.start()
        asked.wait(10)  # without a turn of the loop
        home.close()
        await asyncio.to_thread(thread.join, 10)

    asyncio.run(main())
    assert made == []


def test_end_of_the_run_lets_go_who_waits() -> None:
    outcomes: list[Any] = []

    def caller(home: Home, wait: Any) -> None:
        try:
            home.call(wait)
        except HomeClosed as error:
            outcomes.append(error)

    async def trio_main() -> None:
        waiting = trio.Event()

        async def wait() -> None:
            waiting.set()
            await trio.sleep_forever()

        threads.append(threading.Thread(target=caller, args=(Home(), wait)))
        threads[-1].start()
        await waiting.wait()

    async def asyncio_main() -> None:
        waiting = asyncio.Event()

        async def wait() -> None:
            waiting.set()
            await asyncio.Event().wait()

        threads.append(threading.Thread(target=caller, args=(Home(), wait)))
        threads[-1].start()
        await waiting.wait()

    threads: list[threading.Thread] = []
    trio.run(trio_main)
    asyncio.run(asyncio_main())
    for thread in threads:
        thread.join(10)
    assert len(outcomes) == 2


async def test_pool_thread_that_waits_for_another_home_makes_room_for_what_it_waits_for() -> None:
    pool = ThreadPool(1)
    home = Home()

    async def needs_a_thread() -> str:
        return await run_sync(str, "done", pool=pool)

    def handler() -> str:
        answer: str = home.call(needs_a_thread)
        return answer

    def elsewhere() -> str:
        async def main() -> str:
            return await asyncio.wait_for(run_sync(handler, pool=pool), 10)

        return asyncio.run(main())

    assert await trio.to_thread.run_sync(elsewhere) == "done"
    pool.close()
