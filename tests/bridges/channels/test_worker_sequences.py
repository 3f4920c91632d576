"""Any sequence of jobs: each is handled once and in order, and as Channels handles it.

Channels loses what it has fetched when a job fails, so it is held beside ours on the
sequences on which it keeps its promise: where jobs fail or stop one at a time.
"""

import asyncio
from typing import Any

import channels.consumer
import channels.exceptions
import channels.layers
import channels.worker
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridges.channels.working import (
    Asyncio,
    Jobs,
    Trio,
    TrioLayer,
    job,
    recording,
    working,
)

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.bridges.channels.worker import Worker

kinds = st.lists(st.sampled_from(["run", "fail", "stop", "untyped"]), max_size=12)


def messages(drawn: list[str]) -> list[dict[str, Any]]:
    return [
        {"number": number} if kind == "untyped" else job(number, kind)
        for number, kind in enumerate(drawn)
    ]


def numbers_and_counts(drawn: list[str]) -> list[tuple[int, int]]:
    """Model one instance after the other: which job is how many-th of its instance."""
    expected, count = [], 0
    for number, kind in enumerate(drawn):
        if kind != "untyped":
            count += 1
            expected.append((number, count))
            if kind != "run":
                count = 0
    return expected


@pytest.mark.parametrize("base", [Asyncio, Trio])
@given(drawn=kinds, concurrency=st.integers(1, 3), stop_after=st.integers(0, 14))
@settings(max_examples=40, deadline=None)
def test_each_job_is_begun_once_and_ended_and_the_rest_stays_when_a_worker_stops(
    base: Any, drawn: list[str], concurrency: int, stop_after: int
) -> None:
    layer, jobs = TrioLayer(clock=lambda: 0), Jobs()
    typed = [number for number, kind in enumerate(drawn) if kind != "untyped"]
    for message in messages(drawn):
        layer.put("jobs", message)
    app = recording(base, jobs).as_asgi()

    async def main() -> None:
        worker = Worker(app, ["jobs"], layer, concurrency=concurrency)
        async with working(worker) as running:
            await jobs.until_ended(min(stop_after, len(typed)))
            worker.stop()
            while worker._shift is not None:  # it ends by itself
                await trio.testing.wait_all_tasks_blocked()
            running.cancel()
        # Another worker, as in another process, has the rest.
        async with working(Worker(app, ["jobs"], layer)):
            await jobs.until_ended(len(typed))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    begun = [number for number, _ in jobs.begun]
    assert sorted(begun) == sorted(jobs.ended) == typed
    if concurrency == 1:
        assert begun == typed
        if stop_after >= len(typed):
            assert jobs.begun == numbers_and_counts(drawn)


def run_in_virtual_time(main: Any) -> None:
    async def hosted() -> None:
        async with open_hosted_loop() as loop:
            await loop.run_asyncio(main)

    trio.run(hosted, clock=trio.testing.MockClock(autojump_threshold=0))


def diary_of(
    drawn: list[str], together: int, worker_class: Any, base: Any, stop: Any, layer: Any, run: Any
) -> list[tuple[Any, ...]]:
    """Send jobs to a worker on asyncio, the first `together` at once, then one after the other."""
    diary: list[tuple[Any, ...]] = []
    jobs = Jobs()

    class Job(base):  # type: ignore[misc]
        count = 0

        async def job_run(self, message: Any) -> None:
            self.count += 1
            diary.append((message, self.count, dict(self.scope)))
            jobs.tell()

        async def job_fail(self, message: Any) -> None:
            await self.job_run(message)
            raise OSError("no disk")

        async def job_stop(self, message: Any) -> None:
            await self.job_run(message)
            raise stop

    async def main() -> None:
        worker = worker_class(Job.as_asgi(), ["jobs"], layer)
        worker.application_checker_interval = 0.001  # of Channels, which looks for failures then
        running = asyncio.create_task(worker.arun())
        for sent, message in enumerate(messages(["run"] * together + drawn), start=1):
            await layer.send("jobs", message)
            if sent >= together:
                await jobs.until(lambda sent=sent: len(diary) >= sent)  # type: ignore[misc]
                await asyncio.sleep(0.005)  # Channels has looked by then
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main)
    return diary


@given(
    drawn=st.lists(st.sampled_from(["run", "run", "fail", "stop"]), max_size=6),
    together=st.integers(0, 8),
)
@settings(max_examples=12, deadline=None)
def test_a_worker_handles_jobs_as_channels_does(drawn: list[str], together: int) -> None:
    ours = diary_of(
        drawn,
        together,
        Worker,
        AsyncConsumer,
        StopConsumer,
        InMemoryChannelLayer(),
        run_in_virtual_time,
    )
    theirs = diary_of(
        drawn,
        together,
        channels.worker.Worker,
        channels.consumer.AsyncConsumer,
        channels.exceptions.StopConsumer,
        channels.layers.InMemoryChannelLayer(),
        lambda main: asyncio.run(asyncio.wait_for(main(), 20)),
    )
    assert ours == theirs
