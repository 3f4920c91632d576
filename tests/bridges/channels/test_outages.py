"""Tests of layers of others that fail: who waits on, who ends, and what the log says of it."""

import asyncio
import ssl
from collections.abc import Awaitable
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.bridges.channels.launching import run_alone
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
from tests.bridges.channels.working import AsyncioLayer, Jobs, job, recording

from greenroom.bridges.asyncio import TaskCancelled
from greenroom.bridges.channels._layer_failures import PAUSES, RATE, Failure, judge
from greenroom.bridges.channels._outages import outage_of, receive_lastingly
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer,
)
from greenroom.bridges.channels.layers import channel_layers
from greenroom.bridges.channels.worker import Worker

PROGRAM = Path(__file__).with_name("outlast_redis")

# Clients have classes of their own for these.
ClientTimeout = type("TimeoutError", (Exception,), {})
InvalidToken = type("InvalidToken", (Exception,), {})


@pytest.fixture
def remote() -> Restarting:
    """The default layer, which is somebody else's."""
    remote = Restarting()
    channel_layers.set("default", remote)
    return remote


@pytest.mark.parametrize(
    ("error", "lasted", "failure"),
    [
        (TimeoutError("read"), 1.0, Failure.IDLE),
        (ClientTimeout("read"), 5.0, Failure.IDLE),
        (TimeoutError("at once"), 0.9, Failure.OUTAGE),
        (ConnectionError("refused"), 5.0, Failure.OUTAGE),
        (OSError("no route"), 0.0, Failure.OUTAGE),
        (EOFError(), 0.0, Failure.OUTAGE),
        (TaskCancelled(), 0.0, Failure.OUTAGE),
        (ssl.SSLCertVerificationError("expired"), 0.0, Failure.OUTAGE),
        (ValueError("int is not allowed for map key"), 0.0, Failure.LOSS),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 9.0, Failure.LOSS),
        (RecursionError("nested"), 0.0, Failure.LOSS),
        (InvalidToken(), 0.0, Failure.LOSS),
        (AssertionError("Wrong client prefix"), 0.0, Failure.MISTAKE),
        (AttributeError("no such method"), 0.0, Failure.MISTAKE),
        (ImportError("no hiredis"), 0.0, Failure.MISTAKE),
        (NameError("typo"), 0.0, Failure.MISTAKE),
        (NotImplementedError("receive()"), 0.0, Failure.MISTAKE),
        (RuntimeError("Two event loops"), 0.0, Failure.MISTAKE),
        (TypeError("Channel name must be a string"), 9.0, Failure.MISTAKE),
    ],
)
def test_failures_of_a_layer_are_judged(error: Exception, lasted: float, failure: Failure) -> None:
    assert judge(error, lasted) is failure


async def test_consumers_of_every_kind_and_a_worker_outlive_an_outage_and_the_log_tells_it_once(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = Jobs()
    worker = Worker(recording(AsyncConsumer, jobs).as_asgi(), ["jobs", "others"], remote)
    async with connected(*[Async, Trio, Sync] * 10) as clients, trio.open_nursery() as nursery:
        nursery.start_soon(worker.arun)
        await trio.testing.wait_all_tasks_blocked()
        remote.go_away(30)
        await trio.sleep(60)
        remote.put("jobs", job(1))
        await jobs.until_ended(1)
        for client in clients:
            remote.put(client.name, {"type": "said", "text": f"hello {client.name}"})
            assert await client.hear() == f"hello {client.name}"
        assert not any(client.ended.is_set() for client in clients)
        nursery.cancel_scope.cancel()
    outage, recovery = said(caplog)
    assert outage.startswith("the channel layer fails while messages of the channel ")
    assert recovery.startswith("the channel layer works again, after ")


@FLAVOURS
async def test_consumer_hears_what_is_sent_as_soon_as_the_layer_is_back(
    flavour: str, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(CONSUMERS[flavour]) as [client]:
        remote.put(client.name, {"type": "said", "text": "before"})
        assert await client.hear() == "before"
        remote.go_away(30)
        back = remote.until
        await trio.sleep(1)
        remote.put(client.name, {"type": "said", "text": "after"})
        assert await client.hear() == "after"
        assert 0 <= trio.current_time() - back <= 2 * PAUSES.longest


async def test_retries_come_ever_more_slowly_and_not_together(
    remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(*[Async] * 50) as clients:
        began = trio.current_time()
        del remote.tried[:]
        remote.go_away(30)
        await trio.sleep(40)
        names = [client.name for client in clients]
    tries = {name: [at - began for other, at in remote.tried if other == name] for name in names}
    assert all(10 <= len(times) <= 17 for times in tries.values())
    assert all(0.1 <= times[0] <= 0.2 for times in tries.values())
    last = [times[-1] for times in tries.values()]
    assert 30 <= min(last) < max(last) <= 35
    assert max(last) - min(last) > 2


async def test_crowd_asks_no_more_often_together_than_a_layer_and_a_loop_can_stand(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[float] = []

    async def receive() -> Any:
        tried.append(trio.current_time())
        raise ConnectionError("refused")

    outage = outage_of(receive)
    with trio.move_on_after(35):
        async with trio.open_nursery() as nursery:
            for number in range(2000):
                nursery.start_soon(receive_lastingly, receive, f"specific.{number}", outage)
    later = [at for at in tried if at > 15]
    assert 0.5 * 20 * RATE < len(later) < 1.2 * 20 * RATE
    assert len(said(caplog)) == 1


async def test_single_failure_is_not_told(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(*[Async] * 5):
        for _ in range(3):
            remote.interrupt()
            await trio.sleep(60)
        assert len(remote.tried) == 5 * 4
    assert said(caplog) == []


async def test_layer_on_which_nobody_has_failed_for_ten_seconds_counts_as_mended(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(*[Async] * 5):
        for outages in (1, 2):
            remote.go_away(3)
            await trio.sleep(12)
            assert len(said(caplog)) == 2 * outages - 1
            await trio.sleep(6)
            assert len(said(caplog)) == 2 * outages


@FLAVOURS
async def test_client_that_leaves_during_an_outage_ends_its_consumer_at_once(
    flavour: str, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    quietly = type("Quiet", (CONSUMERS[flavour],), {"groups": ()})
    async with connected(quietly, CONSUMERS[flavour]) as [quiet, member]:
        remote.go_away(1000)
        await trio.sleep(33)
        now = trio.current_time()
        for client in (quiet, member):
            client.says.send_nowait(GONE)
            await client.ended.wait()
        assert quiet.ended_at == member.ended_at == now
    # That its group could not be left is the outage, and no failure of its own.
    assert quiet.error is member.error is None


async def test_clients_that_come_and_leave_during_one_outage_are_not_told_of_one_by_one(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Quiet(Async):
        groups = ()

    remote.until = trio.current_time() + 1000
    for _ in range(20):
        async with connected(Quiet) as [client]:
            await trio.sleep(5)
            client.says.send_nowait(GONE)
            await client.ended.wait()
    assert len(said(caplog)) == 1


async def test_outage_that_all_have_left_is_over_without_a_word_and_the_next_one_is_told(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(Async, Async) as clients:
        remote.go_away(5)
        await trio.sleep(4)
        remote.until = -inf
        clients[0].says.send_nowait(GONE)
        await clients[0].ended.wait()
        remote.until = inf
        remote.interrupt()
        clients[1].says.send_nowait(GONE)
        await clients[1].ended.wait()
        await trio.sleep(30)
        assert len(said(caplog)) == 1
    remote.until = -inf
    async with connected(Async):
        remote.go_away(5)
        await trio.sleep(30)
    assert [line.split(",")[0].split(" while")[0] for line in said(caplog)[1:]] == [
        "the channel layer fails",
        "the channel layer works again",
    ]


@FLAVOURS
async def test_mistake_ends_the_consumer_at_once_with_a_note(
    flavour: str, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(CONSUMERS[flavour]) as [client]:
        now = trio.current_time()
        remote.bad = [RuntimeError("Two event loops are trying to receive()")]
        remote.interrupt()
        await client.ended.wait()
        assert client.ended_at == now
    assert str(client.error) == "Two event loops are trying to receive()"
    assert client.error is not None
    assert client.error.__notes__[0].endswith("waiting for a message of its channel layer")
    assert len(remote.tried) == 1


@FLAVOURS
async def test_message_that_cannot_be_read_is_lost_and_the_next_one_is_handled(
    flavour: str,
    remote: Restarting,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(*[CONSUMERS[flavour]] * 5) as clients:
        remote.bad = [ValueError("int is not allowed for map key") for _ in clients]
        remote.interrupt()
        await trio.sleep(1)
        for client in clients:
            remote.put(client.name, {"type": "said", "text": "next"})
            assert await client.hear() == "next"
    (line,) = said(caplog)
    assert line.startswith("a message of the channel specific.foreign!")
    assert line.endswith(" can't be read and is lost")
    assert "int is not allowed for map key" in caplog.text


async def test_layer_that_never_gives_a_readable_message_is_told_of_now_and_then(
    remote: Restarting, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(Async):
        remote.bad = [ValueError("no such scheme") for _ in range(1000)]
        remote.interrupt()
        await trio.sleep(60)
        assert 10 < len(remote.tried) < 35
    assert 4 <= len(said(caplog)) <= 6


async def test_receive_that_the_layer_itself_has_cancelled_is_asked_again(
    remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(Async, Trio) as clients:
        remote.bad = [asyncio.CancelledError() for _ in clients]
        remote.interrupt()
        await trio.sleep(1)
        for client in clients:
            remote.put(client.name, {"type": "said", "text": "next"})
            assert await client.hear() == "next"


class GivesUp:
    """The `receive` of a layer whose client waits for so many seconds, and four times."""

    def __init__(self, error: Exception, seconds: float) -> None:
        self.error = error
        self.seconds = seconds
        self.calls = 0

    async def __call__(self) -> dict[str, Any]:
        self.calls += 1
        if self.calls == 4:
            return {"type": "x"}
        await trio.sleep(self.seconds)
        raise self.error


async def test_receive_goes_on_to_wait_at_once_when_the_client_has_given_up(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (TimeoutError("read"), ClientTimeout("read")):
        receive, began = GivesUp(error, 5), trio.current_time()
        assert await receive_lastingly(receive, "a", outage_of(receive)) == {"type": "x"}
        assert (receive.calls, trio.current_time() - began) == (4, 15)
    assert said(caplog) == []


async def test_receive_that_times_out_at_once_is_not_asked_without_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    receive = GivesUp(TimeoutError("connect"), 0)
    assert await receive_lastingly(receive, "a", outage_of(receive)) == {"type": "x"}
    assert 0.7 <= trio.current_time() <= 1.4


async def test_connection_that_is_lost_after_a_while_is_opened_again_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    receive = GivesUp(ConnectionError("lost"), 2)
    assert await receive_lastingly(receive, "a", outage_of(receive)) == {"type": "x"}
    assert 3 * (2 + 0.1) <= trio.current_time() <= 3 * (2 + 0.2)


async def test_quiet_that_counts_as_recovery_begins_with_the_next_try(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = outage_of(caplog)
    outage.saw_failure("a", OSError("refused"), 5)
    outage.saw_failure("b", OSError("refused"), 8)
    await trio.sleep(17.9)
    assert len(said(caplog)) == 1
    await trio.sleep(0.2)
    assert len(said(caplog)) == 2


async def test_outage_goes_on_while_any_channel_fails(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = outage_of(caplog)
    outage.saw_failure("a", OSError("refused"), 0.1)
    outage.saw_failure("b", OSError("refused"), 0.1)
    outage.saw_recovery("a")
    assert len(said(caplog)) == 1
    outage.saw_failure("a", OSError("refused"), 0.1)
    outage.forget("b")
    outage.forget("a")
    await trio.sleep(60)
    assert len(said(caplog)) == 1  # nobody has seen it work since
    outage.saw_failure("a", OSError("refused"), 60)
    outage.saw_failure("b", OSError("refused"), 60)
    outage.saw_recovery("a")
    outage.forget("b")
    assert said(caplog)[2] == "the channel layer works again, after 0.0 s"


async def test_consumer_that_is_cancelled_waits_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    receive = GivesUp(ConnectionError("refused"), 0)
    with trio.move_on_after(0.05):
        await receive_lastingly(receive, "a", outage_of(receive))
    assert (receive.calls, trio.current_time()) == (1, 0.05)


def test_consumer_on_a_loop_of_somebody_else_outlives_failures_and_ends_with_its_client() -> None:
    class Layer(AsyncioLayer):
        failures = 0

        async def receive(self, channel: str) -> Any:
            self.failures += 1
            if self.failures <= 2:
                raise ConnectionError("refused")
            return await super().receive(channel)

    async def main() -> None:
        layer = Layer()
        channel_layers.set("default", layer)
        says: asyncio.Queue[Any] = asyncio.Queue()
        hears: asyncio.Queue[Any] = asyncio.Queue()
        says.put_nowait({"type": "websocket.connect"})
        serving = asyncio.create_task(_awaited(Async.as_asgi()(SCOPE, says.get, hears.put)))
        await hears.get()
        name = (await hears.get())["text"]
        layer.put(name, {"type": "said", "text": "hello"})
        layer.group_discard = _nothing  # type: ignore[attr-defined]
        assert (await hears.get())["text"] == "hello"
        says.put_nowait(GONE)
        await serving

    class Async(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send(self.channel_name)

        async def said(self, event: dict[str, Any]) -> None:
            await self.send(event["text"])

    asyncio.run(main())


async def _awaited(awaitable: Awaitable[Any]) -> None:
    await awaitable


async def _nothing(group: str, channel: str) -> None: ...


@FLAVOURS
async def test_failure_of_the_servers_own_receive_ends_the_consumer(
    flavour: str, remote: Restarting, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected(CONSUMERS[flavour]) as [client]:
        client.says.close()
        await client.ended.wait()
        client.says = trio.open_memory_channel[dict[str, Any]](inf)[0]
    assert isinstance(client.error, trio.EndOfChannel)


@pytest.fixture(scope="module", params=["greenroom", "uvicorn"])
def heard(request: pytest.FixtureRequest) -> list[str]:
    """What the program printed that is served so."""
    return run_alone(PROGRAM, request.param)


def test_consumers_on_channels_redis_are_in_their_groups_after_a_restart_of_an_empty_server(
    heard: list[str],
) -> None:
    groups = [line for line in heard if line.startswith("groups: ")]
    assert groups[-1] == "groups: class handler thread"
    hears = [line.split(" hears ") for line in heard if " hears " in line]
    assert len(hears) == 6
    for place, texts in hears:
        assert texts == ("class handler thread" if place.startswith("/core/") else "class handler")
    assert heard[-1] == "stopped"


def test_consumers_on_channels_redis_are_in_their_groups_after_one_lost_connection(
    heard: list[str],
) -> None:
    have_heard = [line.split(" has heard ") for line in heard if " has heard " in line]
    assert len(have_heard) == 3
    for _place, texts in have_heard:
        assert texts == "class handler thread left-in-vain"


def test_restart_of_the_server_is_told_in_two_lines_and_one_lost_connection_in_none(
    heard: list[str],
) -> None:
    assert [line for line in heard if line.startswith("log: ")] == [
        "log: the channel layer fails while messages of the channel X are waited for; "
        "it is asked again until it works",
        "log: the channel layer works again, after N s",
    ]
