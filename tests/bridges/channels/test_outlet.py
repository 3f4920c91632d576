"""Tests of how a sync consumer sends, from its handlers and from threads of all kinds."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from asgiref.sync import async_to_sync, sync_to_async
from tests.bridges.channels.serving import (
    middleware,
    open_websocket,
    say,
    served,
    served_on_asyncio,
)

from greenroom.actors import ExitReason
from greenroom.bridges.channels._outlet import DirectOutlet
from greenroom.bridges.channels._unheard import Unheard
from greenroom.bridges.channels.generic.websocket import WebsocketConsumer
from greenroom.bridges.threads import call_home, run_sync
from greenroom.runtime import ClientDisconnected, LocalProtocolError, ScopeActor


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


class Sink(ScopeActor):
    """A client that reads when the test says so."""

    def __init__(self) -> None:
        super().__init__(nothing, {"type": "test"})
        self.sent: list[str] = []
        self.full = False
        self.wake: Callable[[], object] | None = None
        self.waited_for = trio.Event()

    @property
    def congested(self) -> bool:
        return self.full

    def send_nowait(self, message: dict[str, Any]) -> bool:
        if message["type"] == "wrong":
            raise LocalProtocolError("no such message")
        self.sent.append(message["type"])
        return not self.full

    def wake_writer_with(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.waited_for.set()

    def ended(self, reason: ExitReason) -> None: ...


async def test_messages_are_written_in_order_before_the_handlers_end() -> None:
    sink = Sink()
    outlet = DirectOutlet(sink, Unheard(asgi=True))

    def handler() -> None:
        for name in "abc":
            outlet({"type": name})

    await run_sync(handler)
    assert sink.sent == ["a", "b", "c"]


async def test_thread_waits_for_a_client_that_does_not_read() -> None:
    sink = Sink()
    outlet = DirectOutlet(sink, Unheard(asgi=True))
    sink.full = True

    def handler() -> None:
        outlet({"type": "a"})
        call_home(lambda: None)  # what was handed over is written now
        outlet({"type": "b"})
        outlet({"type": "c"})

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_sync, handler)
            await sink.waited_for.wait()
            assert sink.sent == ["a"]
            sink.full = False
            assert sink.wake is not None
            sink.wake()
    assert sink.sent == ["a", "b", "c"]


async def test_what_is_wrong_with_a_message_is_raised_by_the_handler() -> None:
    sink = Sink()
    outlet = DirectOutlet(sink, Unheard(asgi=True))

    def handler() -> None:
        outlet({"type": "wrong"})

    with pytest.raises(LocalProtocolError, match="no such message"):
        await run_sync(handler)


Serve = Callable[[Any], AbstractAsyncContextManager[str]]
SERVERS = pytest.mark.parametrize("serve", [served, served_on_asyncio])


class Reachable(WebsocketConsumer):
    """Answers in many ways, each named by the client's message."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        getattr(self, f"by_{text_data}")()

    def by_thread(self) -> None:
        thread = threading.Thread(target=self.send, args=("thread",))
        thread.start()
        thread.join()  # the handler waits for it, and so does home for the handler

    def by_timer(self) -> None:
        threading.Timer(0, self.send, ("timer",)).start()

    def by_executor(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(self.send, "executor").result()

    def by_sync_to_async(self) -> None:
        async_to_sync(sync_to_async(self.send))("sync_to_async")

    def by_sync_to_async_in_any_thread(self) -> None:
        send = sync_to_async(self.send, thread_sensitive=False)
        async_to_sync(send)("sync_to_async_in_any_thread")

    def by_loop(self) -> None:
        async def send() -> None:
            with pytest.raises(RuntimeError, match="awaiting sync_to_async"):
                self.send("never")

        async_to_sync(send)()
        self.send("loop")

    def by_mistake(self) -> None:
        def send() -> None:
            with pytest.raises(ValueError, match="bytes_data or text_data"):
                self.send()
            self.send("mistake")

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()


@SERVERS
@pytest.mark.parametrize("wrap", [None, middleware])
async def test_send_works_in_every_thread_but_the_loops_own(serve: Serve, wrap: Any) -> None:
    app = Reachable.as_asgi()
    async with (
        serve(app if wrap is None else wrap(app)) as address,
        open_websocket(address, "/") as websocket,
    ):
        for name in dir(Reachable):
            if name.startswith("by_"):
                assert await say(websocket, name[3:]) == name[3:]


@pytest.mark.parametrize("wrap", [None, middleware])
async def test_handler_of_one_consumer_may_send_to_the_client_of_another(wrap: Any) -> None:
    members: list[WebsocketConsumer] = []

    class Room(WebsocketConsumer):
        def connect(self) -> None:
            members.append(self)  # before the client, let in, may say something
            self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            for member in members:
                member.send(text_data)

    app = Room.as_asgi()
    async with (
        served(app if wrap is None else wrap(app)) as address,
        open_websocket(address, "/") as first,
        open_websocket(address, "/") as second,
    ):
        for text in "abc":
            assert await say(first, text) == text
            assert await second.get_message() == text
        await first.aclose()
        assert await say(second, "alone") == "alone"
    assert len(members) == 2


@pytest.mark.parametrize("wrap", [None, middleware])
async def test_thread_waits_for_a_client_that_reads_slowly(wrap: Any) -> None:
    started = threading.Event()

    class Talkative(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            threading.Thread(target=self.talk).start()

        def talk(self) -> None:
            started.set()
            for number in range(100):
                self.send(text_data=f"{number:03}" + "x" * 100_000)

    app = Talkative.as_asgi()
    async with (
        served(app if wrap is None else wrap(app)) as address,
        open_websocket(address, "/") as websocket,
    ):
        await websocket.send_message("talk")
        await trio.to_thread.run_sync(started.wait, 10)
        got = [(await websocket.get_message())[:3] for _ in range(100)]
    assert got == [f"{number:03}" for number in range(100)]


@SERVERS
@pytest.mark.parametrize("wrap", [None, middleware])
async def test_send_after_the_consumers_end_is_ignored_a_hundred_times(
    serve: Serve, wrap: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []
    done = threading.Event()

    class Outlived(WebsocketConsumer):
        def connect(self) -> None:
            self.accept()
            self.thread = threading.Thread(target=self.tick)
            self.thread.start()

        def tick(self) -> None:
            try:
                while True:
                    self.send("tick")
                    sent.append(1)
            except ClientDisconnected:
                done.set()

    app = Outlived.as_asgi()
    async with serve(app if wrap is None else wrap(app)) as address:
        async with open_websocket(address, "/") as websocket:
            assert await websocket.get_message() == "tick"
        assert await trio.to_thread.run_sync(done.wait, 10)
    assert len(sent) >= 100
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_thread_that_waits_for_a_client_is_let_go_when_the_consumer_ends() -> None:
    sink = Sink()
    sink.full = True
    outlet = DirectOutlet(sink, Unheard(asgi=True))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await trio.to_thread.run_sync(outlet, {"type": "a"})
            nursery.start_soon(trio.to_thread.run_sync, outlet, {"type": "b"})
            await sink.waited_for.wait()
            outlet.close()
        await trio.to_thread.run_sync(outlet, {"type": "c"})
        assert sink.wake is not None
        sink.wake()  # as a connection does at its end
    assert sink.sent == ["a"]


async def test_what_is_wrong_with_a_message_is_raised_in_the_thread_that_sent_it() -> None:
    outlet = DirectOutlet(Sink(), Unheard(asgi=True))
    with pytest.raises(LocalProtocolError, match="no such message"):
        await trio.to_thread.run_sync(outlet, {"type": "wrong"})
