"""The hosted loop: what asyncio code finds there, and how the two sides cross and cancel."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import signal
import threading
import time
import weakref
from typing import Any

import pytest
import sniffio
import trio
import trio.testing

from greenroom.bridges.asyncio import (
    HostedLoop,
    TaskCancelled,
    current_hosted_loop,
    open_hosted_loop,
)

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def give(value: str) -> str:
    await asyncio.sleep(0)
    return value


async def test_asyncio_code_gets_its_result_and_its_own_flavour() -> None:
    async def look() -> tuple[str, bool, bool]:
        loop = asyncio.get_running_loop()
        return sniffio.current_async_library(), trio.lowlevel.in_trio_task(), loop.is_running()

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(look) == ("asyncio", False, True)
        assert sniffio.current_async_library() == "trio"
        assert current_hosted_loop() is loop
    assert current_hosted_loop() is None


async def test_opened_inside_itself_the_loop_is_the_same_and_stays_open() -> None:
    async with open_hosted_loop() as loop:
        async with open_hosted_loop() as again:
            assert again is loop
        assert await loop.run_asyncio(give, "still open") == "still open"


async def test_an_error_of_asyncio_code_is_raised_in_trio_and_leaves_the_loop_alone() -> None:
    async def crash() -> None:
        await asyncio.sleep(0)
        raise OSError("gone")

    async with open_hosted_loop() as loop:
        with pytest.raises(OSError, match="gone"):
            await loop.run_asyncio(crash)
        assert await loop.run_asyncio(give, "fine") == "fine"


async def test_asyncio_sleeps_by_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    async def wait_long() -> str:
        await asyncio.sleep(3600)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 60)
        except TimeoutError:
            return "waited"
        return "not waited"

    async with open_hosted_loop() as loop:
        began = trio.current_time()
        assert await loop.run_asyncio(wait_long) == "waited"
        assert trio.current_time() - began == pytest.approx(3660)


async def test_a_timer_set_from_trio_code_wakes_the_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_hosted_loop() as loop:
        rung = trio.Event()
        loop.call_later(5, rung.set)
        loop.call_later(2, lambda: None)
        began = trio.current_time()
        await rung.wait()
        assert trio.current_time() - began == pytest.approx(5)


async def test_a_cancelled_timer_does_not_move_a_mock_clock(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hurry() -> None:
        async with asyncio.timeout(1000):
            await asyncio.sleep(1)

    async with open_hosted_loop() as loop:
        began = trio.current_time()
        await loop.run_asyncio(hurry)
        await trio.sleep(10)
        assert trio.current_time() - began == pytest.approx(11)


async def test_an_idle_loop_is_not_turned() -> None:
    async with open_hosted_loop() as loop:
        await loop.run_asyncio(asyncio.sleep, 0)
        await trio.testing.wait_all_tasks_blocked()
        turned = []
        loop._burst.begin_burst = lambda: turned.append(1)  # type: ignore[method-assign]
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert turned == []
        del loop._burst.begin_burst


async def test_a_busy_asyncio_task_and_a_busy_trio_task_share_the_thread() -> None:
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
        nursery.start_soon(loop.run_asyncio, spin)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert 50 < turns < 1000
        nursery.cancel_scope.cancel()


async def test_trio_code_awaited_in_asyncio_code_fails_with_a_clear_error() -> None:
    async with open_hosted_loop() as loop:
        with pytest.raises(RuntimeError, match="must be called from async context"):
            await loop.run_asyncio(trio.sleep, 1)


async def test_cancelling_the_trio_caller_cancels_the_task_and_waits_for_its_cleanup() -> None:
    seen = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    async with open_hosted_loop() as loop:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop.run_asyncio, work)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        assert seen == ["cancelled", "cleaned up"]


async def test_a_task_that_swallows_cancellation_returns_and_trio_cancels_a_little_later() -> None:
    async def swallow() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return "result"

    result = None
    async with open_hosted_loop() as loop:
        with trio.move_on_after(0.01) as scope:
            result = await loop.run_asyncio(swallow)
            await trio.lowlevel.checkpoint()
        assert result == "result"
        assert scope.cancelled_caught


async def test_a_task_that_cancels_itself_is_an_ordinary_failure_in_trio() -> None:
    async def give_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with open_hosted_loop() as loop:
        with pytest.raises(TaskCancelled) as failure:
            await loop.run_asyncio(give_up)
        assert isinstance(failure.value, Exception)
        assert isinstance(failure.value.__cause__, asyncio.CancelledError)


async def test_context_goes_along_and_comes_back_only_from_a_normal_end() -> None:
    async def paint(new: str, fails: bool) -> str:
        old = colour.get()
        colour.set(new)
        await asyncio.sleep(0)
        if fails:
            raise OSError("gone")
        return old

    async with open_hosted_loop() as loop:
        colour.set("red")
        assert await loop.run_asyncio(paint, "green", False) == "red"
        assert colour.get() == "green"
        with pytest.raises(OSError, match="gone"):
            await loop.run_asyncio(paint, "blue", True)
        assert colour.get() == "green"


async def test_asyncio_code_awaits_trio_code_with_its_context() -> None:
    async def in_trio(new: str) -> str:
        assert trio.lowlevel.in_trio_task()
        old = colour.get()
        colour.set(new)
        await trio.lowlevel.checkpoint()
        return old

    async def in_asyncio() -> tuple[str, str]:
        colour.set("red")
        return await loop.run_trio(in_trio, "green"), colour.get()

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(in_asyncio) == ("red", "green")


async def test_an_error_of_trio_code_is_raised_in_asyncio_code() -> None:
    async def crash() -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("gone")

    async with open_hosted_loop() as loop:
        with pytest.raises(OSError, match="gone"):
            await loop.run_asyncio(loop.run_trio, crash)


async def test_an_asyncio_timeout_around_trio_code_waits_until_that_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen = []

    async def slow() -> None:
        try:
            await trio.sleep(3600)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            seen.append("gone")

    async def limited() -> None:
        async with asyncio.timeout(1):
            await loop.run_trio(slow)

    async with open_hosted_loop() as loop:
        with pytest.raises(TimeoutError):
            await loop.run_asyncio(limited)
        assert seen == ["gone"]


async def test_an_asyncio_cancellation_goes_before_the_result_of_trio_code() -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.01)
        return "result"

    async def cancelled() -> str:
        task = asyncio.create_task(loop.run_trio(stubborn))
        await asyncio.sleep(0)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(cancelled) == "cancelled"


async def test_an_error_while_trio_code_is_cancelled_reaches_the_asyncio_code() -> None:
    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("could not clean up")

    async def cancelled() -> None:
        async with asyncio.timeout(0.001):
            await loop.run_trio(fail_late)

    async with open_hosted_loop() as loop:
        with pytest.raises(OSError, match="could not clean up"):
            await loop.run_asyncio(cancelled)


async def test_callbacks_from_other_threads_wake_the_loop() -> None:
    async def wait_for_thread() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            assert loop.is_running()  # asgiref asks this before it hands something over
            loop.call_soon_threadsafe(future.set_result, "from the thread")

        threading.Thread(target=work).start()
        return await future

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(wait_for_thread) == "from the thread"
        assert await loop.run_asyncio(asyncio.to_thread, lambda: "to thread") == "to thread"


async def test_sockets_and_subprocesses_of_asyncio_work() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def talk() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"hello\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    async def call_program() -> bytes:
        process = await asyncio.create_subprocess_exec(
            "echo", "hello", stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0]

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(talk) == b"hello\n"
        assert await loop.run_asyncio(call_program) == b"hello\n"


async def test_a_signal_handler_of_asyncio_is_called() -> None:
    # A signal arrives as a byte in asyncio's socket pair and not through `call_soon`.
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)

    async def wait_for_signal() -> str:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[str] = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, "arrived")
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            return await arrived
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    async with open_hosted_loop() as loop:
        for _ in range(5):
            with trio.fail_after(5):
                assert await loop.run_asyncio(wait_for_signal) == "arrived"
    signal.set_wakeup_fd(wakeup)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_a_callback_ends_the_block_and_is_raised_from_it(
    kind: type[BaseException],
) -> None:
    ended: list[object] = []

    async def main() -> None:
        def leave() -> None:
            raise kind

        async with open_hosted_loop() as loop:
            loop.call_soon(leave)
            try:
                await trio.sleep_forever()
            finally:
                # The loop still turns: asyncio code can clean up.
                with trio.CancelScope(shield=True):
                    ended.append(await loop.run_asyncio(give, "cleaned up"))

    with pytest.raises(kind):
        trio.run(main)
    assert ended == ["cleaned up"]


@pytest.mark.parametrize("ticks", range(9))
async def test_what_starts_while_the_block_ends_is_cancelled_or_finds_no_loop(ticks: int) -> None:
    ends: list[object] = []
    block = trio.CancelScope()

    async def start_late() -> None:
        with block:
            await trio.sleep_forever()
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        try:
            await loop.run_asyncio(asyncio.sleep, 3600)
        except TaskCancelled:
            ends.append("cancelled")
        except RuntimeError as error:
            ends.append(str(error))

    async with trio.open_nursery() as nursery, open_hosted_loop() as loop:
        nursery.start_soon(start_late)
        await trio.testing.wait_all_tasks_blocked()
        block.cancel()
    assert ends[0] in ("cancelled", "the block of this hosted loop has ended")


async def test_at_the_end_tasks_that_are_left_are_cancelled_and_generators_closed() -> None:
    seen = []

    async def linger() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            seen.append("task")

    async def generate() -> Any:
        try:
            yield 1
        finally:
            seen.append("generator")

    async def start() -> Any:
        numbers = generate()
        await anext(numbers)
        return numbers, asyncio.create_task(linger())

    async with open_hosted_loop() as loop:
        kept = await loop.run_asyncio(start)
        await loop.run_asyncio(asyncio.sleep, 0)
    assert seen == ["task", "generator"]
    assert loop.is_closed()
    del kept


async def test_what_a_library_runs_in_front_of_close_runs_to_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str] = []

    async def tidy_up(loop: HostedLoop) -> None:
        done.append(sniffio.current_async_library())
        await asyncio.sleep(0.001)  # a clock goes on, though trio's does not
        there = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(there.set,))
        thread.start()
        await there.wait()
        thread.join()
        done.append("tidy")

    async with open_hosted_loop() as loop:
        assert isinstance(loop, HostedLoop)
        close = loop.close

        # As channels_redis does with the loop of each of its connections.
        def close_after_that() -> None:
            loop.run_until_complete(tidy_up(loop))
            close()

        loop.close = close_after_that  # type: ignore[method-assign]
        assert await loop.run_asyncio(give, "x") == "x"
    assert done == ["asyncio", "tidy"]
    assert loop.is_closed()


async def test_a_failure_while_the_loop_ends_is_told_to_its_exception_handler() -> None:
    told: list[dict[str, Any]] = []

    async def fail_late() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise OSError("late")

    async def start() -> Any:
        task = asyncio.create_task(fail_late())
        await asyncio.sleep(0)
        return task

    async with open_hosted_loop() as loop:
        loop.set_exception_handler(lambda _loop, context: told.append(context))
        await loop.run_asyncio(start)
    assert [str(context["exception"]) for context in told] == ["late"]


async def test_a_stray_failing_task_is_logged_and_hurts_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash() -> None:
        raise OSError("stray")

    async def start() -> None:
        asyncio.create_task(crash())  # noqa: RUF006
        await asyncio.sleep(0)

    async with open_hosted_loop() as loop:
        with caplog.at_level(logging.ERROR, "asyncio"):
            await loop.run_asyncio(start)
            gc.collect()
        assert "stray" in caplog.text
        assert await loop.run_asyncio(give, "fine") == "fine"


async def test_cancelling_the_block_leaves_no_loop_behind() -> None:
    with trio.CancelScope() as scope:
        async with open_hosted_loop() as loop:
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert loop.is_closed()
    async with open_hosted_loop() as another:
        assert another is not loop


async def test_an_error_of_asyncio_code_keeps_no_cycle_alive() -> None:
    class Witness(Exception):
        pass

    async def crash() -> None:
        raise Witness

    gc.collect()
    gc.disable()
    try:
        async with open_hosted_loop() as loop:
            try:
                await loop.run_asyncio(crash)
            except Witness as error:
                witness = weakref.ref(error)
            await loop.run_asyncio(asyncio.sleep, 0)
            assert witness() is None
    finally:
        gc.enable()


async def test_calls_from_many_trio_tasks_at_once_all_return() -> None:
    async def double(number: int) -> int:
        for _ in range(number % 7):
            await asyncio.sleep(0)
        return 2 * number

    results = []

    async def call(number: int) -> None:
        results.append(await loop.run_asyncio(double, number))

    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(call, number)
    assert sorted(results) == [2 * number for number in range(200)]


def test_asyncio_run_in_another_thread_is_untouched() -> None:
    async def main() -> str:
        async with open_hosted_loop():
            loop_type = await trio.to_thread.run_sync(asyncio.run, _type_of_loop())
            return loop_type.__name__

    assert trio.run(main) != HostedLoop.__name__


async def _type_of_loop() -> type:
    return type(asyncio.get_running_loop())


async def test_time_in_a_thread_does_not_need_trio() -> None:
    async with open_hosted_loop() as loop:
        now = await trio.to_thread.run_sync(loop.time)
        assert now == pytest.approx(trio.current_time(), abs=60)
        assert time.monotonic() > 0


def test_a_loop_that_a_system_task_has_opened_ends_with_the_run() -> None:
    ended = []

    async def sleep() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            ended.append("task")

    async def keep(opened: trio.Event) -> None:
        async with open_hosted_loop() as loop:
            loop.create_task(sleep())
            opened.set()
            await trio.sleep_forever()

    async def main() -> None:
        opened = trio.Event()
        trio.lowlevel.spawn_system_task(keep, opened)
        await opened.wait()
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    assert ended == ["task"]
