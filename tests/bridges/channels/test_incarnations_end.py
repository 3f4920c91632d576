"""Tests of crashes that end a consumer, although it may be restarted in place."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from tests.bridges.channels.resilient import (
    CONNECT,
    FAIL,
    FLAVOURS,
    NUMBERS,
    PLACES,
    WEBSOCKET,
    Adds,
    Async,
    Sync,
    SyncAdds,
    a_subclass_of,
    checkpoint,
    never,
    served_here,
    wait,
    warnings_in,
    wrapping,
)
from tests.bridges.channels.serving import (
    exchange,
    open_websocket,
    refusal,
    say,
)
from tests.commands import get_tcp
from tests.runtime.serving import close_code

from greenroom.actors import Restart
from greenroom.bridges.asyncio import hosted, open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.runtime import open_scopes

Serve = Callable[[Any], AbstractAsyncContextManager[str]]


@PLACES
async def test_one_crash_too_many_disconnects_the_last_instance_and_closes_with_1011(
    base: type, serve: Serve, wrap: Any, layer: InMemoryChannelLayer
) -> None:
    consumer = a_subclass_of(base)
    consumer.restart_intensity = 1
    app = consumer.as_asgi()
    async with serve(app if wrap is None else wrap(app)) as address:
        async with open_websocket(address, "/") as websocket:
            for text in ("fail", "fail", "never handled"):
                await websocket.send_message(text)
            assert await close_code(websocket) == 1011
        await wait(consumer.ended)
    _, last = consumer.made
    assert consumer.left == [(last, 1011)]
    assert layer.groups == {}


@FLAVOURS
async def test_what_keeps_it_from_one_restart_more_is_noted_on_the_last_crash(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = a_subclass_of(base)
    consumer.restart_intensity = 0
    async with served_here(consumer.as_asgi()) as address, open_websocket(address, "/") as client:
        await client.send_message("fail")
        assert await close_code(client) == 1011
    (failure,) = [record for record in caplog.records if record.exc_info]
    assert failure.levelno == logging.ERROR
    assert failure.exc_info is not None
    assert failure.exc_info[1] is not None
    where, note = failure.exc_info[1].__notes__
    assert where.endswith("handling websocket.receive")
    assert "more than 0 restarts within 5 seconds" in note


@FLAVOURS
async def test_a_consumer_that_does_not_opt_in_ends_with_its_first_crash(base: type) -> None:
    class Ends(base):  # type: ignore[misc]
        restart = Restart.TEMPORARY

    async with served_here(Ends.as_asgi()) as address, open_websocket(address, "/") as client:
        await client.send_message("fail")
        assert await close_code(client) == 1011
    assert Ends.left == [(Ends.made[0], 1011)]
    assert len(Ends.made) == 1


@FLAVOURS
@pytest.mark.parametrize("wrap", [None, wrapping])
async def test_a_crash_before_the_client_was_accepted_ends_the_consumer(
    base: type, wrap: Any
) -> None:
    class Early(base):  # type: ignore[misc]
        def accept(self) -> Any:
            raise ValueError("not yet")

    app = Early.as_asgi()
    async with served_here(app if wrap is None else wrap(app)) as address:
        assert (await refusal(address, "/"))[0] == 500
    assert len(Early.made) == 1


@FLAVOURS
async def test_a_crash_in_disconnect_ends_the_consumer(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy(base):  # type: ignore[misc]
        def leave(self, code: int) -> None:
            super().leave(code)
            raise ValueError("clumsy")

    async with served_here(Clumsy.as_asgi()) as address:
        async with open_websocket(address, "/"):
            pass
        await wait(Clumsy.ended)
    assert len(Clumsy.made) == len(Clumsy.left) == 1
    assert warnings_in(caplog) == []


@FLAVOURS
async def test_a_crash_after_the_client_has_left_is_the_end(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    left = threading.Event()

    class Slow(base):  # type: ignore[misc]
        async def websocket_receive(self, message: dict[str, Any]) -> None:
            while not left.is_set():
                await checkpoint()
            raise ValueError("too late to matter")

    class SyncSlow(base):  # type: ignore[misc]
        def websocket_receive(self, message: dict[str, Any]) -> None:
            left.wait(10)
            raise ValueError("too late to matter")

    consumer = SyncSlow if base is Sync else Slow
    async with served_here(consumer.as_asgi()) as address:
        async with open_websocket(address, "/") as websocket:
            await websocket.send_message("a")
            await websocket.aclose(4002)
        left.set()
        await wait(consumer.ended)
    assert [code for _, code in consumer.left] == [4002]
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("base", [Async, Sync])
def test_a_crash_after_the_client_has_left_is_the_end_on_another_server(base: type) -> None:
    consumer = a_subclass_of(base)
    gone = {"type": "websocket.disconnect", "code": 4002}
    with pytest.raises(ValueError, match="as told"):
        exchange(consumer.as_asgi(), WEBSOCKET, CONNECT, FAIL, gone)
    assert consumer.left == [(consumer.made[0], 4002)]
    assert len(consumer.made) == 1


@PLACES
async def test_a_crash_after_the_consumer_has_closed_is_the_end(
    base: type, serve: Serve, wrap: Any
) -> None:
    class Closes(base):  # type: ignore[misc]
        async def from_group(self, event: dict[str, Any]) -> None:
            await self.close(4001)
            raise ValueError("after it has closed")

    class SyncCloses(base):  # type: ignore[misc]
        def from_group(self, event: dict[str, Any]) -> None:
            self.close(4001)
            raise ValueError("after it has closed")

    consumer: Any = SyncCloses if base is Sync else Closes
    app = consumer.as_asgi()
    async with serve(app if wrap is None else wrap(app)) as address:
        async with open_websocket(address, "/") as websocket:
            assert await say(websocket, "a") == "1 a"
            consumer.made[0].channel_layer.group_send("all", {"type": "from.group"})
            assert await close_code(websocket) == 4001
        await wait(consumer.ended)
    assert len(consumer.made) == len(consumer.left) == 1


@FLAVOURS
async def test_a_crash_while_the_server_stops_is_the_end(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    entered, closed = threading.Event(), threading.Event()

    class Slow(base):  # type: ignore[misc]
        async def websocket_receive(self, message: dict[str, Any]) -> None:
            entered.set()
            while not closed.is_set():
                await checkpoint()
            raise ValueError("while it stops")

    class SyncSlow(base):  # type: ignore[misc]
        def websocket_receive(self, message: dict[str, Any]) -> None:
            entered.set()
            closed.wait(10)
            raise ValueError("while it stops")

    async def hold(address: str) -> None:
        async with open_websocket(address, "/") as websocket:
            await websocket.send_message("a")
            assert await close_code(websocket) == 1012
        closed.set()

    consumer = SyncSlow if base is Sync else Slow
    async with trio.open_nursery() as nursery, served_here(consumer.as_asgi()) as address:
        nursery.start_soon(hold, address)
        await wait(entered)
    assert consumer.left == [(consumer.made[0], 1012)]
    assert warnings_in(caplog) == []


@FLAVOURS
async def test_an_instance_that_took_over_is_told_of_the_stop(base: type) -> None:
    consumer = a_subclass_of(base)
    answered = trio.Event()

    async def hold(address: str) -> None:
        async with open_websocket(address, "/") as websocket:
            await websocket.send_message("fail")
            assert await say(websocket, "a") == "1 a"
            answered.set()
            assert await close_code(websocket) == 1012

    async with trio.open_nursery() as nursery, served_here(consumer.as_asgi()) as address:
        nursery.start_soon(hold, address)
        await answered.wait()
    assert consumer.left == [(consumer.made[1], 1012)]


async def test_a_crash_of_one_that_is_cancelled_is_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[Any] = []

    class Clumsy(AsyncConsumer):
        restart = Restart.TRANSIENT

        def __init__(self) -> None:
            made.append(self)

        async def wait(self, message: dict[str, Any]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("as it cleaned up")

    class TrioClumsy(Clumsy):
        greenroom_flavour = "trio"

        async def wait(self, message: dict[str, Any]) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("as it cleaned up")

    for consumer in (Clumsy, TrioClumsy):
        made.clear()
        async with open_hosted_loop(), open_scopes(hosted(consumer.as_asgi())) as scopes:
            conversation = scopes.open({"type": "chat"}, send=never)
            conversation.put({"type": "wait"})
            await trio.testing.wait_all_tasks_blocked()
            conversation.stop()
            await conversation.join()
        assert len(made) == 1
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("consumer", [Adds, SyncAdds])
def test_a_request_of_http_is_never_restarted(consumer: Any) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        exchange(consumer.as_asgi(), {"type": "http"}, *NUMBERS)


async def test_a_request_of_http_is_never_restarted_on_our_server_either() -> None:
    calls: list[str] = []

    class Page(AsyncConsumer):
        restart = Restart.TRANSIENT

        async def http_request(self, message: dict[str, Any]) -> None:
            calls.append("request")
            raise ValueError("no page")

    async with served_here(Page.as_asgi()) as address:
        head, _ = await get_tcp(int(address.rpartition(":")[2]))
    assert head.startswith("HTTP/1.1 500 ")
    assert calls == ["request"]


def test_the_lifespan_of_a_server_is_never_restarted() -> None:
    with pytest.raises(ValueError, match="No handler"):
        exchange(Adds.as_asgi(), {"type": "lifespan"}, {"type": "lifespan.startup"})


async def test_an_error_of_receive_is_no_crash_to_restart_from(
    caplog: pytest.LogCaptureFixture,
) -> None:
    messages = iter(NUMBERS[:2])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        raise OSError("the server is gone")

    async def send(message: dict[str, Any]) -> None: ...

    async with open_hosted_loop():
        with pytest.raises(OSError, match="the server is gone"):
            await Adds.as_asgi()({"type": "chat"}, receive, send)
    assert len(warnings_in(caplog)) == 1
