"""Tests of workers: who handles what, and what becomes of the rest when somebody fails."""

import asyncio
import logging
import threading
from typing import Any

import pytest
import trio
import trio.testing
from tests.bridges.channels.working import (
    KINDS,
    WORLDS,
    Asyncio,
    AsyncioLayer,
    Jobs,
    Sync,
    Trio,
    TrioLayer,
    job,
    recording,
    working,
)

from greenroom.actors import Restart
from greenroom.bridges.asyncio import NoHostedLoop, open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer, channel_layers
from greenroom.bridges.channels.worker import Worker, serve_channels
from greenroom.runtime import speaks

LOG = "greenroom.channels.worker"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOG]


async def test_consumer_keeps_its_state_and_a_new_one_follows_a_failed_one(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    done, told = trio.Event(), []

    class Job(AsyncConsumer):
        count = 0

        async def job_run(self, message: dict[str, Any]) -> None:
            self.count += 1
            told.append((self.scope, self.count))

        async def job_fail(self, message: dict[str, Any]) -> None:
            raise OSError("no disk")

        async def job_end(self, message: dict[str, Any]) -> None:
            done.set()

    with trio.fail_after(10):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            await nursery.start(serve_channels, Job.as_asgi(), ["jobs"])
            for kind in ("run", "run", "fail", "run", "end"):
                await layer.send("jobs", {"type": f"job.{kind}"})
            await done.wait()
            nursery.cancel_scope.cancel()
    scope = {"type": "channel", "channel": "jobs"}
    assert told == [(scope, 1), (scope, 2), (scope, 1)]
    assert lines(caplog) == [
        "the application failed in channel jobs at a message of type 'job.fail'; "
        "the next message starts another instance"
    ]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert repr(record.exc_info[1]) == "OSError('no disk')"


async def test_consumer_of_a_channel_has_nobody_to_send_to(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[str] = []

    class Sends(SyncConsumer):
        def job_run(self, message: dict[str, Any]) -> None:
            try:
                self.send({"type": "answer"})
            except RuntimeError as error:
                refused.append(str(error))
            self.channel_layer.send(message["reply_to"], {"type": "done"})

    with trio.fail_after(10):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            await nursery.start(serve_channels, Sends.as_asgi(), ["jobs"])
            await layer.send("jobs", {"type": "job.run", "reply_to": "replies"})
            assert await layer.receive("replies") == {"type": "done"}
            nursery.cancel_scope.cancel()
    assert refused == [
        "a consumer of a named channel has no client to send 'answer' to; "
        "use self.channel_layer.send()"
    ]
    assert caplog.records == []


async def test_workers_need_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.bridges.channels.worker.get_channel_layer", lambda: None)
    with pytest.raises(ValueError, match="Channel layer is not valid"):
        await serve_channels(AsyncConsumer.as_asgi(), ["jobs"])
    with pytest.raises(ValueError, match="Channel layer is not valid"):
        Worker(AsyncConsumer.as_asgi(), ["jobs"], None)


@WORLDS
@KINDS
async def test_a_failing_job_loses_no_other_in_any_flavour_on_any_layer(
    base: Any, layer_class: Any, world: str
) -> None:
    layer, jobs = layer_class(), Jobs()
    channel_layers.set("default", layer)
    for number in range(12):
        layer.put("jobs", job(number, "fail" if number in {2, 7} else "run"))
    worker = Worker(recording(base, jobs).as_asgi(), ["jobs"], layer)
    with trio.fail_after(10):
        async with working(worker, world):
            await jobs.until_ended(12)
    counts = [1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3, 4]
    assert jobs.begun == list(zip(range(12), counts, strict=True))


@KINDS
def test_a_worker_is_awaited_in_plain_asyncio(base: Any, layer_class: Any) -> None:
    layer, jobs = layer_class(), Jobs()
    if base is Trio:
        pytest.skip("no trio program hosts this loop")
    channel_layers.set("default", layer)
    for number in range(6):
        layer.put("jobs", job(number, "fail" if number == 2 else "run"))
    worker = Worker(recording(base, jobs).as_asgi(), ["jobs"], layer)

    async def main() -> None:
        async with asyncio.timeout(10):
            running = asyncio.create_task(worker.arun())
            await jobs.until_ended(6)
            worker.stop()
            await running

    asyncio.run(main())
    assert jobs.begun == list(zip(range(6), [1, 2, 3, 1, 2, 3], strict=True))


@KINDS
async def test_what_nobody_is_ready_for_stays_in_the_layer(base: Any, layer_class: Any) -> None:
    layer, jobs, go_on = layer_class(), Jobs(), threading.Event()
    channel_layers.set("default", layer)

    class Job(base):  # type: ignore[misc]
        if base is Sync:

            def job_run(self, message: Any) -> None:
                jobs.begun.append(message["number"])
                jobs.tell()
                go_on.wait(10)
        else:

            async def job_run(self, message: Any) -> None:  # type: ignore[misc]
                jobs.begun.append(message["number"])
                jobs.tell()
                await jobs.until(go_on.is_set)

    for number in range(20):
        layer.put("jobs", job(number))
    with trio.fail_after(10):
        async with working(Worker(Job.as_asgi(), ["jobs"], layer)):
            await jobs.until(lambda: len(jobs.begun) == 1)
            await trio.testing.wait_all_tasks_blocked()
            assert layer.waiting("jobs") == 19
            go_on.set()
            jobs.tell()
            await jobs.until(lambda: len(jobs.begun) == 20)
