"""Tests of consumers: which handler gets a message, from where, and what their end does."""

import asyncio
import inspect
import threading
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from tests.bridges.channels.serving import (
    Wire,
    exchange,
    exchange_in_trio,
    open_websocket,
    query,
    refusal,
    say,
    served,
)
from tests.django_project.models import Log
from tests.runtime.serving import close_code

from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer, get_handler_name
from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.exceptions import InvalidChannelLayerError, StopConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import (
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
)

TEST = {"type": "test", "path": "/"}


class Echo(AsyncConsumer):
    async def say_it(self, message: dict[str, Any]) -> None:
        await self.send({"type": "said", "text": message["text"]})

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class SyncEcho(SyncConsumer):
    def say_it(self, message: dict[str, Any]) -> None:
        self.send({"type": "said", "text": message["text"]})

    def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


CONVERSATION = [
    {"type": "say.it", "text": "a"},
    {"type": "say.it", "text": "b"},
    {"type": "stop"},
]
SAID = [{"type": "said", "text": "a"}, {"type": "said", "text": "b"}]


@pytest.mark.parametrize("consumer", [Echo, SyncEcho])
def test_consumer_runs_natively_on_asyncio(consumer: type[AsyncConsumer]) -> None:
    assert exchange(consumer.as_asgi(), TEST, *CONVERSATION) == SAID
    assert exchange(consumer(), TEST, *CONVERSATION) == SAID


@pytest.mark.parametrize("consumer", [Echo, SyncEcho])
async def test_consumer_can_be_awaited_in_a_trio_task(consumer: type[AsyncConsumer]) -> None:
    assert await exchange_in_trio(consumer.as_asgi(), TEST, *CONVERSATION) == SAID
    assert await exchange_in_trio(consumer(), TEST, *CONVERSATION) == SAID


async def test_consumer_that_speaks_trio_is_awaited_in_trio() -> None:
    class TrioEcho(Echo):
        greenroom_flavour = "trio"

        async def say_it(self, message: dict[str, Any]) -> None:
            assert trio.lowlevel.in_trio_task()
            await trio.lowlevel.checkpoint()
            await super().say_it(message)

    assert await exchange_in_trio(TrioEcho.as_asgi(), TEST, *CONVERSATION) == SAID


def test_application_is_named_after_its_consumer_and_makes_one_for_each_scope() -> None:
    made: list[Any] = []

    class Configured(Echo):
        """Says what it was given."""

        def __init__(self, greeting: str) -> None:
            made.append((self, greeting))

    app = Configured.as_asgi(greeting="hello")
    exchange(app, TEST, {"type": "stop"})
    exchange(app, TEST, {"type": "stop"})
    assert [greeting for _, greeting in made] == ["hello", "hello"]
    assert made[0][0] is not made[1][0]
    assert app.consumer_class is Configured
    assert app.consumer_initkwargs == {"greeting": "hello"}
    assert (app.__name__, app.__doc__) == ("Configured", "Says what it was given.")
    assert inspect.iscoroutinefunction(app)
    with pytest.raises(TypeError, match="takes no arguments"):
        exchange(Echo.as_asgi(greeting="hello"), TEST, {"type": "stop"})


def test_type_names_the_handler() -> None:
    assert get_handler_name({"type": "a.b-c.d"}) == "a_b-c_d"
    with pytest.raises(ValueError, match="Incoming message has no 'type' attribute"):
        get_handler_name({})
    for private in ("_x", ".x"):
        with pytest.raises(ValueError, match="leading underscore"):
            get_handler_name({"type": private})
    with pytest.raises(AttributeError):
        get_handler_name({"type": 5})


FRAMEWORK = ["send", "dispatch", "as.asgi", "channel_name", "scope", "base.send", "missing"]


@pytest.mark.parametrize("consumer", [Echo, SyncEcho])
@pytest.mark.parametrize("name", FRAMEWORK)
def test_type_cannot_reach_what_is_no_handler(consumer: type[AsyncConsumer], name: str) -> None:
    with pytest.raises(ValueError, match=f"No handler for message type {name}"):
        exchange(consumer.as_asgi(), TEST, {"type": name})


@pytest.mark.parametrize("name", ["close", "accept", "receive", "connect", "groups"])
def test_type_cannot_reach_the_methods_of_a_websocket_consumer(name: str) -> None:
    with pytest.raises(ValueError, match=f"No handler for message type {name}"):
        exchange(AsyncWebsocketConsumer.as_asgi(), {"type": "websocket"}, {"type": name})


def test_handler_with_a_method_name_of_the_framework_is_reached_where_the_user_defines_it() -> None:
    class Closes(AsyncConsumer):
        async def close(self, message: dict[str, Any]) -> None:
            raise StopConsumer

    assert exchange(Closes.as_asgi(), TEST, {"type": "close"}) == []


def test_handler_patched_into_the_class_or_the_instance_is_called() -> None:
    async def stop_now(message: dict[str, Any]) -> None:
        raise StopConsumer

    consumer = Echo()
    consumer.done = stop_now  # type: ignore[attr-defined]
    assert exchange(consumer, TEST, {"type": "done"}) == []


def test_overridden_dispatch_is_used() -> None:
    class Counting(Echo):
        async def dispatch(self, message: dict[str, Any]) -> None:
            await self.send({"type": "counted"})
            await super().dispatch(message)

    assert exchange(Counting.as_asgi(), TEST, {"type": "stop"}) == [{"type": "counted"}]


def test_disconnect_without_a_handler_ends_the_consumer_quietly() -> None:
    gone = {"type": "websocket.disconnect", "code": 1000}
    assert exchange(Echo.as_asgi(), {"type": "websocket"}, gone) == []
    assert exchange(SyncEcho.as_asgi(), {"type": "websocket"}, gone) == []


def test_consumer_ends_after_a_disconnect_whose_handler_does_not_stop_it() -> None:
    class Forgetful(Echo):
        async def websocket_disconnect(self, message: dict[str, Any]) -> None:
            await self.send({"type": "bye"})

    gone = {"type": "websocket.disconnect", "code": 1000}
    assert exchange(Forgetful.as_asgi(), {"type": "websocket"}, gone) == [{"type": "bye"}]


def test_coroutine_function_as_a_sync_handler_is_an_error_that_says_so() -> None:
    class Mixed(SyncConsumer):
        async def test_it(self, message: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match=r"Mixed\.test_it is a coroutine function"):
        exchange(Mixed.as_asgi(), TEST, {"type": "test.it"})


def test_without_a_layer_there_is_no_channel_name() -> None:
    class NoLayer(Echo):
        channel_layer_alias = "none"

        async def look(self, message: dict[str, Any]) -> None:
            assert self.channel_layer is None
            assert not hasattr(self, "channel_name")
            raise StopConsumer

    exchange(NoLayer.as_asgi(), TEST, {"type": "look"})


class Relay(AsyncConsumer):
    """Tells its channel's name, and sends on what comes from the layer."""

    async def start(self, message: dict[str, Any]) -> None:
        await self.channel_layer.group_add("relays", self.channel_name)
        await self.send({"type": "started"})

    async def relay(self, message: dict[str, Any]) -> None:
        await self.send(message)
        if message.get("last"):
            raise StopConsumer

    async def fail(self, message: dict[str, Any]) -> None:
        raise OSError("gone")


def relay_on_asyncio(layer: Any, *to_group: dict[str, Any]) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        wire = Wire({"type": "start"})
        running = asyncio.create_task(Relay.as_asgi()({"type": "test"}, wire.receive, wire.send))
        await wire.answered.wait()
        for message in to_group:
            await layer.group_send("relays", message)
        await asyncio.wait_for(running, 10)
        return wire.sent

    return asyncio.run(main())


def test_layer_messages_reach_their_handlers_in_order(layer: InMemoryChannelLayer) -> None:
    first, last = {"type": "relay", "n": 1}, {"type": "relay", "n": 2, "last": True}
    assert relay_on_asyncio(layer, first, last) == [{"type": "started"}, first, last]
    assert layer.groups == {}
    assert layer.channels == {}


class OthersLayer:
    """A layer as somebody else writes one: coroutines for asyncio, no subscriptions."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def new_channel(self) -> str:
        await asyncio.sleep(0)
        return "others!1"

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self.queue.get()

    async def group_add(self, group: str, channel: str) -> None:
        await asyncio.sleep(0)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.queue.put_nowait(message)


def test_layer_of_somebody_else_is_read_too() -> None:
    channel_layers.set("default", OthersLayer())
    last = {"type": "relay", "last": True}
    assert relay_on_asyncio(get_channel_layer(), last) == [{"type": "started"}, last]


async def test_sync_consumer_goes_to_asyncio_for_a_layer_of_somebody_else() -> None:
    channel_layers.set("default", OthersLayer())
    assert await exchange_in_trio(SyncEcho.as_asgi(), TEST, *CONVERSATION) == SAID


def test_error_of_receive_ends_the_consumer_once_it_has_handled_what_came_before() -> None:
    handled: list[str] = []

    class Notes(AsyncConsumer):
        async def note(self, message: dict[str, Any]) -> None:
            handled.append(message["text"])

    async def main() -> None:
        messages = iter([{"type": "note", "text": "a"}, {"type": "note", "text": "b"}])

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            raise OSError("the server is gone")

        async def send(message: dict[str, Any]) -> None: ...

        await asyncio.wait_for(Notes.as_asgi()(TEST, receive, send), 10)

    with pytest.raises(OSError, match="the server is gone"):
        asyncio.run(main())
    assert handled == ["a", "b"]


def test_consumer_that_is_not_reading_holds_the_server_back() -> None:
    taken = 0

    class Slow(AsyncConsumer):
        async def note(self, message: dict[str, Any]) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        async def receive() -> dict[str, Any]:
            nonlocal taken
            taken += 1
            await asyncio.sleep(0)
            return {"type": "note"}

        async def send(message: dict[str, Any]) -> None: ...

        running = asyncio.create_task(Slow.as_asgi()(TEST, receive, send))
        for _ in range(200):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert 1 < taken < 30


class Fragile(AsyncWebsocketConsumer):
    groups = ("fragile",)
    left: ClassVar[list[int]] = []

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise RuntimeError("as it happens")

    async def disconnect(self, code: int) -> None:
        self.left.append(code)


class SyncFragile(WebsocketConsumer):
    groups = ("fragile",)
    left: ClassVar[list[int]] = []

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise RuntimeError("as it happens")

    def disconnect(self, code: int) -> None:
        self.left.append(code)


@pytest.mark.parametrize("consumer", [Fragile, SyncFragile])
def test_consumer_that_failed_still_disconnects_and_leaves_its_groups(
    consumer: Any, layer: InMemoryChannelLayer
) -> None:
    consumer.left = []
    with pytest.raises(RuntimeError, match="as it happens"):
        exchange(
            consumer.as_asgi(),
            {"type": "websocket"},
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "x"},
        )
    assert consumer.left == [1011]
    assert layer.groups == {}


@pytest.mark.parametrize("consumer", [Fragile, SyncFragile])
def test_consumer_that_failed_disconnects_with_the_code_of_a_client_that_has_left(
    consumer: Any, layer: InMemoryChannelLayer
) -> None:
    consumer.left = []
    with pytest.raises(RuntimeError, match="as it happens"):
        exchange(
            consumer.as_asgi(),
            {"type": "websocket"},
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "x"},
            {"type": "websocket.receive", "text": "never handled"},
            {"type": "websocket.disconnect", "code": 4002},
        )
    assert consumer.left == [4002]
    assert layer.groups == {}


class Stillborn(Fragile):
    async def connect(self) -> None:
        raise RuntimeError("as it happens")


class SyncStillborn(SyncFragile):
    def connect(self) -> None:
        raise RuntimeError("as it happens")


@pytest.mark.parametrize("consumer", [Stillborn, SyncStillborn])
async def test_consumer_that_failed_in_connect_leaves_its_groups_but_does_not_disconnect(
    consumer: Any, layer: InMemoryChannelLayer
) -> None:
    consumer.left = []
    discarded: list[str] = []

    class Watched(InMemoryChannelLayer):
        def group_discard(self, group: str, channel: str) -> Any:
            discarded.append(group)
            return super().group_discard(group, channel)

    watched = Watched()
    channel_layers.set("default", watched)
    async with served(consumer.as_asgi()) as address:
        assert (await refusal(address, "/"))[0] == 500
    assert consumer.left == []
    assert discarded == ["fragile"]
    assert watched.groups == {}


@pytest.mark.parametrize("consumer", [Stillborn, SyncStillborn])
def test_failure_in_connect_leaves_groups_on_asyncio_too(
    consumer: Any, layer: InMemoryChannelLayer
) -> None:
    consumer.left = []
    with pytest.raises(RuntimeError, match="as it happens"):
        exchange(consumer.as_asgi(), {"type": "websocket"}, {"type": "websocket.connect"})
    assert consumer.left == []
    assert layer.groups == {}


@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
def test_connect_that_failed_for_want_of_a_layer_has_no_groups_to_leave(
    base: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class NoLayer(base):  # type: ignore[misc]
        channel_layer_alias = "none"
        groups = ("fragile",)

    with pytest.raises(InvalidChannelLayerError):
        exchange(NoLayer.as_asgi(), {"type": "websocket"}, {"type": "websocket.connect"})
    assert caplog.records == []


def test_failure_in_disconnect_itself_is_raised_once(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    class Clumsy(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            calls.append(code)
            raise KeyError("clumsy")

    with pytest.raises(KeyError, match="clumsy"):
        exchange(
            Clumsy.as_asgi(),
            {"type": "websocket"},
            {"type": "websocket.connect"},
            {"type": "websocket.disconnect", "code": 1000},
        )
    assert calls == [1000]
    assert caplog.records == []


def test_second_failure_while_disconnecting_is_logged_and_the_first_one_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Clumsy(Fragile):
        async def disconnect(self, code: int) -> None:
            raise KeyError("clumsy")

    with pytest.raises(RuntimeError, match="as it happens"):
        exchange(
            Clumsy.as_asgi(),
            {"type": "websocket"},
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "x"},
        )
    assert caplog.messages == ["Clumsy failed again while it was disconnected"]


async def test_failing_consumer_closes_its_socket_with_1011_and_no_other(
    caplog: pytest.LogCaptureFixture, layer: InMemoryChannelLayer
) -> None:
    class Moody(AsyncWebsocketConsumer):
        groups = ("moody",)

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            if text_data == "fail":
                raise RuntimeError("as it happens")
            await self.send(text_data)

    async with (
        served(Moody.as_asgi()) as address,
        open_websocket(address, "/") as bad,
        open_websocket(address, "/") as good,
    ):
        await bad.send_message("fail")
        assert await close_code(bad) == 1011
        assert await say(good, "still here") == "still here"
        assert len(layer.groups["moody"]) == 1
    failures = [record for record in caplog.records if record.exc_info]
    assert [str(record.exc_info[1]) for record in failures if record.exc_info] == ["as it happens"]
    assert layer.groups == {}


async def test_slow_sync_handler_holds_no_other_consumer_back() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            if text_data == "wait":
                entered.set()
                go_on.wait(10)
            self.send(text_data)

    async with (
        served(Slow.as_asgi()) as address,
        open_websocket(address, "/") as slow,
        open_websocket(address, "/") as quick,
    ):
        await slow.send_message("wait")
        await trio.to_thread.run_sync(entered.wait, 10)
        assert await say(quick, "quick") == "quick"
        go_on.set()
        assert await slow.get_message() == "wait"


async def test_sync_consumer_sends_in_order_and_more_than_the_client_reads_at_once() -> None:
    class Talkative(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            for number in range(100):
                self.send(text_data=f"{number:03}" + "x" * 100_000)

    async with served(Talkative.as_asgi()) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("talk")
        got = [(await websocket.get_message())[:3] for _ in range(100)]
    assert got == [f"{number:03}" for number in range(100)]


async def test_rule_that_a_sync_consumer_breaks_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Hasty(WebsocketConsumer):
        def connect(self) -> None:
            self.send(text_data="too early")

    async with served(Hasty.as_asgi()) as address:
        assert (await refusal(address, "/"))[0] == 500
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert "websocket.send" in str(record.exc_info[1])


async def test_handlers_calls_share_a_thread_and_give_it_back(
    database: None, leases: list[str]
) -> None:
    threads: list[set[int]] = []

    class Writes(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            if text_data == "no database":
                await self.send(" ".join(leases))
                return
            used = {await database_sync_to_async(threading.get_ident)()}
            await Log.objects.acreate(type=text_data or "")
            used.add(await database_sync_to_async(threading.get_ident)())
            threads.append(used)
            await self.send(str(await Log.objects.acount()))

    async with served(Writes.as_asgi()) as address, open_websocket(address, "/") as websocket:
        assert await say(websocket, "a") == "1"
        assert await say(websocket, "b") == "2"
        four_steps = "taken given back taken given back"
        assert await say(websocket, "no database") == four_steps
        assert await say(websocket, "no database") == four_steps
    assert [len(used) for used in threads] == [1, 1]


@pytest.mark.parametrize("to_async", [sync_to_async, database_sync_to_async])
async def test_transaction_that_a_handler_left_open_is_lost_and_disturbs_no_other(
    to_async: Any, database: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Opens(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            if text_data == "write":
                await Log.objects.acreate(type="kept")
            else:
                await to_async(transaction.atomic().__enter__)()
                # Channels' own closes the connection after each call, in a transaction, too.
                if to_async is sync_to_async:
                    await Log.objects.acreate(type="lost")
                if text_data == "crash":
                    raise RuntimeError("as it happens")
            await self.send(text_data)

    async with (
        served(Opens.as_asgi()) as address,
        open_websocket(address, "/") as first,
        open_websocket(address, "/") as second,
    ):
        assert await say(first, "return") == "return"
        assert await say(second, "write") == "write"
        assert await say(first, "write") == "write"
        await first.send_message("crash")
        assert await close_code(first) == 1011
        assert await say(second, "write") == "write"
        async with open_websocket(address, "/") as third:
            assert await say(third, "write") == "write"
    texts = [text for text in caplog.messages if "was left open by Opens, websocket /" in text]
    assert len(texts) == 2
    assert all("handling 'websocket.receive': its" in text for text in texts)
    assert await query(stored_kinds) == ["kept"] * 4


def stored_kinds() -> list[str]:
    """Read the table through a connection that no handler has used."""
    try:
        return list(Log.objects.values_list("type", flat=True))
    finally:
        connections.close_all()


async def test_flooding_client_does_not_hold_back_the_layers_messages(
    layer: InMemoryChannelLayer,
) -> None:
    class Counts(AsyncWebsocketConsumer):
        groups = ("counts",)
        seen = 0

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            self.seen += 1
            if self.seen == 1:
                await self.channel_layer.group_send("counts", {"type": "from.layer"})

        async def from_layer(self, event: dict[str, Any]) -> None:
            await self.send(str(self.seen))

    async with served(Counts.as_asgi()) as address, open_websocket(address, "/") as websocket:
        for _ in range(50):
            await websocket.send_message("x")
        assert int(await websocket.get_message()) < 5
