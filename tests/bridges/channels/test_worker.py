"""Tests of workers: who handles what, and what becomes of the rest when somebody fails."""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
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
from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer, channel_layers
from greenroom.bridges.channels.worker import Worker, serve_channels
from greenroom.bridges.threads import Lease, ThreadPool
from greenroom.runtime import speaks

LOG = "greenroom.channels.worker"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name in (LOG, "greenroom.channels")
    ]


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


@pytest.mark.parametrize("layer_class", [TrioLayer, AsyncioLayer])
@pytest.mark.parametrize("base", [Asyncio, Trio, Sync])
def test_a_worker_is_awaited_in_plain_asyncio(base: Any, layer_class: Any) -> None:
    layer, jobs = layer_class(), Jobs()
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


async def test_many_messages_of_a_channel_are_handled_at_once_and_no_more_than_asked_for() -> None:
    layer, jobs, go_on = AsyncioLayer(), Jobs(), trio.Event()

    @speaks("trio")
    async def app(scope: Any, receive: Any, send: Any) -> None:
        jobs.instances.append(scope)
        while True:
            message = await receive()
            jobs.begun.append(message["number"])
            jobs.tell()
            await go_on.wait()
            jobs.ended.append(message["number"])
            jobs.tell()

    for number in range(10):
        layer.put("jobs", job(number))
    with trio.fail_after(10):
        async with working(Worker(app, ["jobs"], layer, concurrency=3)):
            await jobs.until(lambda: len(jobs.begun) == 3)
            await trio.testing.wait_all_tasks_blocked()
            assert jobs.begun == [0, 1, 2]
            assert layer.waiting("jobs") == 7
            go_on.set()
            await jobs.until_ended(10)
    assert sorted(jobs.ended) == list(range(10))
    assert len(jobs.instances) == 3
    assert jobs.instances[0] is not jobs.instances[1]


async def test_there_are_no_more_instances_than_were_needed_at_once() -> None:
    layer, jobs = TrioLayer(), Jobs()
    async with working(Worker(recording(Trio, jobs).as_asgi(), ["jobs"], layer, concurrency=8)):
        for number in range(5):
            layer.put("jobs", job(number))
            await jobs.until_ended(number + 1)
            await trio.testing.wait_all_tasks_blocked()
    assert len(jobs.instances) == 1
    assert [number for number, _ in jobs.begun] == [0, 1, 2, 3, 4]


@WORLDS
async def test_a_message_without_a_type_is_logged_and_skipped(
    world: str, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    for message in ({}, {"type": ""}, {"type": 3}, {"type": None}, job(1)):
        layer.put("jobs", message)
    async with working(Worker(recording(Trio, jobs).as_asgi(), ["jobs"], layer), world):
        await jobs.until_ended(1)
    assert jobs.begun == [(1, 1)]
    assert lines(caplog) == [
        f"a message without a type is skipped in channel jobs: {message}"
        for message in ({}, {"type": ""}, {"type": 3}, {"type": None})
    ]


class Failing(AsyncioLayer):
    """A layer whose server is away until a time, on the clock of the loop that runs."""

    until = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[float] = []

    async def receive(self, channel: str) -> Any:
        now = asyncio.get_running_loop().time()
        self.tried.append(now)
        if now < self.until:
            raise ConnectionError("refused")
        return await super().receive(channel)


@WORLDS
async def test_a_layer_that_fails_is_asked_again_ever_more_slowly_and_that_is_logged_once(
    world: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = Failing(), Jobs()
    began = trio.current_time()
    layer.until = began + 30
    layer.put("jobs", job(1))
    layer.put("others", job(2))
    app = recording(Asyncio, jobs).as_asgi()
    async with working(Worker(app, ["jobs", "others"], layer), world):
        await jobs.until_ended(2)
    tried = [time - began for time in layer.tried]
    assert 30 <= tried[-1] <= 36
    assert len(tried) <= 2 * 17  # 0.1 + 0.2 + ... + 1.6 s at least, then every 2.5
    outage, recovery = lines(caplog)
    assert re.fullmatch(
        "the channel layer fails while messages of the channel (jobs|others) are waited for; "
        "it is asked again until it works",
        outage,
    )
    lasted = re.fullmatch(r"the channel layer works again, after (\d+)\.\d s", recovery)
    assert lasted is not None
    assert 29 <= int(lasted[1]) <= 36
    assert caplog.records[0].exc_info is not None


async def test_a_single_failure_of_a_layer_is_no_outage(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = Failing(), Jobs()
    layer.until = trio.current_time() + 0.05
    layer.put("jobs", job(1))
    async with working(Worker(recording(Asyncio, jobs).as_asgi(), ["jobs"], layer)):
        await jobs.until_ended(1)
    assert lines(caplog) == []


async def test_a_layer_that_waits_for_ten_seconds_again_counts_as_mended(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    layer = Failing()
    layer.until = trio.current_time() + 3
    async with working(Worker(Asyncio.as_asgi(), ["jobs"], layer)):
        await trio.sleep(12)
        assert len(lines(caplog)) == 1
        await trio.sleep(5)
        assert len(lines(caplog)) == 2


async def test_an_idle_layer_that_times_out_now_and_then_is_asked_again_without_delay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    layer = Failing()

    async def receive(channel: str) -> Any:
        layer.tried.append(asyncio.get_running_loop().time())
        await asyncio.sleep(5)
        raise TimeoutError

    layer.receive = receive  # type: ignore[method-assign]
    async with working(Worker(Asyncio.as_asgi(), ["jobs"], layer)):
        await trio.sleep(60)
    pauses = [b - a - 5 for a, b in pairwise(layer.tried)]
    assert len(pauses) >= 10
    assert max(pauses) < 0.2


@WORLDS
async def test_instances_that_fail_at_their_first_message_follow_each_other_ever_more_slowly(
    world: str, autojump_clock: trio.testing.MockClock
) -> None:
    layer, times, healthy = TrioLayer(), list[float](), trio.Event()

    @speaks("trio")
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()
            times.append(trio.current_time())
            if not healthy.is_set():
                raise OSError("the database is down")

    for number in range(30):
        layer.put("jobs", job(number))
    async with working(Worker(app, ["jobs"], layer), world):
        await trio.sleep(60)
        assert layer.waiting("jobs") > 10
        pauses = [b - a for a, b in pairwise(times)]
        assert pauses[0] == 0
        for pause, least in zip(pauses[1:], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5], strict=False):
            assert least <= pause <= 1.2 * least
        healthy.set()
        await trio.sleep(7)
        assert layer.waiting("jobs") == 0


async def test_each_of_several_instances_waits_for_itself_after_it_has_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    layer, times = TrioLayer(), list[float]()

    @speaks("trio")
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        times.append(trio.current_time())
        raise OSError("the database is down")

    for number in range(40):
        layer.put("jobs", job(number))
    async with working(Worker(app, ["jobs"], layer, concurrency=2)):
        await trio.sleep(10)
    # Two at once, two without a pause, and two after each of 0.1 + 0.2 + 0.4 + ... s.
    assert 2 * 6 <= len(times) <= 2 * 10


async def test_an_instance_that_has_worked_before_it_failed_is_followed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    for number in range(40):
        layer.put("jobs", job(number, "fail" if number % 2 else "run"))
    began = trio.current_time()
    async with working(Worker(recording(Trio, jobs).as_asgi(), ["jobs"], layer)):
        await jobs.until_ended(40)
    assert trio.current_time() == began


async def test_an_application_that_never_looks_at_its_message_is_not_called_again_for_it() -> None:
    layer, calls = TrioLayer(), list[Any]()

    @speaks("trio")
    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope)

    for number in range(3):
        layer.put("jobs", job(number))
    async with working(Worker(app, ["jobs"], layer)):
        await trio.testing.wait_all_tasks_blocked()
    assert calls == [{"type": "channel", "channel": "jobs"}] * 3


@WORLDS
@pytest.mark.parametrize(("base", "layer_class"), [(Trio, TrioLayer), (Asyncio, AsyncioLayer)])
async def test_a_job_that_was_taken_when_the_instance_failed_at_something_else_is_handled(
    base: Any, layer_class: Any, world: str
) -> None:
    layer, jobs = layer_class(), Jobs()
    failing = False

    class Job(base):  # type: ignore[misc]
        async def job_run(self, message: Any) -> None:
            jobs.begun.append((id(self), message["number"]))
            jobs.instances.append(self)
            jobs.tell()

        async def own_fail(self, message: Any) -> None:
            await jobs.until(lambda: failing)
            raise OSError("no disk")

    channel_layers.set("default", layer)
    async with working(Worker(Job.as_asgi(), ["jobs"], layer), world):
        layer.put("jobs", job(1))
        await jobs.until(lambda: len(jobs.begun) == 1)
        await trio.testing.wait_all_tasks_blocked()
        layer.put(jobs.instances[0].channel_name, {"type": "own.fail"})
        await trio.testing.wait_all_tasks_blocked()
        layer.put("jobs", job(2))
        await trio.testing.wait_all_tasks_blocked()
        assert layer.waiting("jobs") == 0  # it had nothing to do for the channel
        failing = True
        jobs.tell()
        with trio.fail_after(10):
            await jobs.until(lambda: len(jobs.begun) == 2)
    (first, _), (second, number) = jobs.begun
    assert first != second
    assert number == 2


async def test_stop_consumer_ends_an_instance_and_the_next_message_starts_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    for number, kind in enumerate(["run", "stop", "run"]):
        layer.put("jobs", job(number, kind))
    async with working(Worker(recording(Trio, jobs).as_asgi(), ["jobs"], layer)):
        await jobs.until_ended(3)
    assert jobs.begun == [(0, 1), (1, 2), (2, 1)]
    assert lines(caplog) == []


async def test_a_consumer_that_survives_its_crashes_does_so_here() -> None:
    layer, jobs = TrioLayer(), Jobs()
    base: Any = recording(Trio, jobs)

    class Job(base):  # type: ignore[misc]
        restart = Restart.TRANSIENT

        async def restarted(self, cause: Any, previous: Any) -> None:
            self.count = previous.count

    channel_layers.set("default", layer)
    for number, kind in enumerate(["run", "fail", "run"]):
        layer.put("jobs", job(number, kind))
    async with working(Worker(Job.as_asgi(), ["jobs"], layer)):
        await jobs.until_ended(3)
    assert jobs.begun == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("base", [Asyncio, Trio])
async def test_a_middleware_around_receive_is_not_asked_ahead_either(base: Any) -> None:
    layer, jobs = TrioLayer(), Jobs()
    channel_layers.set("default", layer)
    inner = recording(base, jobs).as_asgi()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def wrapped() -> Any:
            return await receive()

        await inner(scope, wrapped, send)

    app: Any = speaks("trio" if base is Trio else "asyncio")(call)
    for number in range(12):
        layer.put("jobs", job(number, "fail" if number in {2, 7} else "run"))
    worker = Worker(app, ["jobs"], layer)
    with trio.fail_after(10):
        async with working(worker):
            await jobs.until_ended(12)
            assert worker.application_instances["jobs"]["scope"] == {
                "type": "channel",
                "channel": "jobs",
            }
    assert [number for number, _ in jobs.begun] == list(range(12))


# -- the end


@WORLDS
@KINDS
async def test_stop_lets_what_runs_end_and_leaves_the_rest_in_the_layer(
    base: Any, layer_class: Any, world: str, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs, go_on = layer_class(), Jobs(), threading.Event()
    channel_layers.set("default", layer)

    class Job(base):  # type: ignore[misc]
        if base is Sync:

            def job_run(self, message: Any) -> None:
                jobs.begun.append(message["number"])
                jobs.tell()
                go_on.wait(10)
                jobs.ended.append(message["number"])
        else:

            async def job_run(self, message: Any) -> None:  # type: ignore[misc]
                jobs.begun.append(message["number"])
                jobs.tell()
                await jobs.until(go_on.is_set)
                jobs.ended.append(message["number"])

    worker = Worker(Job.as_asgi(), ["jobs", "idle", "never"], layer)
    ended = trio.Event()
    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:

        async def run() -> None:
            await (worker.arun() if world == "trio" else loop.run_asyncio(worker.arun))
            ended.set()

        nursery.start_soon(run)
        layer.put("idle", job(0))
        await jobs.until(lambda: len(jobs.begun) == 1)
        layer.put("jobs", job(1))
        layer.put("jobs", job(2))
        await jobs.until(lambda: len(jobs.begun) == 2)
        await trio.testing.wait_all_tasks_blocked()
        worker.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        layer.put("idle", job(3))
        go_on.set()
        jobs.tell()
        with trio.fail_after(10):
            await ended.wait()
    assert sorted(jobs.ended) == [0, 1]
    assert (layer.waiting("jobs"), layer.waiting("idle")) == (1, 1)
    assert caplog.records == []
    assert worker.application_instances == {}


def stubborn(jobs: Jobs) -> Any:
    @speaks("trio")
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        jobs.begun.append(scope["channel"])
        jobs.tell()
        await trio.sleep_forever()

    return app


@WORLDS
async def test_what_has_not_ended_within_the_graceful_timeout_is_cancelled_and_named(
    world: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    worker = Worker(stubborn(jobs), ["mails", "jobs"], layer, graceful_timeout=7)
    layer.put("jobs", job(1))
    layer.put("mails", {"type": "mail.send"})
    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
        run = [worker.arun] if world == "trio" else [loop.run_asyncio, worker.arun]
        nursery.start_soon(*run)
        await jobs.until(lambda: len(jobs.begun) == 2)
        asked = trio.current_time()
        worker.stop()
    assert trio.current_time() == asked + 7
    assert lines(caplog) == [
        "It was told to stop 7 s ago, so the worker cancels what it handles: "
        "channel jobs (job.run), channel mails (mail.send)"
    ]


async def test_stopped_a_second_time_it_does_not_wait(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    worker = Worker(stubborn(jobs), ["jobs"], layer)
    layer.put("jobs", job(1))
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(worker.arun)
        await jobs.until(lambda: bool(jobs.begun))
        asked = trio.current_time()
        worker.stop()
        await trio.testing.wait_all_tasks_blocked()
        worker.stop()
        worker.stop()
    assert trio.current_time() == asked
    assert lines(caplog) == [
        "It was told so again, so the worker cancels what it handles: channel jobs (job.run)"
    ]


async def test_a_message_that_comes_in_the_moment_of_the_stop_is_handled() -> None:
    jobs = Jobs()

    class LastWord(AsyncioLayer):
        """Its `receive`, when cancelled, finds that it has popped a message already."""

        async def receive(self, channel: str) -> Any:
            try:
                return await super().receive(channel)
            except asyncio.CancelledError:
                if channel != "jobs":
                    raise
                return job(1)

    layer = LastWord()
    channel_layers.set("default", layer)
    worker = Worker(recording(Asyncio, jobs).as_asgi(), ["jobs"], layer)
    with trio.fail_after(10):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            nursery.start_soon(worker.arun)
            await trio.testing.wait_all_tasks_blocked()
            worker.stop()
    assert jobs.ended == [1]


async def test_a_worker_that_is_stopped_before_it_runs_takes_nothing_and_can_run_later() -> None:
    layer, jobs = TrioLayer(), Jobs()
    layer.put("jobs", job(1))
    worker = Worker(recording(Trio, jobs).as_asgi(), ["jobs"], layer)
    worker.stop()
    with trio.fail_after(10):
        await worker.handle()
    assert jobs.begun == []
    with trio.fail_after(10):
        async with working(worker):
            await jobs.until_ended(1)


def test_it_runs_in_any_thread_and_stops_from_any_other() -> None:
    layer, jobs = TrioLayer(), Jobs()
    worker = Worker(recording(Trio, jobs).as_asgi(), ["jobs"], layer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    layer.put("jobs", job(1))

    async def main() -> None:
        with trio.fail_after(10):
            await jobs.until_ended(1)

    trio.run(main)
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_it_does_not_block_a_loop_that_runs() -> None:
    worker = Worker(Asyncio.as_asgi(), ["jobs"], TrioLayer())

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await arun\(\) instead"):
            worker.run()

    asyncio.run(main())


# -- what is given to it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be 1 or more; it is 0"),
        ({"graceful_timeout": -1}, "graceful_timeout must not be negative; it is -1"),
        ({"graceful_timeout": float("nan")}, "graceful_timeout must not be negative; it is nan"),
    ],
)
def test_numbers_out_of_their_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Worker(Asyncio.as_asgi(), ["jobs"], TrioLayer(), **options)


async def test_what_is_no_name_of_a_channel_is_refused() -> None:
    with pytest.raises(TypeError, match="Channel name must be"):
        await Worker(Asyncio.as_asgi(), ["a b"], TrioLayer()).handle()


@pytest.mark.parametrize("base", [Asyncio, Trio])
async def test_a_layer_written_for_asyncio_works_in_a_trio_program_that_hosts_no_loop(
    base: Any,
) -> None:
    layer, jobs = AsyncioLayer(), Jobs()
    channel_layers.set("default", layer)
    layer.put("jobs", job(1))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            app = recording(base, jobs).as_asgi()
            await nursery.start(partial(serve_channels, app, ["jobs"], layer=layer))
            await jobs.until_ended(1)
            nursery.cancel_scope.cancel()


async def test_a_channel_that_is_named_twice_is_served_once() -> None:
    layer, jobs = AsyncioLayer(), Jobs()
    async with working(Worker(recording(Asyncio, jobs).as_asgi(), ["jobs", "jobs"], layer)):
        await trio.testing.wait_all_tasks_blocked()
        assert layer.receiving["jobs"] == 1


async def test_of_too_many_instances_the_one_that_is_idle_for_longest_is_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    app = recording(Trio, jobs).as_asgi()
    names = ["a", "b", "c"]
    worker = Worker(app, names, layer, max_applications=2)
    async with working(worker):
        for number, name in enumerate(["a", "b", "a", "c", "a", "b"]):
            layer.put(name, job(number))
            await jobs.until_ended(number + 1)
            await trio.sleep(1)
            assert len(worker.application_instances) <= 2
    counts = [count for _, count in jobs.begun]
    assert counts == [1, 1, 2, 1, 3, 1]  # for c the instance of b was ended


# -- subclasses, as they are written for Channels


def test_a_listener_of_a_subclass_may_fill_the_queues_of_instances_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer, jobs = AsyncioLayer(), Jobs()

    class Mine(Worker):
        async def listener(self, channel: str) -> None:
            while True:
                message = await self.channel_layer.receive(channel)
                scope = {"type": "channel", "channel": channel}
                queue = self.get_or_create_application_instance(channel, scope)
                await queue.put(message)

    channel_layers.set("default", layer)
    for number in range(6):
        layer.put("jobs", job(number, "fail" if number == 2 else "run"))
    worker = Mine(recording(Asyncio, jobs).as_asgi(), ["jobs"], layer)
    with pytest.raises(RuntimeError, match="the worker does not run"):
        worker.get_or_create_application_instance("jobs", {})

    async def main() -> None:
        with trio.fail_after(10):
            async with working(worker):
                await jobs.until_ended(6)
                assert list(worker.application_instances) == ["jobs"]

    trio.run(main)
    assert jobs.begun == list(zip(range(6), [1, 2, 3, 1, 2, 3], strict=True))
    assert len(lines(caplog)) == 1


def test_a_listener_that_fails_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    layer, jobs, tries = TrioLayer(), Jobs(), list[str]()

    class Mine(Worker):
        async def listener(self, channel: str) -> None:
            tries.append(channel)
            await asyncio.sleep(0)
            if len(tries) < 3:
                raise OSError("not yet")
            await super().listener(channel)

    layer.put("jobs", job(1))

    async def main() -> None:
        with trio.fail_after(10):
            async with working(Mine(recording(Trio, jobs).as_asgi(), ["jobs"], layer)):
                await jobs.until_ended(1)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(tries) == 3
    assert lines(caplog) == ["the listener of channel jobs is started again"] * 2


def test_overridden_methods_are_awaited_in_asyncio_even_by_run() -> None:
    layer, jobs = TrioLayer(), Jobs()
    seen: list[Any] = []

    class Sends(AsyncConsumer):
        async def job_run(self, message: Any) -> None:
            await self.send({"type": "answer"})
            raise OSError("no disk")

    class Mine(Worker):
        async def handle(self) -> None:
            beat = asyncio.create_task(asyncio.sleep(0))
            await super().handle()
            await beat
            seen.append("end")

        async def application_send(self, scope: Any, message: Any) -> None:
            await asyncio.sleep(0)
            seen.append((scope["channel"], message))

        async def application_exception(self, exception: Any, application_details: Any) -> None:
            await asyncio.sleep(0)
            seen.append((repr(exception), application_details["message"]["number"]))
            self.stop()
            raise ValueError("and here")

    layer.put("jobs", job(4))
    channel_layers.set("default", layer)
    worker = Mine(Sends.as_asgi(), ["jobs"], layer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    thread.join(10)
    assert seen == [("jobs", {"type": "answer"}), ("OSError('no disk')", 4), "end"]
    assert jobs.begun == []


def test_a_listener_may_be_awaited_alone() -> None:
    layer, jobs = AsyncioLayer(), Jobs()
    channel_layers.set("default", layer)
    worker = Worker(recording(Asyncio, jobs).as_asgi(), ["jobs"], layer)

    async def main() -> None:
        async with asyncio.timeout(10):
            listening = asyncio.create_task(worker.listener("jobs"))
            await layer.send("jobs", job(1))
            await jobs.until_ended(1)
            listening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listening

    asyncio.run(main())


@pytest.mark.parametrize("plain", [True, False])
def test_a_handler_that_raises_cancelled_by_itself_ends_its_instance_only(
    plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = TrioLayer(), Jobs()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            jobs.ended.append(message["number"])
            jobs.tell()
            if message["type"] == "job.fail":
                raise asyncio.CancelledError
            if message["type"] == "job.stop":
                raise SystemExit(3)
            if message["type"] == "job.close":
                raise GeneratorExit

    for number, kind in enumerate(["run", "fail", "run", "stop", "run", "close", "run"]):
        layer.put("jobs", job(number, kind))
    worker = Worker(app, ["jobs"], layer)

    async def in_asyncio() -> None:
        async with asyncio.timeout(10):
            running = asyncio.create_task(worker.arun())
            await jobs.until_ended(7)
            worker.stop()
            await running

    async def in_trio() -> None:
        with trio.fail_after(10):
            async with working(worker):
                await jobs.until_ended(7)

    if plain:
        asyncio.run(in_asyncio())
    else:
        trio.run(in_trio)
    assert jobs.ended == [0, 1, 2, 3, 4, 5, 6]
    errors = [record.exc_info for record in caplog.records if record.levelno == logging.ERROR]
    assert [info[0].__name__ for info in errors if info and info[0]] == [
        "TaskCancelled",
        "ApplicationExited",
        "RuntimeError",
    ]


class AsksForLoop(AsyncioLayer):
    """As the pub/sub layer of channels_redis, which looks for all that it has on its loop."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not on {asyncio.get_running_loop()}")


@WORLDS
async def test_worker_asks_a_layer_for_nothing_that_only_its_loop_knows(world: str) -> None:
    layer, jobs = AsksForLoop(), Jobs()
    layer.put("jobs", job(0))
    async with working(Worker(recording(Asyncio, jobs).as_asgi(), ["jobs"], layer), world):
        await jobs.until_ended(1)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPool]:
    """Three threads, of which two can be pinned, as those of the process."""
    pool = ThreadPool(3, name="small")
    monkeypatch.setattr("greenroom.bridges.threads._default._pool", pool)
    yield pool
    pool.close()


@WORLDS
@KINDS
async def test_jobs_are_left_to_those_pinned_consumers_that_have_a_thread(
    base: Any, layer_class: Any, world: str, pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    layer, jobs = layer_class(), Jobs()
    pinned: Any = type("Pinned", (recording(base, jobs),), {"pinned": True})
    for number in range(12):
        layer.put("jobs", job(number))
    async with working(Worker(pinned.as_asgi(), ["jobs"], layer, concurrency=6), world):
        await jobs.until_ended(12)
    assert sorted(jobs.ended) == list(range(12))
    assert len(jobs.instances) <= 2
    assert "the application failed" not in caplog.text
    assert pool.pinned == 0


@pytest.mark.parametrize("base", [Asyncio, Trio, Sync])
async def test_job_waits_until_there_is_a_thread_for_its_pinned_consumer(
    base: Any,
    pool: ThreadPool,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    layer, jobs = TrioLayer(), Jobs()
    pinned: Any = type("Pinned", (recording(base, jobs),), {"pinned": True})
    async with working(Worker(pinned.as_asgi(), ["jobs"], layer)):
        async with Lease(pool, pinned=True) as first, Lease(pool, pinned=True) as second:
            first.reserve()
            second.reserve()
            for number in range(3):
                layer.put("jobs", job(number))
            await trio.sleep(100)
            assert not jobs.begun
            assert layer.waiting("jobs") == 2
        await jobs.until_ended(3)
    assert jobs.ended == [0, 1, 2]
    (line,) = lines(caplog)
    assert line.startswith("channel jobs has no thread for another consumer that is pinned")
