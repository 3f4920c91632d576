"""The communicators, in every world in which a test may run."""

import asyncio
import contextvars
import gc
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.urls import path

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.layers import get_channel_layer
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from greenroom.bridges.channels.security.websocket import OriginValidator
from greenroom.bridges.channels.sessions import CookieMiddleware
from greenroom.bridges.channels.testing import (
    ApplicationCommunicator,
    ApplicationStopped,
    HttpCommunicator,
    WebsocketCommunicator,
    virtual_time,
)
from greenroom.bridges.django.asgi import get_asgi_application
from greenroom.runtime.flavours import speaks

Main = Callable[[], Awaitable[Any]]
Run = Callable[[Main], Any]


def in_asyncio(main: Main) -> Any:
    return asyncio.run(main())  # type: ignore[arg-type]


def in_trio_with_a_loop(main: Main) -> Any:
    async def run() -> Any:
        async with open_hosted_loop():
            return await main()

    return trio.run(run)


def in_virtual_time(main: Main) -> Any:
    return virtual_time(main)()


def in_trio_with_a_jumping_clock(main: Main) -> Any:
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


WORLDS: dict[str, Run] = {
    "asyncio": in_asyncio,
    "trio": trio.run,
    "trio with a loop": in_trio_with_a_loop,
    "asyncio in virtual time": in_virtual_time,
    "trio in virtual time": in_trio_with_a_jumping_clock,
}


@pytest.fixture(params=WORLDS)
def run(request: pytest.FixtureRequest) -> Run:
    """Each world, one after the other."""
    return WORLDS[request.param]


@pytest.fixture(params=["asyncio in virtual time", "trio in virtual time"])
def run_virtually(request: pytest.FixtureRequest) -> Run:
    """Each world whose clock jumps."""
    return WORLDS[request.param]


class AsyncEcho(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept("echo" if "echo" in self.scope["subprotocols"] else None)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is not None:
            await asyncio.sleep(0)  # this is asyncio
        await self.send(text_data, bytes_data)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


class TrioEcho(AsyncWebsocketConsumer):
    greenroom_flavour = "trio"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()
        await self.send(text_data, bytes_data)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


class SyncEcho(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send(event["text"])


async def foreign_echo(scope: Any, receive: Any, send: Any) -> None:
    assert asyncio.current_task() is not None
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept", "headers": [(b"a", b"b")]})
        else:
            await send({**message, "type": "websocket.send"})


class OfAsgi2:
    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await foreign_echo(self.scope, receive, send)


def plain_function(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
    return foreign_echo(scope, receive, send)


ECHOES: dict[str, Any] = {
    "async": AsyncEcho.as_asgi(),
    "sync": SyncEcho.as_asgi(),
    "trio": TrioEcho.as_asgi(),
    "instance": AsyncEcho(),
    "sync instance": SyncEcho(),
    "trio instance": TrioEcho(),
    "router": ProtocolTypeRouter({"websocket": URLRouter([path("<x>", AsyncEcho.as_asgi())])}),
    "middleware": CookieMiddleware(OriginValidator(SyncEcho.as_asgi(), ["*"])),
    "foreign": foreign_echo,
    "foreign of ASGI 2": OfAsgi2,
    "plain function": plain_function,
}


@pytest.mark.parametrize("app", ECHOES.values(), ids=ECHOES.keys())
def test_any_application_talks_to_a_test_in_any_world(run: Run, app: Any) -> None:
    async def main() -> None:
        communicator = WebsocketCommunicator(app, "/x?a=b", headers=[(b"origin", b"http://a")])
        assert await communicator.connect() == (True, None)
        assert communicator.response_headers in ([], [(b"a", b"b")])
        await communicator.send_to(text_data="text")
        await communicator.send_to(bytes_data=b"\0")
        await communicator.send_to(text_data="")
        await communicator.send_json_to({"a": [1]})
        assert await communicator.receive_from() == "text"
        assert await communicator.receive_from() == b"\0"
        assert await communicator.receive_from() == ""
        assert await communicator.receive_json_from() == {"a": [1]}
        assert await communicator.receive_nothing(0.01)
        await communicator.disconnect()
        assert communicator.future.done()

    run(main)


@pytest.mark.parametrize("kind", ["async", "sync", "trio"])
def test_messages_of_the_channel_layer_reach_a_consumer_under_test(run: Run, kind: str) -> None:
    async def main() -> None:
        layer: Any = get_channel_layer()
        async with WebsocketCommunicator(ECHOES[kind], "/") as communicator:
            await communicator.connect()
            (name,) = layer.channels
            await layer.send(name, {"type": "chat.message", "text": "psst"})
            assert await communicator.receive_from() == "psst"

    run(main)


def test_an_http_request_gets_its_response(run: Run) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_headers(status=201, headers=[(b"a", b"b")])
            await self.send_body(b"got ", more_body=True)
            await asyncio.sleep(0.01)
            await self.send_body(body)

    async def main() -> None:
        communicator = HttpCommunicator(Consumer.as_asgi(), "post", "/a%20b?c=%20d", b"1 2")
        assert communicator.scope == {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/a b",
            "query_string": b"c=%20d",
            "headers": [],
        }
        assert await communicator.get_response() == {
            "status": 201,
            "headers": [(b"a", b"b")],
            "body": b"got 1 2",
        }
        await communicator.wait()

    run(main)


@pytest.mark.parametrize("url", ["/plain/", "/plain-async/"])
def test_django_answers_in_any_world(run: Run, url: str, settings_with_views: None) -> None:
    ask_django(run, get_asgi_application(), url)


@pytest.mark.parametrize("url", ["/plain/", "/plain-async/"])
def test_djangos_own_handler_answers_in_any_world(
    run: Run, url: str, settings_with_views: None
) -> None:
    ask_django(run, ASGIHandler(), url)


def ask_django(run: Run, app: Any, url: str) -> None:
    async def main() -> None:
        communicator = HttpCommunicator(app, "GET", url, headers=[(b"host", b"testserver")])
        response = await communicator.get_response(timeout=20)
        assert (response["status"], response["body"]) == (200, b"plain")
        await communicator.wait(timeout=20)

    run(main)


@pytest.fixture
def settings_with_views() -> Any:
    from django.test import override_settings

    with override_settings(ROOT_URLCONF="tests.bridges.channels.testing.views", MIDDLEWARE=[]):
        yield


def test_the_context_of_the_test_is_not_that_of_the_application(run: Run) -> None:
    colour = contextvars.ContextVar("colour", default="none")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": colour.get()})

    async def main() -> None:
        colour.set("red")
        assert await ApplicationCommunicator(app, {}).receive_output() == {"type": "none"}

    run(main)


async def fails_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("at once")


def test_what_the_application_raises_is_raised_by_the_call_that_waits_for_it(run: Run) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("mine")

    async def main() -> None:
        communicator = WebsocketCommunicator(fail, "/")
        began = time.monotonic()
        with pytest.raises(ValueError, match="mine"):
            await communicator.connect(timeout=30)
        assert time.monotonic() - began < 10
        for _ in range(2):
            with pytest.raises(ValueError, match="mine"):
                await communicator.send_to("x")
            with pytest.raises(ValueError, match="mine"):
                await communicator.receive_nothing()
            with pytest.raises(ValueError, match="mine"):
                await communicator.wait()
            with pytest.raises(ValueError, match="mine"):
                communicator.stop()
            with pytest.raises(ValueError, match="mine"):
                await communicator.future
        communicator.stop(exceptions=False)
        with pytest.raises(ValueError, match="at once"):
            await ApplicationCommunicator(fails_at_once, {}).wait()

    run(main)


def test_nobody_waits_for_an_application_that_has_ended(run: Run) -> None:
    async def end(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "last"})

    async def main() -> None:
        communicator = ApplicationCommunicator(end, {})
        began = time.monotonic()
        await communicator.wait(timeout=30)
        assert not await communicator.receive_nothing(timeout=30)
        assert await communicator.receive_output() == {"type": "last"}
        with pytest.raises(TimeoutError, match="has ended"):
            await communicator.receive_output(timeout=30)
        assert await communicator.receive_nothing(timeout=30)
        assert time.monotonic() - began < 10

    run(main)


async def ask_and_answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that is slow, until it is told to go on, or never answers."""
    while True:
        message = await receive()
        if message["type"] == "slow":
            assert await receive() == {"type": "go on"}
        await send(message) if message["type"] != "never" else None


def test_a_timeout_cancels_the_application_and_later_calls_say_so(run: Run) -> None:
    async def main() -> None:
        communicator = ApplicationCommunicator(ask_and_answer, {})
        with pytest.raises(TimeoutError, match=r"nothing within 0\.01 seconds"):
            await communicator.receive_output(timeout=0.01)
        assert communicator.future.cancelled()
        for call in (
            communicator.receive_output,
            communicator.receive_nothing,
            lambda: communicator.send_input({}),
        ):
            with pytest.raises(ApplicationStopped, match=r"0\.01 s of receive_output") as stopped:
                await call()
            assert isinstance(stopped.value, asyncio.CancelledError)
        await communicator.wait()  # as Channels, which finds nothing wrong with that

        communicator = ApplicationCommunicator(ask_and_answer, {})
        await communicator.wait(timeout=0.01)
        with pytest.raises(ApplicationStopped, match=r"0\.01 s of wait"):
            communicator.stop()

        communicator = ApplicationCommunicator(ask_and_answer, {})
        assert await communicator.receive_nothing(timeout=0.01)
        communicator.stop()
        await communicator.wait()
        with pytest.raises(ApplicationStopped, match="stop"):
            await communicator.receive_output()

    run(main)


class Patient(ApplicationCommunicator):
    destructive_timeouts = False


@pytest.mark.parametrize(
    "make", [Patient, lambda *args: ApplicationCommunicator(*args, destructive_timeouts=False)]
)
def test_without_destructive_timeouts_the_application_goes_on(
    run: Run, make: Callable[..., ApplicationCommunicator]
) -> None:
    async def main() -> None:
        communicator = make(ask_and_answer, {})
        with pytest.raises(TimeoutError, match="sent nothing"):
            await communicator.receive_output(timeout=0.01)
        with pytest.raises(TimeoutError, match="not ended"):
            await communicator.wait(timeout=0.01)
        await communicator.send_input({"type": "slow"})
        assert await communicator.receive_nothing(timeout=0.001)
        await communicator.send_input({"type": "go on"})
        assert await communicator.receive_output(timeout=10) == {"type": "slow"}
        assert not communicator.future.done()
        communicator.stop()

    run(main)


async def together(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Await all calls at once, and give what came first, second and so on."""
    came: list[Any] = []

    async def add(call: Callable[[], Awaitable[Any]]) -> None:
        came.append(await call())

    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(add, call)
    else:
        await asyncio.gather(*map(add, calls))
    return came


def test_tasks_of_a_test_that_wait_at_once_get_one_message_each(run: Run) -> None:
    async def main() -> None:
        communicator = ApplicationCommunicator(ask_and_answer, {})
        slow, fast = {"type": "slow"}, {"type": "fast"}

        async def ask() -> None:
            assert await communicator.receive_nothing(timeout=0.01)  # the others wait by now
            for message in (fast, slow, {"type": "go on"}):
                await communicator.send_input(message)

        receive = partial(communicator.receive_output, timeout=10)
        came = await together(receive, receive, ask)
        assert [message for message in came if message] == [fast, slow]

        with pytest.raises(TimeoutError, match="nothing within"):
            await communicator.receive_output(timeout=0.01)

    run(main)


def test_queues_and_future_are_there_for_code_that_reaches_into_them(run: Run) -> None:
    async def main() -> None:
        communicator = ApplicationCommunicator(ask_and_answer, {"type": "x"})
        communicator.input_queue.put_nowait({"type": "a"})
        await communicator.input_queue.put({"type": "b"})
        assert not communicator.future.done()
        assert await communicator.output_queue.get() == {"type": "a"}
        assert await communicator.receive_output() == {"type": "b"}
        assert communicator.output_queue.empty()
        assert communicator.output_queue.qsize() == 0
        assert isinstance(communicator.output_queue, asyncio.Queue)
        with pytest.raises(asyncio.QueueEmpty):
            communicator.output_queue.get_nowait()
        with pytest.raises(asyncio.InvalidStateError):
            communicator.future.exception()
        assert communicator.future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await communicator.future
        assert communicator.future.cancelled()
        with pytest.raises(ApplicationStopped):
            await communicator.receive_output()

    run(main)


def test_a_communicator_is_made_where_nothing_runs_and_started_by_its_future(run: Run) -> None:
    communicator = WebsocketCommunicator(AsyncEcho.as_asgi(), "/", subprotocols=["x", "echo"])
    communicator.stop()

    async def main() -> None:
        future = communicator.future
        assert not future.done()
        assert await communicator.connect() == (True, "echo")
        await communicator.disconnect(code=4000)
        assert future.done()
        assert future.exception() is None

    run(main)


async def answer_once(scope: Any, receive: Any, send: Any) -> None:
    await send(await receive())


def test_the_block_of_a_communicator_disconnects_and_waits(run: Run) -> None:
    codes = []

    class Consumer(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            await asyncio.sleep(0.01)
            codes.append(code)

    async def main() -> None:
        async with WebsocketCommunicator(Consumer.as_asgi(), "/") as communicator:
            await communicator.connect()
        assert codes == [1000]
        assert communicator.future.done()
        async with WebsocketCommunicator(Consumer.as_asgi(), "/") as communicator:
            await communicator.connect()
            await communicator.disconnect(4001)
        assert codes == [1000, 4001]
        async with WebsocketCommunicator(Consumer.as_asgi(), "/"):
            pass  # never started
        assert codes == [1000, 4001]
        async with HttpCommunicator(answer_once, "GET", "/") as request:
            assert await request.receive_nothing(0.001)
        assert request.output_queue.get_nowait() == {"type": "http.disconnect"}
        with pytest.raises(TimeoutError, match="not ended"):  # noqa: PT012
            async with WebsocketCommunicator(
                ask_and_answer, "/", destructive_timeouts=False
            ) as communicator:
                await communicator.send_input({"type": "never"})
                communicator.disconnect = partial(communicator.disconnect, timeout=0.01)  # type: ignore[method-assign]
        assert communicator.future.cancelled()

    run(main)


def test_the_block_of_a_communicator_tells_of_a_crash_unless_it_failed_itself(run: Run) -> None:
    async def fail_late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        raise ValueError("late")

    async def fail_when_cancelled(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise ValueError("cancelled")

    async def main() -> None:
        with pytest.raises(ValueError, match="late"):
            async with WebsocketCommunicator(fail_late, "/") as communicator:
                await communicator.send_input({"type": "websocket.connect"})
        for app in (fail_late, fail_when_cancelled):
            with pytest.raises(KeyError):  # noqa: PT012
                async with WebsocketCommunicator(app, "/") as communicator:
                    await communicator.send_input({"type": "websocket.connect"})
                    assert await communicator.receive_nothing(0.01)
                    raise KeyError
            assert communicator.future.done()

    run(main)


def test_mistakes_are_told_as_channels_tells_them(run: Run) -> None:
    with pytest.raises(TypeError, match="Expected str, got <class 'bytes'>"):
        WebsocketCommunicator(AsyncEcho.as_asgi(), b"/")  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        HttpCommunicator(AsyncEcho.as_asgi(), "GET", "/", body="x")  # type: ignore[arg-type]

    class Closer(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            if content == "bytes":
                await self.send(bytes_data=b"{}")
            elif content == "both":
                await self.base_send({"type": "websocket.send", "text": "a", "bytes": b"b"})
            else:
                await self.close(4005)

    async def main() -> None:
        async with WebsocketCommunicator(Closer.as_asgi(), "/") as communicator:
            await communicator.connect()
            for both in (("x", b"x"), (None, None), ("", b"")):
                with pytest.raises(AssertionError, match="exactly one of text_data or bytes_data"):
                    await communicator.send_to(*both)
            with pytest.raises(AssertionError, match="must be a str"):
                await communicator.send_to(b"x")  # type: ignore[arg-type]
            with pytest.raises(AssertionError, match="must be bytes"):
                await communicator.send_to(bytes_data="x")  # type: ignore[arg-type]
            await communicator.send_json_to("bytes")
            with pytest.raises(AssertionError, match="JSON data is not a text frame"):
                await communicator.receive_json_from()
            await communicator.send_json_to("both")
            with pytest.raises(AssertionError, match="exactly one of 'text' or 'bytes'"):
                await communicator.receive_from()
            await communicator.send_json_to("close")
            with pytest.raises(
                AssertionError, match=r"'websocket.send', but was 'websocket.close'"
            ):
                await communicator.receive_from()

    run(main)


def test_a_refusal_comes_with_its_code(run: Run) -> None:
    class Refuser(JsonWebsocketConsumer):
        def connect(self) -> None:
            self.close(4003) if self.scope["path"] == "/coded" else self.close()

    async def deny(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(
            {"type": "websocket.http.response.start", "status": 404, "headers": [(b"a", b"b")]}
        )

    async def main() -> None:
        for url, answer in (("/coded", (False, 4003)), ("/", (False, 1000))):
            async with WebsocketCommunicator(Refuser.as_asgi(), url) as communicator:
                assert await communicator.connect() == answer
        async with WebsocketCommunicator(deny, "/") as communicator:
            assert await communicator.connect() == (False, 404)
            assert communicator.response_headers == [(b"a", b"b")]

    run(main)


def test_waiting_for_hours_takes_no_time(run_virtually: Run) -> None:
    class Sleeper(AsyncWebsocketConsumer):
        async def receive(self, *args: Any, **kwargs: Any) -> None:
            await asyncio.sleep(3600)
            await self.send("slept")

    async def main() -> None:
        async with WebsocketCommunicator(Sleeper.as_asgi(), "/") as communicator:
            await communicator.connect()
            assert await communicator.receive_nothing(timeout=3600)
            await communicator.send_to("sleep")
            assert await communicator.receive_nothing(timeout=3599)
            assert await communicator.receive_from(timeout=2) == "slept"

    began = time.monotonic()
    run_virtually(main)
    assert time.monotonic() - began < 20


def test_a_clock_that_jumps_waits_for_threads(run_virtually: Run) -> None:
    class Worker(WebsocketConsumer):
        def receive(self, *args: Any, **kwargs: Any) -> None:
            time.sleep(0.03)  # real work, in a thread
            self.send("done")
            async_to_sync(asyncio.sleep)(3600)  # which is not

    class AsyncWorker(AsyncWebsocketConsumer):
        async def receive(self, *args: Any, **kwargs: Any) -> None:
            for _ in range(20):
                await sync_to_async(time.sleep)(0.001)
            await self.send("done")

    async def main() -> None:
        for app in (Worker, AsyncWorker):
            async with WebsocketCommunicator(app.as_asgi(), "/") as communicator:
                await communicator.connect()
                for _ in range(3):
                    await communicator.send_to("work")
                    assert await communicator.receive_from(timeout=4000) == "done"
                    assert await communicator.receive_nothing(timeout=3600)
        communicator = WebsocketCommunicator(Worker.as_asgi(), "/")
        await communicator.connect()
        await communicator.send_to("work")
        assert await communicator.receive_from(timeout=0.01) == "done"

    run_virtually(main)


def test_a_test_may_end_while_its_application_runs(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    ended = []

    class Consumer(AsyncWebsocketConsumer):
        async def receive(self, *args: Any, **kwargs: Any) -> None:
            try:
                await self.send("in it")
                await asyncio.sleep(1000)
            finally:
                ended.append("async")

    class Blocking(WebsocketConsumer):
        def receive(self, *args: Any, **kwargs: Any) -> None:
            self.send("in it")
            time.sleep(0.02)
            ended.append("sync")

    kept = []
    gc.collect()  # what other tests have left behind, and its log
    caplog.clear()

    async def main() -> None:
        for app in (Consumer, Blocking):
            communicator = WebsocketCommunicator(app.as_asgi(), "/")
            await communicator.connect()
            await communicator.send_to("x")
            assert await communicator.receive_from() == "in it"
            kept.append(communicator)

    run(main)
    assert sorted(ended) == ["async", "sync"]
    kept.clear()
    gc.collect()
    # The consumer itself tells that it was cancelled while it handled something.
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {record.name for record in said} <= {"greenroom.channels"}


@pytest.mark.parametrize("world", ["trio", "trio in virtual time"])
def test_the_loop_of_a_trio_test_outlives_its_applications(world: str) -> None:
    loops = []
    may_go_on = threading.Event()

    class Consumer(WebsocketConsumer):
        def receive(self, *args: Any, **kwargs: Any) -> None:
            loops.append(async_to_sync(running_loop)())
            self.send("in it")
            may_go_on.wait(20)
            loops.append(async_to_sync(running_loop)())

    async def running_loop() -> Any:
        return asyncio.get_running_loop()

    async def main() -> None:
        communicator = WebsocketCommunicator(Consumer.as_asgi(), "/")
        await communicator.connect()
        await communicator.send_to("x")
        assert await communicator.receive_from() == "in it"
        kept.append(communicator)
        threading.Timer(0.05, may_go_on.set).start()  # when the test is over

    kept: list[object] = []
    WORLDS[world](main)
    assert loops[0] is loops[1]


def test_a_communicator_that_is_let_go_ends_its_application(run: Run) -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "started"})
            await receive()
        finally:
            ended.append(True)

    async def main() -> None:
        communicator = ApplicationCommunicator(app, {})
        await communicator.receive_output()
        future = communicator.future
        del communicator
        with pytest.raises(asyncio.CancelledError):
            await future
        assert ended == [True]

    run(main)


def test_a_crash_that_no_line_of_a_trio_test_has_noticed_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        communicator = ApplicationCommunicator(fails_at_once, {})
        ended = trio.Event()
        communicator.future.add_done_callback(lambda _future: ended.set())
        await ended.wait()

    gc.collect()  # what other tests have left behind, and its log
    caplog.clear()
    trio.run(main)
    gc.collect()
    (record,) = caplog.records
    assert record.getMessage() == "the application failed unnoticed"
    assert isinstance(record.exc_info, tuple)
    assert str(record.exc_info[1]) == "at once"


def test_an_application_for_trio_needs_no_loop_of_asyncio() -> None:
    @speaks("trio")
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, await receive())

    async def main() -> None:
        async with ApplicationCommunicator(app, {}) as communicator:
            await communicator.send_input({"type": "x"})
            assert await communicator.receive_output() == {"type": "x"}

    trio.run(main)


def test_several_applications_of_one_test_share_one_loop(run: Run) -> None:
    loops = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        loops.add(asyncio.get_running_loop())
        await send(await receive())

    async def main() -> None:
        for _ in range(2):
            async with (
                ApplicationCommunicator(app, {}) as one,
                ApplicationCommunicator(app, {}) as two,
            ):
                await one.send_input({"type": "1"})
                await two.send_input({"type": "2"})
                assert await two.receive_output() == {"type": "2"}
                assert await one.receive_output() == {"type": "1"}

    run(main)
    assert len(loops) == 1


def test_a_consumer_without_handlers_of_a_protocol_of_its_own_is_talked_to(run: Run) -> None:
    class Bot(AsyncConsumer):
        async def telegram_message(self, message: dict[str, Any]) -> None:
            await self.send({"type": "telegram.message", "text": message["text"].upper()})

    async def main() -> None:
        communicator = ApplicationCommunicator(Bot.as_asgi(), {"type": "telegram"})
        await communicator.send_input({"type": "telegram.message", "text": "hi"})
        answer = await communicator.receive_output()
        assert answer == {"type": "telegram.message", "text": "HI"}
        await communicator.send_input({"type": "unknown"})
        with pytest.raises(ValueError, match="No handler"):
            await communicator.wait()

    run(main)


def test_a_test_in_virtual_time_gives_back_and_raises_what_its_function_does() -> None:
    @virtual_time
    async def double(number: int, *, by: int = 2) -> int:
        """Multiply."""
        if number < 0:
            raise ValueError(number)
        await asyncio.sleep(1000)
        return number * by

    assert double(2, by=3) == 6
    assert double.__doc__ == "Multiply."
    assert not asyncio.iscoroutinefunction(double)
    with pytest.raises(ValueError, match="-1"):
        double(-1)
    with pytest.raises(TypeError, match=r"virtual_time is for coroutine functions, and .*lambda"):
        virtual_time(lambda: asyncio.sleep(1))
