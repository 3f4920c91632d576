"""Tests of groups that a layer's server has forgotten: who is in them again, and who is not."""

import asyncio
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync
from tests.bridges.channels.restarting import (
    CONSUMERS,
    FLAVOURS,
    GONE,
    SCOPE,
    Async,
    Restarting,
    Sync,
    Trio,
    connected,
    said,
)
from tests.bridges.channels.working import Jobs, job, recording

from greenroom.actors import Restart
from greenroom.bridges.channels._layer_failures import RATE
from greenroom.bridges.channels._memberships import memberships_of
from greenroom.bridges.channels._outages import outage_of
from greenroom.bridges.channels._rejoins import AT_ONCE
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.layers import SyncLayer, channel_layers, get_channel_layer
from greenroom.bridges.channels.worker import Worker
from greenroom.bridges.threads import run_sync


@pytest.fixture
def remote() -> Restarting:
    """The default layer, which is somebody else's."""
    remote = Restarting()
    channel_layers.set("default", remote)
    return remote


def members(remote: Any) -> dict[str, set[str]]:
    """Give the groups that the server knows, and who is in them."""
    return {group: set(names) for group, names in remote.groups.items() if names}


def noted(remote: Any) -> dict[str, list[str]]:
    """Give the groups that are noted here, by channel."""
    ours = memberships_of(remote)
    assert ours is not None
    return {name: sorted(member.groups()) for name, member in ours._members.items()}


@FLAVOURS
@pytest.mark.parametrize("forget", [True, False])
async def test_groups_that_were_joined_in_any_way_are_joined_again_and_those_left_are_not(
    flavour: str, forget: bool, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(*[CONSUMERS[flavour]] * 3) as clients:
        layer = get_channel_layer()
        for client in clients:
            assert await client.ask("add handler") == "done"
            assert await client.ask("add left-by-handler") == "done"
            assert await client.ask("discard left-by-handler") == "done"
            await run_sync(async_to_sync(layer.group_add), "thread", client.name)
            await run_sync(SyncLayer(layer).group_add, "left-by-thread", client.name)
            await run_sync(SyncLayer(layer).group_discard, "left-by-thread", client.name)
            await run_sync(async_to_sync(layer.group_add), "left-in-vain", client.name)
        remote.go_away(30, forget=forget)
        for client in clients:
            assert await client.ask("discard left-in-vain") == "refused"
            assert await client.ask("add too-late") == "refused"
        await trio.sleep(40)
        names = {client.name for client in clients}
        assert members(remote) == dict.fromkeys(["room", "handler", "thread"], names)
        assert noted(remote) == {name: ["handler", "room", "thread"] for name in names}
        for group in ("room", "handler", "thread"):
            remote.tell(group, f"to {group}")
            for client in clients:
                assert await client.hear() == f"to {group}"
    assert noted(remote) == {}


async def test_connection_that_one_consumer_has_lost_may_have_been_that_of_all(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(Async, Trio, Sync, Async) as clients:
        remote.groups.clear()
        remote.interrupt(only=clients[2].name)
        await trio.sleep(1)
        assert members(remote) == {"room": {client.name for client in clients}}
    assert said(caplog) == []


async def test_outage_goes_on_until_groups_are_joined_again(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(Async, Trio, Sync) as clients:
        remote.refusing = lambda _channel: True
        remote.go_away(10)
        await trio.sleep(20)
        asked = len(remote.asked)
        for client in clients:  # what is sent to them alone is heard by now
            remote.put(client.name, {"type": "said", "text": "hello"})
            assert await client.hear() == "hello"
        await trio.sleep(60)
        assert [line.split(" while")[0] for line in said(caplog)] == ["the channel layer fails"]
        # As seldom as anybody asks who has waited for long, and all of them.
        assert 3 * 60 / 5 <= len(remote.asked) - asked <= 3 * (60 / 2.5 + 5)
        remote.refusing = lambda _channel: False
        await trio.sleep(6)
        assert members(remote) == {"room": {client.name for client in clients}}
        assert [line.split(",")[0] for line in said(caplog)[1:]] == [
            "the channel layer works again"
        ]


async def test_groups_are_joined_once_more_when_the_server_fails_meanwhile(
    remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(*[Async] * 20) as clients:
        names = {client.name for client in clients}
        remote.latency["group_add"] = 1  # so that all of them take five seconds
        remote.go_away(0)
        await trio.sleep(3)
        assert 0 < len(remote.groups["room"]) < len(names)
        remote.groups.clear()
        remote.interrupt(only=clients[0].name)
        await trio.sleep(20)
        assert members(remote) == {"room": names}


@FLAVOURS
@pytest.mark.parametrize("ends", [True, False])
async def test_group_that_is_left_while_it_is_joined_again_is_left(
    flavour: str, ends: bool, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(CONSUMERS[flavour]) as [client]:
        remote.latency["group_add"] = 5
        remote.groups.clear()
        remote.interrupt()
        await trio.sleep(1)
        if ends:
            client.says.send_nowait(GONE)
            await client.ended.wait()
        else:
            assert await client.ask("discard room") == "done"
        assert [name for name, *_ in remote.asked] == ["group_add", "group_add", "group_discard"]
        await trio.sleep(3)
        assert not members(remote)
        await trio.sleep(3)
        assert not members(remote)
        assert noted(remote) == ({} if ends else {client.name: []})


async def test_consumer_that_has_ended_is_in_no_group_again(
    remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    quiet = type("Quiet", (Async,), {"groups": ()})
    async with connected(quiet, Async) as [client, other]:
        assert await client.ask("add room") == "done"  # which it will not leave by itself
        remote.go_away(5)
        client.says.send_nowait(GONE)
        await client.ended.wait()
        await trio.sleep(20)
        assert members(remote) == {"room": {other.name}}


@FLAVOURS
async def test_instance_that_took_the_place_of_one_that_crashed_is_in_its_groups_again(
    flavour: str, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    resilient = type("Resilient", (CONSUMERS[flavour],), {"restart": Restart.TRANSIENT})
    async with connected(resilient) as [client]:
        assert await client.ask("add first") == "done"
        client.says.send_nowait({"type": "websocket.receive", "text": "crash now"})
        assert await client.ask("add second") == "done"
        remote.go_away(5)
        client.says.send_nowait({"type": "websocket.receive", "text": "crash now"})
        await trio.sleep(20)
        assert members(remote) == {group: {client.name} for group in ("room", "first", "second")}


async def test_channels_of_a_worker_and_of_its_consumers_are_in_their_groups_again(
    remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    jobs = Jobs()
    base: Any = recording(AsyncConsumer, jobs)

    class Job(base):  # type: ignore[misc]
        async def job_join(self, message: dict[str, Any]) -> None:
            await self.channel_layer.group_add("consumers", self.channel_name)
            await self.job_run(message)

    def tell(group: str, number: int) -> None:
        for channel in remote.groups[group]:
            remote.put(channel, job(number))

    worker = Worker(Job.as_asgi(), ["jobs"], remote)
    async with connected(Trio) as [client], trio.open_nursery() as nursery:
        nursery.start_soon(worker.arun)
        await trio.testing.wait_all_tasks_blocked()
        await run_sync(SyncLayer(get_channel_layer()).group_add, "workers", "jobs")
        remote.put("jobs", job(1, "join"))
        await jobs.until_ended(1)
        remote.go_away(5)
        await trio.sleep(20)
        assert sorted(members(remote)) == ["consumers", "room", "workers"]
        tell("workers", 2)
        await jobs.until_ended(2)
        tell("consumers", 3)
        await jobs.until_ended(3)
        assert client.name in remote.groups["room"]
        nursery.cancel_scope.cancel()
    assert noted(remote) == {}


async def test_what_can_only_be_a_mistake_holds_nobody_else_up(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(channel: str) -> bool:
        if channel == clients[0].name:
            raise RuntimeError("the transport is closed")
        return False

    async with connected(*[Async] * 10) as clients:
        names = {client.name for client in clients}
        remote.go_away(0)
        remote.refusing = refuse
        await trio.sleep(3)
        assert members(remote) == {"room": names - {clients[0].name}}
        await trio.sleep(30)
        assert len(said(caplog)) == 1
        assert "RuntimeError: the transport is closed" in caplog.text
        remote.refusing = lambda _channel: False
        await trio.sleep(30)
        assert members(remote) == {"room": names}
        assert len(said(caplog)) == 2


class Server:
    """A layer that can be awaited in trio: its groups, and how much it is asked for at once."""

    greenroom_flavour = "trio"
    latency = 0.002

    def __init__(self) -> None:
        self.groups: dict[str, set[str]] = {"room": set()}
        self.times: list[float] = []
        self.running = self.most = 0
        self.asked = trio.Event()

    async def group_add(self, group: str, channel: str) -> None:
        self.asked.set()
        self.times.append(trio.current_time())
        self.running += 1
        self.most = max(self.running, self.most)
        await trio.sleep(self.latency)
        self.running -= 1
        self.groups[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.groups[group].discard(channel)


async def test_thousands_are_joined_again_no_faster_than_a_server_can_stand(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server()
    outage = outage_of(server)
    followings = [outage.follow(str(number)) for number in range(2000)]
    for number in range(2000):
        await server.group_add("room", str(number))
    server.groups["room"].clear()
    server.times.clear()
    server.most = 0
    outage.saw_single_failure()
    began = trio.current_time()
    await trio.sleep(2000 / RATE + 0.3)
    assert len(server.groups["room"]) == len(server.times) == 2000
    assert server.most <= AT_ONCE
    assert server.times[0] >= began + 0.1
    for first, later in zip(server.times, server.times[RATE:], strict=False):
        assert later - first > 0.99
    for following in followings:
        following.close()
    assert noted(server) == {}


async def test_outage_is_not_over_while_it_takes_long_to_join_groups_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    outage = outage_of(server)
    followings = [outage.follow(str(number)) for number in range(5 * AT_ONCE)]
    for number in range(5 * AT_ONCE):
        await server.group_add("room", str(number))
    server.latency = 4
    outage.saw_failure("0", ConnectionError("refused"), trio.current_time())
    await trio.sleep(19)
    assert len(said(caplog)) == 1
    await trio.sleep(3)
    assert len(said(caplog)) == 2
    assert len(followings) == len(server.groups["room"])


async def test_who_comes_while_groups_are_joined_again_is_among_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server()
    outage = outage_of(server)
    followings = [outage.follow(str(number)) for number in range(20)]
    for number in range(20):
        await server.group_add("room", str(number))
    outage.saw_single_failure()
    server.asked = trio.Event()
    await server.asked.wait()
    followings.append(outage.follow("late"))
    await server.group_add("room", "late")
    server.groups["room"].clear()  # which nobody has seen
    await trio.sleep(1)
    assert "late" in server.groups["room"]


async def test_nothing_goes_on_when_all_have_left(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    outage = outage_of(server)
    following = outage.follow("only")
    await server.group_add("room", "only")
    outage.saw_single_failure()
    assert outage._rejoins.due
    following.close()
    await trio.testing.wait_all_tasks_blocked()
    assert not outage._rejoins.due
    assert len(server.times) == 1


async def test_layer_without_groups_or_one_that_keeps_them_by_itself_is_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outage = outage_of(object())
    following = outage.follow("only")
    outage.saw_single_failure()
    assert not outage._rejoins.due
    following.close()


class Watched(Restarting):
    """Tells when a connection was lost, and when a group is joined; for one asyncio loop."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = asyncio.Event()
        self.joined = asyncio.Event()

    async def receive(self, channel: str) -> Any:
        try:
            return await super().receive(channel)
        except ConnectionError:
            self.lost.set()
            raise

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        self.joined.set()


def test_groups_are_joined_again_on_a_loop_of_somebody_else_after_the_one_who_failed_has_left() -> (
    None
):
    async def main() -> None:
        remote = Watched()
        channel_layers.set("default", remote)
        serving, says, names = [], [], []
        for _ in range(2):
            said: asyncio.Queue[Any] = asyncio.Queue()
            heard: asyncio.Queue[Any] = asyncio.Queue()
            said.put_nowait({"type": "websocket.connect"})
            serving.append(asyncio.ensure_future(Async.as_asgi()(SCOPE, said.get, heard.put)))
            await heard.get()
            names.append((await heard.get())["text"])
            remote.put(names[-1], {"type": "said", "text": "it is waited for"})
            await heard.get()
            says.append(said)
        remote.groups.clear()
        remote.joined.clear()
        remote.interrupt(only=names[0])
        await remote.lost.wait()
        says[0].put_nowait(GONE)
        await serving[0]
        await remote.joined.wait()
        assert members(remote) == {"room": {names[1]}}
        says[1].put_nowait(GONE)
        await serving[1]
        assert noted(remote) == {}

    asyncio.run(main())


def test_loop_of_somebody_else_ends_while_groups_are_to_be_joined() -> None:
    async def main() -> None:
        remote = Restarting()
        outage = outage_of(remote)
        outage.follow("a")
        outage.saw_single_failure()
        await asyncio.sleep(0)

    asyncio.run(main())
