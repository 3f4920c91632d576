"""Sync code that asks other sync code, with every thread taken: nobody waits for ever.

A handler that waits for an answer keeps its thread, and the one who answers needs one too.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.threads import ThreadPool, call_home, run_sync

Ask = Callable[[Callable[[], object]], object]


@pytest.fixture
def make_pool() -> Iterator[Callable[..., ThreadPool]]:
    pools: list[ThreadPool] = []

    def make(size: int, spare: int | None = None) -> ThreadPool:
        pools.append(ThreadPool(size, spare=spare, grace=0.001, name="asking"))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def by_call_home(pool: ThreadPool, other: Callable[[], object]) -> object:
    return call_home(partial(run_sync, other, pool=pool))


def by_async_to_sync(pool: ThreadPool, other: Callable[[], object]) -> object:
    async def ask() -> object:
        return await run_sync(other, pool=pool)

    return async_to_sync(ask)()


WAYS = [by_call_home, by_async_to_sync]


def chain(ask: Ask, length: int) -> object:
    """Ask somebody who asks somebody, and so on; each link adds 1."""
    if length == 0:
        return 0
    answer: Any = ask(partial(chain, ask, length - 1))
    return answer + 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_chain_of_asks_longer_than_the_pool_ends(
    make_pool: Callable[..., ThreadPool], size: int, way: Any
) -> None:
    pool = make_pool(size, 3)
    asks = size + 3 - 1  # each who asks keeps a thread, and the last one needs one too
    with trio.fail_after(20):
        async with open_hosted_loop():
            answer = await run_sync(chain, partial(way, pool), asks, pool=pool)
    assert answer == asks
    assert pool.busy == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_as_many_mutual_asks_as_there_are_threads_end(
    make_pool: Callable[..., ThreadPool], size: int, way: Any
) -> None:
    pool = make_pool(size)
    everybody_asks = threading.Barrier(size)
    answers: list[object] = []

    def ask_after_all_are_there() -> object:
        everybody_asks.wait(10)
        return way(pool, lambda: "answer")

    async def ask() -> None:
        answers.append(await run_sync(ask_after_all_are_there, pool=pool))

    with trio.fail_after(20):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(ask)
    assert answers == ["answer"] * size
    assert pool.threads == size


def test_asks_on_asyncio_end_too(make_pool: Callable[..., ThreadPool]) -> None:
    pool = make_pool(1, 3)
    for way in WAYS:
        answer = asyncio.run(run_sync(chain, partial(way, pool), 3, pool=pool))
        assert answer == 3


class Room:
    """Somebody who asks, and whom a log shall name."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool

    def handle(self, message: dict[str, Any]) -> object:
        return by_async_to_sync(self._pool, partial(Lobby(self._pool).handle, {"type": "look.up"}))


class Lobby(Room):
    def handle(self, message: dict[str, Any]) -> object:
        return by_call_home(self._pool, self.last)

    def last(self) -> None: ...


async def test_where_no_thread_is_left_the_log_names_who_waits_for_whom(
    make_pool: Callable[..., ThreadPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(1, 1)
    told = trio.Event()
    token = trio.lowlevel.current_trio_token()

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            token.run_sync_soon(told.set)

    logger = logging.getLogger("greenroom.threads")
    handler = Tell()
    logger.addHandler(handler)
    try:
        with trio.fail_after(20):
            async with open_hosted_loop(), trio.open_nursery() as nursery:
                nursery.start_soon(partial(run_sync, Room(pool).handle, {"type": "a"}, pool=pool))
                await told.wait()
                nursery.cancel_scope.cancel()  # who waits for a thread gives up, and all end
    finally:
        logger.removeHandler(handler)
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("all 2 threads of the pool 'asking' wait for their callers")
    assert text.endswith(
        "Room.handle of 'a' waits for by_async_to_sync.<locals>.ask; "
        "Lobby.handle of 'look.up' waits for run_sync; "
        "Lobby.last waits for a thread"
    )
    assert pool.busy == 0
    assert await run_sync(int, pool=pool) == 0


async def test_it_is_told_once_for_each_time_that_everybody_waits(
    make_pool: Callable[..., ThreadPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(1, 0)
    for _ in range(2):
        answered = trio.Event()
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_sync, call_home, answered.wait, pool=pool))
            await trio.testing.wait_all_tasks_blocked(0.01)
            for _ in range(2):
                with trio.move_on_after(0.01):
                    await run_sync(int, pool=pool)
            answered.set()
        assert await run_sync(int, pool=pool) == 0
    assert len(caplog.records) == 2
    assert "call_home waits for Event.wait; int waits for a thread" in caplog.text


# A graph of asks: each node asks its children in turn, by one of the ways, and answers with the
# size of what it reaches. Children are drawn from those before a node, so there are no circles.
graphs = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=2), min_size=1, max_size=4
)


def reached(graph: list[list[tuple[int, bool]]], node: int) -> int:
    return 1 + sum(reached(graph, child % node) for child, _ in graph[node] if node)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), graphs, st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_whoever_asks_whom_all_are_answered_while_threads_may_stand_in(
    size: int, graph: list[list[tuple[int, bool]]], roots: list[int]
) -> None:
    # Every root's longest chain may wait at once.
    pool = ThreadPool(size, spare=len(roots) * len(graph), grace=0)
    most = 0
    lock = threading.Lock()
    running = 0

    def visit(node: int) -> int:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        answer = 1
        for child, home in graph[node] if node else ():
            with lock:
                running -= 1
            way = by_call_home if home else by_async_to_sync
            part: Any = way(pool, partial(visit, child % node))
            with lock:
                running += 1
            answer += part
        with lock:
            running -= 1
        return answer

    answers: list[int] = []

    async def ask(node: int) -> None:
        answers.append(await run_sync(visit, node, pool=pool))

    async def main() -> None:
        with trio.fail_after(20):
            async with open_hosted_loop(), trio.open_nursery() as nursery:
                for root in roots:
                    nursery.start_soon(ask, root % len(graph))

    trio.run(main)
    assert sorted(answers) == sorted(reached(graph, root % len(graph)) for root in roots)
    assert pool.busy == pool.pending == 0
    assert pool.threads <= size
    pool.close()
