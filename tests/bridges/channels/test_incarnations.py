"""Tests of restarts in place of consumers: another instance goes on where one has crashed."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Self

import pytest
import trio
import trio.lowlevel
import trio.testing
from django.db import transaction
from tests.bridges.channels.resilient import (
    FLAVOURS,
    NUMBERS,
    PLACES,
    SUMS,
    Adds,
    Async,
    Sync,
    SyncAdds,
    TrioAdds,
    a_subclass_of,
    never,
    served_here,
    wait,
    warnings_in,
)
from tests.bridges.channels.serving import (
    exchange,
    exchange_in_trio,
    open_websocket,
    query,
    say,
)
from tests.django_project.models import Log
from tests.runtime.serving import close_code

from greenroom.actors import Crash, Normal, Restart
from greenroom.bridges.asyncio import hosted, open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer, channel_layers
from greenroom.runtime import open_scopes, restarts_in_place

Serve = Callable[[Any], AbstractAsyncContextManager[str]]


@PLACES
async def test_another_instance_goes_on_with_the_socket_the_groups_and_what_waits(
    base: type,
    serve: Serve,
    wrap: Any,
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    consumer = a_subclass_of(base)
    app = consumer.as_asgi()
    async with serve(app if wrap is None else wrap(app)) as address:
        async with open_websocket(address, "/") as websocket:
            for text in ("a", "fail", "b", "c", "fail", "d"):
                await websocket.send_message(text)
            assert [await websocket.get_message() for _ in "abcd"] == ["1 a", "2 b", "3 c", "4 d"]
            for text in ("e", "fail", "f"):
                layer.group_send("all", {"type": "from.group", "text": text})
            assert [await websocket.get_message() for _ in "ef"] == ["5 e", "6 f"]
            await websocket.aclose(4002)
        await wait(consumer.ended)
    first, *others = consumer.made
    assert len(others) == 3
    assert consumer.connected == [first]
    assert consumer.causes == ["as told"] * 3
    assert consumer.left == [(others[-1], 4002)]
    assert [vars(other)["channel_name"] for other in others] == [first.channel_name] * 3
    assert all(other.scope is first.scope for other in others)
    assert [text.rpartition("(")[2] for text in warnings_in(caplog)] == [
        "restart 1)",
        "restart 2)",
        "restart 3)",
    ]
    assert all(text.startswith("Consumer failed in websocket") for text in warnings_in(caplog))
    assert layer.groups == {}
    assert layer.channels == {}


async def test_groups_that_an_instance_has_named_are_left_by_the_last_one() -> None:
    left: list[str] = []

    class Watched(InMemoryChannelLayer):
        def group_discard(self, group: str, channel: str) -> Any:
            left.append(group)
            return super().group_discard(group, channel)

    class Joins(Async):
        groups: Any = None

        async def connect(self) -> None:
            self.groups.append("late")
            await self.channel_layer.group_add("late", self.channel_name)
            await super().connect()

    channel_layers.set("default", Watched())
    async with served_here(Joins.as_asgi()) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("fail")
        assert await say(websocket, "a") == "1 a"
    assert left == ["late"]


@FLAVOURS
async def test_another_instance_is_made_as_the_first_was(base: type) -> None:
    given: list[dict[str, Any]] = []

    class Configured(base):  # type: ignore[misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            given.append(kwargs)

    app = Configured.as_asgi(greeting="hello")
    async with served_here(app) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("fail")
        await websocket.send_message("fail")
        assert await say(websocket, "a") == "1 a"
    assert given == [{"greeting": "hello"}] * 3


@FLAVOURS
async def test_an_instance_that_did_not_get_ready_counts_as_a_crash_and_never_was(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    class Hesitates(base):  # type: ignore[misc]
        previous: ClassVar[list[Any]] = []

        def __init__(self) -> None:
            super().__init__()
            if len(self.made) == 3:
                raise KeyError("constructor")

        def take_over(self, cause: Crash, previous: Any) -> None:
            super().take_over(cause, previous)
            self.previous.append(previous)
            if len(self.made) == 2:
                raise OSError("hook")

    async with (
        served_here(Hesitates.as_asgi()) as address,
        open_websocket(address, "/") as websocket,
    ):
        assert await say(websocket, "a") == "1 a"
        await websocket.send_message("fail")
        assert await say(websocket, "b") == "2 b"
    first, _, _, fourth = Hesitates.made
    assert Hesitates.previous == [first, first]
    assert Hesitates.causes == ["as told", "'constructor'"]
    assert Hesitates.left == [(fourth, 1000)]
    assert len(warnings_in(caplog)) == 3


@FLAVOURS
async def test_the_last_instance_that_was_ready_disconnects_if_no_other_gets_ready(
    base: type, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(base):  # type: ignore[misc]
        def take_over(self, cause: Crash, previous: Any) -> None:
            raise OSError(f"hook {len(self.made)}")

    async with served_here(Broken.as_asgi()) as address, open_websocket(address, "/") as client:
        await client.send_message("fail")
        assert await close_code(client) == 1011
    assert len(Broken.made) == 4
    assert Broken.left == [(Broken.made[0], 1011)]
    assert layer.groups == {}
    errors = [record.exc_info for record in caplog.records if record.exc_info]
    assert [str(info[1]) for info in errors] == ["as told", "hook 2", "hook 3", "hook 4"]


@pytest.mark.parametrize("consumer", [Adds, TrioAdds, SyncAdds])
async def test_a_consumer_that_never_gets_ready_keeps_nobody_from_stopping_it(
    consumer: Any,
) -> None:
    made: list[Any] = []

    class Spins(consumer):  # type: ignore[misc]
        restart_intensity = 1000

        def __init__(self) -> None:
            made.append(self)
            if len(made) > 1:
                raise ValueError("again")

    async with open_hosted_loop(), open_scopes(hosted(Spins.as_asgi())) as scopes:
        conversation = scopes.open({"type": "chat"}, send=never)
        conversation.put({"type": "add", "text": "no number"})
        while len(made) < 2:
            await trio.lowlevel.checkpoint()
        conversation.stop()
        await conversation.join()
    assert len(made) < 500


@FLAVOURS
async def test_a_hook_may_end_its_consumer_as_a_handler_may(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    class Stops(base):  # type: ignore[misc]
        def take_over(self, cause: Crash, previous: Any) -> None:
            raise StopConsumer

    async with served_here(Stops.as_asgi()) as address, open_websocket(address, "/") as client:
        await client.send_message("fail")
        assert await close_code(client) == 1000
    assert Stops.left == []


async def test_a_crash_in_connect_after_it_has_accepted_is_survived() -> None:
    class Late(Async):
        async def connect(self) -> None:
            await super().connect()
            raise ValueError("accepted already")

    async with served_here(Late.as_asgi()) as address, open_websocket(address, "/") as websocket:
        assert await say(websocket, "a") == "1 a"
    assert len(Late.made) == 2


@pytest.mark.parametrize("consumer", [Adds, SyncAdds])
def test_in_a_scope_of_another_protocol_any_crash_is_survived(consumer: Any) -> None:
    assert exchange(consumer.as_asgi(), {"type": "chat"}, *NUMBERS) == SUMS
    assert exchange(consumer(), {"type": "chat"}, *NUMBERS) == SUMS


@pytest.mark.parametrize("consumer", [Adds, TrioAdds, SyncAdds])
async def test_in_a_conversation_any_crash_is_survived(consumer: Any) -> None:
    assert await exchange_in_trio(consumer.as_asgi(), {"type": "chat"}, *NUMBERS) == SUMS
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with open_hosted_loop(), open_scopes(hosted(consumer.as_asgi())) as scopes:
        conversation = scopes.open({"type": "chat"}, send=send)
        for message in NUMBERS:
            await conversation.feed(message)
        assert isinstance(await conversation.join(), Normal)
    assert sent == SUMS


async def test_a_restart_that_is_long_ago_counts_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Patient(TrioAdds):
        restart_intensity = 1
        restart_period = 10

    async with open_scopes(Patient.as_asgi()) as scopes:
        conversation = scopes.open({"type": "chat"}, send=never)
        for _ in range(20):
            await conversation.feed({"type": "add", "text": "no number"})
            await trio.sleep(11)
        for _ in range(2):
            await conversation.feed({"type": "add", "text": "no number"})
        assert isinstance(await conversation.join(), Crash)


# What ends with an instance.


async def test_the_tasks_of_an_instance_end_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Ticks(Async):
        tasks: ClassVar[list[asyncio.Task[Any]]] = []

        async def connect(self) -> None:
            await super().connect()
            self.start()

        def take_over(self, cause: Crash, previous: Any) -> None:
            assert self.tasks[-1].cancelled()
            self.start()

        def start(self) -> None:
            self.tasks.append(asyncio.create_task(asyncio.sleep(3600), name="ticker"))

    async with served_here(Ticks.as_asgi()) as address:
        async with open_websocket(address, "/") as websocket:
            await websocket.send_message("fail")
            assert await say(websocket, "a") == "1 a"
            assert [task.done() for task in Ticks.tasks] == [True, False]
        await wait(Ticks.ended)
    assert [task.cancelled() for task in Ticks.tasks] == [True, True]
    assert len([text for text in warnings_in(caplog) if "ticker" in text]) == 2


async def test_a_transaction_left_open_by_a_crash_is_lost_before_the_next_instance_begins(
    database: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Writes(Async):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            if text_data == "fail":
                await database_sync_to_async(transaction.atomic().__enter__)()
                await Log.objects.acreate(type="lost")
                raise ValueError("in a transaction")
            await self.send(str(await Log.objects.acount()))

        async def restarted(self, cause: Crash, previous: Self) -> None:
            await Log.objects.acreate(type="kept")

    async with served_here(Writes.as_asgi()) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("fail")
        assert await say(websocket, "count") == "1"
    assert len([text for text in caplog.messages if "was left open by Writes" in text]) == 1
    assert await query(lambda: [entry.type for entry in Log.objects.all()]) == ["kept"]


async def test_the_calls_of_a_hook_share_a_thread_and_give_it_back(
    database: None, leases: list[str]
) -> None:
    threads: list[int] = []

    class Asks(Async):
        async def restarted(self, cause: Crash, previous: Self) -> None:
            threads.extend([await database_sync_to_async(threading.get_ident)() for _ in "ab"])

    async with served_here(Asks.as_asgi()) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("fail")
        assert await say(websocket, "a") == "1 a"
    assert leases == ["taken", "given back"]
    assert threads[0] == threads[1]


async def test_the_hook_of_a_sync_consumer_may_ask_the_database(database: None) -> None:
    class Writes(Sync):
        def restarted(self, cause: Crash, previous: Self) -> None:
            assert threading.current_thread() is not threading.main_thread()
            Log.objects.create(type="from the hook")

    async with served_here(Writes.as_asgi()) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("fail")
        assert await say(websocket, "a") == "1 a"
    assert await query(Log.objects.count) == 1


@FLAVOURS
async def test_an_instance_that_crashed_is_kept_by_nothing_if_it_was_not_the_first(
    base: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is logged keeps its traceback, and pytest keeps what is logged.
    monkeypatch.setattr(logging.getLogger("greenroom.channels"), "disabled", True)

    class Forgotten(base):  # type: ignore[misc]
        alive: ClassVar["weakref.WeakSet[Any]"] = weakref.WeakSet()

        def __init__(self) -> None:
            super().__init__()
            self.made.clear()
            self.alive.add(self)

    gc.disable()
    try:
        async with (
            served_here(Forgotten.as_asgi()) as address,
            open_websocket(address, "/") as websocket,
        ):
            for text in ("fail", "fail", "fail"):
                await websocket.send_message(text)
            assert await say(websocket, "a") == "1 a"
            assert len(Forgotten.alive) <= 2
    finally:
        gc.enable()


# What a class may say.


def test_a_class_that_asks_for_what_no_consumer_can_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"restart of .*Forever is .*PERMANENT.*TRANSIENT"):

        class Forever(AsyncWebsocketConsumer):
            restart = Restart.PERMANENT

    with pytest.raises(ValueError, match=r"restart of .*Page .* HTTP is never restarted"):

        class Page(AsyncHttpConsumer):
            restart = Restart.TRANSIENT

    with pytest.raises(TypeError, match=r"restart of .*Word is 'transient'; it must be a Restart"):

        class Word(AsyncWebsocketConsumer):
            restart = "transient"  # type: ignore[assignment]

    with pytest.raises(
        ValueError, match=r"restart_intensity must be 0 or more; it is -1, in .*Few"
    ):

        class Few(AsyncWebsocketConsumer):
            restart = Restart.TRANSIENT
            restart_intensity = -1

    with pytest.raises(ValueError, match=r"restart_period must be more than 0 seconds; it is 0"):

        class Brief(AsyncWebsocketConsumer):
            restart = Restart.TRANSIENT
            restart_period = 0


def test_a_hook_that_a_thread_cannot_call_is_refused() -> None:
    with pytest.raises(TypeError, match=r"restarted of .*Coroutine, a sync consumer, is a corout"):

        class Coroutine(WebsocketConsumer):
            restart = Restart.TRANSIENT

            async def restarted(self, cause: Crash, previous: Self) -> None:
                """Not callable in a thread."""


async def test_a_hook_of_an_async_consumer_may_be_a_plain_function() -> None:
    class Plain(Async):
        def restarted(self, cause: Crash, previous: Self) -> Any:
            self.take_over(cause, previous)

    async with served_here(Plain.as_asgi()) as address, open_websocket(address, "/") as websocket:
        assert await say(websocket, "a") == "1 a"
        await websocket.send_message("fail")
        assert await say(websocket, "b") == "2 b"


async def test_a_hook_may_await_that_of_its_base() -> None:
    class Base(AsyncWebsocketConsumer):
        restart = Restart.TRANSIENT

        async def restarted(self, cause: Crash, previous: Self) -> None:
            await super().restarted(cause, previous)
            await self.send("here again")

        async def receive(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("as told")

    async with served_here(Base.as_asgi()) as address, open_websocket(address, "/") as websocket:
        assert await say(websocket, "a") == "here again"


def test_restart_and_restarted_may_be_handlers_of_a_class_that_does_not_opt_in() -> None:
    class Game(AsyncConsumer):
        async def restart(self, message: dict[str, Any]) -> None:  # type: ignore[override]
            await self.send({"type": "again"})

        async def restarted(self, message: dict[str, Any]) -> None:  # type: ignore[override]
            raise StopConsumer

    messages = ({"type": "restart"}, {"type": "restarted"})
    assert exchange(Game.as_asgi(), {"type": "chat"}, *messages) == [{"type": "again"}]


@pytest.mark.parametrize("name", ["restart", "restarted", "restart.period"])
def test_type_cannot_reach_what_a_consumer_is_restarted_with(name: str) -> None:
    for consumer in (AsyncWebsocketConsumer, WebsocketConsumer):
        with pytest.raises(ValueError, match=f"No handler for message type {name}"):
            exchange(consumer.as_asgi(), {"type": "chat"}, {"type": name})


async def test_a_consumer_behind_the_mark_for_applications_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = restarts_in_place()(Async.as_asgi())
    Async.restart_intensity, intensity = 0, Async.restart_intensity
    try:
        async with served_here(app) as address, open_websocket(address, "/") as websocket:
            await websocket.send_message("fail")
            assert await close_code(websocket) == 1011
    finally:
        Async.restart_intensity = intensity
    (failure,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert failure.exc_info is not None
    assert "restart = Restart.TRANSIENT" in str(failure.exc_info[1])
