"""The bounded set of worker threads: who gets one, how many there are, how they end."""

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.bridges.threads import (
    ThreadPool,
    call_before_threads_end,
    default_pool,
    threads_at_work,
)


class Step:
    """A job that a test starts and ends by hand."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.end = threading.Event()
        self.reported = threading.Event()
        self.thread: threading.Thread | None = None

    def run(self, before: Callable[[], object] | None = None) -> Callable[[], object]:
        self.thread = threading.current_thread()
        self.started.set()
        assert self.end.wait(10)
        return self.reported.set

    def finish(self) -> None:
        self.end.set()
        assert self.reported.wait(10)


def start(pool: ThreadPool) -> Step:
    step = Step()
    pool.enqueue(step)
    return step


def test_the_thread_that_was_used_last_is_leased_first() -> None:
    pool = ThreadPool(3)
    first, second = start(pool), start(pool)
    assert first.started.wait(10)
    assert second.started.wait(10)
    first.finish()
    second.finish()
    third = start(pool)
    third.finish()
    assert third.thread is second.thread
    assert pool.threads == 2
    pool.close()


def test_no_more_than_size_jobs_run_and_the_rest_wait_in_order() -> None:
    pool = ThreadPool(1)
    first, second, third = start(pool), start(pool), start(pool)
    assert first.started.wait(10)
    assert pool.pending == 2
    first.finish()
    assert second.started.wait(10)
    assert not third.started.is_set()
    second.finish()
    third.finish()
    assert pool.threads == 1
    pool.close()


def test_a_spare_thread_stands_in_for_one_that_waits_and_ends_afterwards() -> None:
    pool = ThreadPool(1, spare=1)
    first, second, third = start(pool), start(pool), start(pool)
    assert first.started.wait(10)
    pool.pause("first")
    assert second.started.wait(10)
    pool.pause("second")  # now both wait, and there are no more spare threads
    assert pool.pending == 1
    assert pool.threads == 2
    pool.resume("second")
    second.finish()
    assert third.started.wait(10)
    third.finish()
    pool.resume("first")
    first.finish()
    assert pool.threads == 1
    assert pool.busy == 0
    pool.close()


def test_nobody_stands_in_for_a_short_wait() -> None:
    pool = ThreadPool(2, spare=2, grace=3600)
    first, second, third, fourth = (start(pool) for _ in range(4))
    assert first.started.wait(10)
    assert second.started.wait(10)
    for _ in range(3):
        pool.pause("first")
        assert pool.pending == 2
        assert pool.threads == 2
        pool.resume("first")
    pool.pause("second")
    first.finish()  # its thread is there already
    assert third.started.wait(10)
    assert not fourth.started.is_set()
    pool.resume("second")
    assert threads_at_work() > 0  # or else virtual time might pass meanwhile
    for step in (second, third, fourth):
        step.finish()
    assert pool.threads == 2
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)
            assert not thread.is_alive()
    pool.close()


def test_as_many_stand_in_as_have_waited_long_enough() -> None:
    pool = ThreadPool(2, spare=2, grace=0.2)
    first, second, third, fourth = (start(pool) for _ in range(4))
    assert first.started.wait(10)
    assert second.started.wait(10)
    pool.pause("first")
    assert third.started.wait(10)
    pool.pause("second")  # it has not waited for long
    assert not fourth.started.is_set()
    assert fourth.started.wait(10)
    for name in ("first", "second"):
        pool.resume(name)
    for step in (first, second, third, fourth):
        step.finish()
    pool.close()


def test_a_thread_says_farewell_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.bridges.threads._pool._farewells", [])
    retired = []
    done = threading.Event()

    def retire() -> None:
        if threading.current_thread().name.startswith("retiring"):  # not one of another test
            retired.append(threading.current_thread())
            done.set()

    call_before_threads_end(retire)
    pool = ThreadPool(2, name="retiring")
    step = start(pool)
    step.finish()
    pool.close()
    assert done.wait(10)
    assert retired == [step.thread]
    with pytest.raises(RuntimeError, match="closed"):
        pool.enqueue(Step())


@pytest.mark.parametrize(("size", "spare"), [(0, 1), (-1, None), (1, -1)])
def test_impossible_sizes_are_refused(size: int, spare: int | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        ThreadPool(size, spare=spare)


def test_an_impossible_grace_is_refused() -> None:
    with pytest.raises(ValueError, match="grace must be 0 seconds or more, it is -1"):
        ThreadPool(1, grace=-1)


def test_the_default_pool_is_one_and_a_forked_process_has_its_own() -> None:
    pool = default_pool()
    assert default_pool() is pool
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        fresh = default_pool() is not pool
        os.write(writer, b"fresh" if fresh else b"same!")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 5) == b"fresh"
    os.close(reader)
    os.close(writer)


@given(
    st.integers(1, 3),
    st.integers(0, 2),
    st.lists(st.sampled_from(["enqueue", "finish", "pause", "resume"]), max_size=20),
)
def test_whatever_happens_the_pool_keeps_its_bounds_and_starves_nobody(
    size: int, spare: int, steps: list[str]
) -> None:
    pool = ThreadPool(size, spare=spare, grace=0)
    waiting: list[Step] = []  # as the model sees it: jobs without a thread, in order
    running: list[Step] = []
    paused: list[Step] = []

    def settle() -> None:
        while waiting and len(running) < size and len(running) + len(paused) < size + spare:
            step = waiting.pop(0)
            running.append(step)

    for action in steps:
        if action == "enqueue":
            waiting.append(start(pool))
        elif action == "finish" and running:
            running.pop().finish()
        elif action == "pause" and running:
            paused.append(running.pop())
            pool.pause(paused[-1])
        elif action == "resume" and paused:
            running.append(paused.pop())
            pool.resume(running[-1])
        settle()
        for step in running:
            assert step.started.wait(10)
        assert not any(step.started.is_set() for step in waiting)
        assert pool.busy == len(running)
        assert pool.pending == len(waiting)
        assert pool.threads <= size + spare
    for step in paused:
        pool.resume(step)
    for step in running + paused + waiting:
        step.finish()
    assert pool.busy == 0
    pool.close()
