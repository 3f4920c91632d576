"""Tests of the HTTP consumer: body, response, and what ends it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partialmethod, wraps
from typing import Any

import pytest
import trio
from tests.bridges.channels.serving import Wire, exchange, exchange_in_trio, served

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels._intake import let_others_run
from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.runtime._connection import UNREAD_BYTES

SCOPE = {"type": "http", "method": "POST", "path": "/"}


class Answers(AsyncHttpConsumer):
    left = 0

    async def handle(self, body: bytes) -> None:
        await self.send_response(201, b"got " + body, headers={b"a": b"b"})

    async def disconnect(self) -> None:
        type(self).left += 1


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_whole_body_goes_to_handle_and_the_answer_back() -> None:
    Answers.left = 0
    assert exchange(Answers.as_asgi(), SCOPE, body(b"a", more=True), body(b"b")) == [
        {"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]},
        {"type": "http.response.body", "body": b"got ab", "more_body": False},
    ]
    assert Answers.left == 1


def test_client_that_leaves_before_its_body_is_complete_ends_the_consumer() -> None:
    Answers.left = 0
    gone = {"type": "http.disconnect"}
    assert exchange(Answers.as_asgi(), SCOPE, body(b"a", more=True), gone) == []
    assert Answers.left == 1


def test_failing_handle_disconnects_once_and_raises() -> None:
    class Fails(Answers):
        async def handle(self, body: bytes) -> None:
            raise OSError("no disk")

    Fails.left = 0
    with pytest.raises(OSError, match="no disk"):
        exchange(Fails.as_asgi(), SCOPE, body(b""))
    assert Fails.left == 1


def test_handle_has_to_be_written_and_a_body_is_bytes() -> None:
    with pytest.raises(NotImplementedError, match="must provide a handle"):
        exchange(AsyncHttpConsumer.as_asgi(), SCOPE, body(b""))

    class Text(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_body("text")  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="Body is not bytes"):
        exchange(Text.as_asgi(), SCOPE, body(b""))


GONE = {"type": "http.disconnect"}
FLAVOURS = pytest.mark.parametrize("flavour", ["asyncio", "trio"])


class Lives(AsyncHttpConsumer):
    """Writes down in `events` what happens to it; `happens` makes the client's next message."""

    events: list[Any]
    happens: Callable[[], object]

    async def handle(self, body: bytes) -> None:
        self.events.append("handle")
        try:
            await self.answer()
        except BaseException as error:
            self.events.append(type(error).__name__)
            raise
        finally:
            self.events.append("finally")

    async def answer(self) -> None:
        await self.send_response(200, b"done")

    async def wait(self) -> None:
        if self.greenroom_flavour == "trio":
            await trio.sleep_forever()
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        self.events.append("disconnect")


def a_class(base: type[Lives], **attributes: Any) -> Any:
    return type("Ours", (base,), {"events": [], **attributes})


async def request(consumer: Any, *later: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a request whose client says `later` when the consumer has called `happens`."""
    happened = trio.Event()
    consumer.happens = staticmethod(happened.set)
    inbox = [body(b"")]
    rest = list(later)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop()
        await happened.wait()
        if rest:
            return rest.pop(0)
        return await trio.sleep_forever()

    async def send(message: dict[str, Any]) -> None:
        if not isinstance(message.get("body", b""), bytes):
            raise ValueError("a body has to be bytes")  # noqa: TRY004 -- as a server's words
        sent.append(message)

    with trio.fail_after(10):
        async with open_hosted_loop():
            await consumer.as_asgi()(SCOPE, receive, send)
    return sent


@FLAVOURS
async def test_client_that_leaves_cancels_handle_and_then_disconnects(flavour: str) -> None:
    class Streams(Lives):
        async def answer(self) -> None:
            await self.send_headers()
            await self.send_body(b"first", more_body=True)
            self.happens()
            await self.wait()

    consumer = a_class(Streams, greenroom_flavour=flavour)
    start, part = await request(consumer, GONE)
    assert (start["type"], part["body"]) == ("http.response.start", b"first")
    cancelled = {"asyncio": "CancelledError", "trio": "Cancelled"}[flavour]
    assert consumer.events == ["handle", cancelled, "finally", "disconnect"]


@FLAVOURS
async def test_handle_that_will_not_be_cancelled_is_heard_to_its_end(flavour: str) -> None:
    class Stubborn(Lives):
        async def answer(self) -> None:
            self.happens()
            with (
                trio.CancelScope(shield=True)
                if flavour == "trio"
                else suppress(asyncio.CancelledError)
            ):
                for _ in range(20):
                    await let_others_run()
            self.events.append("stubborn")

    consumer = a_class(Stubborn, greenroom_flavour=flavour)
    await request(consumer, GONE)
    assert consumer.events == ["handle", "stubborn", "finally", "disconnect"]


@FLAVOURS
async def test_client_that_has_its_answer_may_leave_while_handle_goes_on(flavour: str) -> None:
    class GoesOn(Lives):
        async def answer(self) -> None:
            await super().answer()
            self.happens()
            for _ in range(20):
                await let_others_run()

    consumer = a_class(GoesOn, greenroom_flavour=flavour)
    await request(consumer, GONE)
    assert consumer.events == ["handle", "finally", "disconnect"]


def test_client_that_has_left_before_gets_an_answer_that_needs_no_waiting() -> None:
    consumer = a_class(Lives)
    assert len(exchange(consumer.as_asgi(), SCOPE, body(b""), GONE)) == 2
    assert consumer.events == ["handle", "finally", "disconnect"]


async def test_failure_in_cleaning_up_after_the_client_is_raised() -> None:
    class Fails(Lives):
        async def answer(self) -> None:
            self.happens()
            try:
                await self.wait()
            finally:
                raise LookupError("what was borrowed is lost")

    consumer = a_class(Fails)
    with pytest.raises(LookupError, match="what was borrowed is lost"):
        await request(consumer, GONE)
    assert consumer.events == ["handle", "LookupError", "finally", "disconnect"]


def test_timeout_of_handle_itself_is_its_own() -> None:
    class Hurries(Lives):
        async def answer(self) -> None:
            try:
                async with asyncio.timeout(0):
                    await self.wait()
            except TimeoutError:
                await super().answer()

    consumer = a_class(Hurries)
    assert len(exchange(consumer.as_asgi(), SCOPE, body(b""))) == 2
    assert consumer.events == ["handle", "finally", "disconnect"]


@FLAVOURS
async def test_server_that_cancels_a_request_lets_it_disconnect(flavour: str) -> None:
    class Waits(Lives):
        async def answer(self) -> None:
            scope.cancel()
            await self.wait()

    consumer = a_class(Waits, greenroom_flavour=flavour)
    with trio.CancelScope() as scope:
        await exchange_in_trio(consumer.as_asgi(), SCOPE, body(b""))
    assert scope.cancelled_caught
    cancelled = {"asyncio": "CancelledError", "trio": "Cancelled"}[flavour]
    assert consumer.events == ["handle", cancelled, "finally", "disconnect"]


def test_handle_may_stop_the_consumer_and_disconnects() -> None:
    class Stops(Lives):
        async def answer(self) -> None:
            raise StopConsumer

    consumer = a_class(Stops)
    assert exchange(consumer.as_asgi(), SCOPE, body(b"")) == []
    assert consumer.events == ["handle", "StopConsumer", "finally", "disconnect"]


SERVED = {**SCOPE, "asgi": {"version": "3.0"}, "client": ["127.0.0.1", 5000]}


class Forgets(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None: ...


class ForgetsToJoin(Forgets):
    async def chat_message(self, event: dict[str, Any]) -> None: ...


class HasNoLayer(ForgetsToJoin):
    channel_layer_alias = "none"

    async def handle(self, body: bytes) -> None:
        assert not hasattr(self, "channel_name")
        with pytest.raises(AttributeError, match="'HasNoLayer' object has no attribute 'channel_n"):
            self.channel_name  # noqa: B018


@pytest.mark.parametrize(
    ("consumer", "why"),
    [
        (Forgets, "there is no handler for messages of the channel layer by which it could come"),
        (
            ForgetsToJoin,
            "no message of the channel layer can reach it, since nobody was told its channel_name, "
            "and it has joined no group",
        ),
        (HasNoLayer, "there is no channel layer by which it could come later"),
    ],
)
def test_request_that_nobody_could_answer_any_more_ends_with_handle_and_a_line_tells_why(
    consumer: type[AsyncHttpConsumer], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    start, part = exchange(consumer.as_asgi(), SERVED, body(b""))
    assert (start["status"], part["body"]) == (500, b"Internal Server Error")
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "greenroom.channels")
    assert record.message == (
        f"{consumer.__name__}.handle returned without an answer, and {why} "
        "(http POST / of 127.0.0.1:5000)"
    )


def test_communicator_sees_that_a_consumer_has_sent_nothing() -> None:
    for consumer in (Forgets, ForgetsToJoin, HasNoLayer):
        assert exchange(consumer.as_asgi(), SCOPE, body(b"")) == []


def test_name_that_was_told_for_one_request_is_not_told_for_the_next() -> None:
    class JoinsOnce(ForgetsToJoin):
        async def handle(self, body: bytes) -> None:
            if body == b"join":
                await self.channel_layer.group_add("polls", self.channel_name)

    app = JoinsOnce()  # an instance that is the application
    assert exchange(app, SCOPE, body(b"join"), GONE) == []
    assert exchange(app, SERVED, body(b"do not"))[0]["status"] == 500


def passed_on(fn: Any) -> Any:
    @wraps(fn)
    def wrapper(self: Any, *args: Any) -> Any:
        return fn(self, *args)

    return wrapper


async def takes_a_message(self: Any, event: dict[str, Any]) -> None: ...
async def takes_it_and_may_take_more(self: Any, event: Any, more: int = 0) -> None: ...
async def takes_nothing(self: Any) -> None: ...
async def takes_two(self: Any, one: int, two: int) -> None: ...
async def takes_a_name(self: Any, *, name: str) -> None: ...
def is_no_coroutine_function(self: Any, event: dict[str, Any]) -> None: ...
async def is_static(event: dict[str, Any]) -> None: ...


HANDLERS: dict[str, Any] = {
    "plain": {"chat": takes_a_message},
    "with a default": {"chat": takes_it_and_may_take_more},
    "in a thread": {"chat": database_sync_to_async(is_no_coroutine_function)},
    "decorated": {"chat": passed_on(takes_a_message)},
    "static": {"chat": staticmethod(is_static)},
    "of the class": {"chat": classmethod(takes_a_message)},
    "partial": {"chat": partialmethod(takes_two, 1)},
    "made when it is asked for": {"__getattr__": lambda self, name: None},
}
NO_HANDLERS: dict[str, Any] = {
    "takes nothing": {"chat": takes_nothing},
    "takes two": {"chat": takes_two},
    "takes a name": {"chat": takes_a_name},
    "no coroutine function": {"chat": is_no_coroutine_function},
    "private": {"_chat": takes_a_message},
    "a name of the base class": {"send_body": takes_a_message},
    "a class": {"chat": Forgets},
    "a property": {"chat": property(lambda self: pytest.fail("it was looked at"))},
    "no function": {"chat": 7},
    "a number where the base has one": {"chat": 7, "__bases__": takes_a_message},
}


def joining(attributes: dict[str, Any]) -> Any:
    async def handle(self: Any, body: bytes) -> None:
        await self.channel_layer.group_add("polls", self.channel_name)

    base = type("Base", (AsyncHttpConsumer,), {"chat": attributes.pop("__bases__", None)})
    return type("Joins", (base,), {"handle": handle, **attributes})


@pytest.mark.parametrize("kind", HANDLERS)
def test_consumer_with_a_handler_whose_name_was_told_waits_for_a_message(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        wire = Wire(body(b""))
        app = joining(dict(HANDLERS[kind])).as_asgi()
        running = asyncio.create_task(app(SERVED, wire.receive, wire.send))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()
        wire.inbox.put_nowait(GONE)
        await asyncio.wait_for(running, 10)
        assert wire.sent == []

    asyncio.run(main())
    assert caplog.records == []


@pytest.mark.parametrize("kind", NO_HANDLERS)
def test_method_that_no_message_could_call_is_not_waited_for(kind: str) -> None:
    app = joining(dict(NO_HANDLERS[kind])).as_asgi()
    assert exchange(app, SERVED, body(b""))[0]["status"] == 500


def test_client_that_leaves_ends_the_wait_whatever_is_done_about_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = []

    async def http_disconnect(self: Any, message: dict[str, Any]) -> None: ...

    async def disconnect(self: Any) -> None:
        left.append("disconnect")

    parts = {"chat": takes_a_message, "http_disconnect": http_disconnect, "disconnect": disconnect}
    assert exchange(joining(parts).as_asgi(), SERVED, body(b""), GONE) == []
    assert left == ["disconnect"]
    assert caplog.records == []


async def test_client_that_leaves_is_not_told_what_was_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Waits(Lives):
        channel_layer_alias = "none"

        async def answer(self) -> None:
            self.happens()
            await self.wait()

    consumer = a_class(Waits)
    assert await request(consumer, GONE) == []
    assert consumer.events == ["handle", "CancelledError", "finally", "disconnect"]
    assert caplog.records == []


async def test_client_is_not_left_waiting_for_the_rest_of_a_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = []

    class Forgets(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            if self.scope["path"] == "/part":
                await self.send_body(b"part", more_body=True)

        async def disconnect(self) -> None:
            left.append(self.scope["path"])

    answers = []
    async with served(Forgets.as_asgi()) as address:
        for path in ("/none", "/part"):
            port = int(address.partition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                head = f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
                await client.send_all(head.encode())
                with trio.fail_after(10):
                    answers.append(b"".join([part async for part in client]))
    assert answers[0].startswith(b"HTTP/1.1 500")
    assert answers[1].endswith(b"\r\n\r\n4\r\npart\r\n")  # without the chunk that would end it
    assert left == ["/none", "/part"]
    lines = iter(caplog.messages)
    for path, said, cut in zip(left, lines, lines, strict=True):
        assert said.startswith("Forgets.handle returned without the end of its response, and there")
        assert path in said
        assert cut.endswith(
            f"{path} of 127.0.0.1:{said[:-1].rpartition(':')[2]} without a complete response"
        )


def test_instance_that_is_the_application_begins_anew_with_each_request() -> None:
    consumer = a_class(Lives)
    app = consumer()
    for _ in range(2):
        assert len(exchange(app, SCOPE, body(b"a", more=True), body(b"b"))) == 2
    assert consumer.events == ["handle", "finally", "disconnect"] * 2


def test_request_may_be_handled_by_hand() -> None:
    class Hears(AsyncHttpConsumer):
        heard = b""

        async def handle(self, body: bytes) -> None:
            self.heard = body

    consumer = Hears()
    asyncio.run(consumer.http_request(body(b"a", more=True)))
    asyncio.run(consumer.http_request(body(b"b")))
    assert consumer.heard == b"ab"


class Polls(Lives):
    """Answers when the layer says so."""

    async def answer(self) -> None:
        await self.channel_layer.group_add("polls", self.channel_name)
        await self.channel_layer.group_send("polls", {"type": "chat.message", "text": "early"})
        await asyncio.sleep(0)
        self.events.append("still in handle")

    async def chat_message(self, event: dict[str, Any]) -> None:
        self.events.append(event["text"])
        if event["text"] == "at last":
            await self.send_response(200, event["text"].encode())
            await self.channel_layer.send(self.channel_name, {"type": "chat.message", "text": "no"})


def poll(consumer: Any, *messages: Any) -> list[dict[str, Any]]:
    """Serve `consumer` while these messages come: those of a client, or texts of the layer."""

    async def main() -> list[dict[str, Any]]:
        wire = Wire(body(b""))
        running = asyncio.create_task(consumer.as_asgi()(SCOPE, wire.receive, wire.send))
        while len(consumer.events) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for message in messages:
            if isinstance(message, str):
                event = {"type": "chat.message", "text": message}
                await consumer.layer.group_send("polls", event)
            else:
                wire.inbox.put_nowait(message)
        await asyncio.wait_for(running, 10)
        return wire.sent

    return asyncio.run(main())


POLLING = ["handle", "still in handle", "finally", "early"]


def test_handler_of_the_layer_answers_once_handle_has_returned(
    layer: InMemoryChannelLayer,
) -> None:
    consumer = a_class(Polls, layer=layer)
    start, part = poll(consumer, "not yet", "at last")
    assert (start["status"], part["body"]) == (200, b"at last")
    assert consumer.events == [*POLLING, "not yet", "at last", "disconnect"]


def test_client_that_leaves_ends_the_wait_for_an_answer(layer: InMemoryChannelLayer) -> None:
    consumer = a_class(Polls, layer=layer)
    assert poll(consumer, GONE) == []
    assert consumer.events == [*POLLING, "disconnect"]
    assert layer.groups == {}


def test_request_has_one_body(layer: InMemoryChannelLayer) -> None:
    consumer = a_class(Polls, layer=layer)
    poll(consumer, body(b"again"), GONE)
    assert consumer.events == [*POLLING, "disconnect"]


def test_failure_of_a_handler_of_the_layer_disconnects_once(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def chat_message(self: Any, event: dict[str, Any]) -> None:
        if event["text"] != "early":
            raise LookupError("no answer")
        self.events.append("early")

    consumer = a_class(Polls, layer=layer, chat_message=chat_message)
    with pytest.raises(LookupError):
        poll(consumer, "fail")
    assert consumer.events == [*POLLING, "disconnect"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_response_that_could_not_be_sent_is_not_over() -> None:
    class Retries(Lives):
        async def answer(self) -> None:
            await self.send_headers()
            with pytest.raises(ValueError, match="bytes"):
                await self.base_send({"type": "http.response.body", "body": "wrong"})
            self.happens()
            await self.wait()

    consumer = a_class(Retries)
    await request(consumer, GONE)
    assert consumer.events == ["handle", "CancelledError", "finally", "disconnect"]


@FLAVOURS
@pytest.mark.parametrize("alias", ["default", "none"])
async def test_crash_of_a_task_cancels_handle(flavour: str, alias: str) -> None:
    class Streams(Lives):
        channel_layer_alias = alias

        async def answer(self) -> None:
            self.start_soon(self.fail)
            await self.wait()

        async def fail(self) -> None:
            raise LookupError("no more to stream")

    consumer = a_class(Streams, greenroom_flavour=flavour)
    with pytest.raises(LookupError, match="no more to stream"):
        await request(consumer)
    cancelled = {"asyncio": "CancelledError", "trio": "Cancelled"}[flavour]
    assert consumer.events == ["handle", cancelled, "finally", "disconnect"]


def test_request_whose_client_leaves_while_its_server_cancels_it_is_cancelled() -> None:
    class Waits(Lives):
        async def answer(self) -> None:
            waiting.set()
            await self.wait()

    waiting = asyncio.Event()
    consumer = a_class(Waits)

    async def main() -> None:
        inbox = [body(b"")]

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop()
            await waiting.wait()
            # Before the task has got to know of the one cancellation there is the other.
            asyncio.get_running_loop().call_soon(running.cancel)
            return GONE

        async def send(message: dict[str, Any]) -> None: ...

        running = asyncio.create_task(consumer.as_asgi()(SCOPE, receive, send))
        await asyncio.wait([running])
        assert running.cancelled()

    asyncio.run(main())
    assert consumer.events == ["handle", "CancelledError", "finally", "disconnect"]


async def test_client_that_leaves_after_a_large_body_is_noticed() -> None:
    class Uploads(Lives):
        async def http_request(self, message: dict[str, Any]) -> None:
            # So much waits by then that the socket is not read any more.
            while not sent.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(200):
                await asyncio.sleep(0)
            await super().http_request(message)

        async def answer(self) -> None:
            began.set()
            await self.wait()

        async def disconnect(self) -> None:
            await super().disconnect()
            ended.set()

    sent, began, ended = trio.Event(), trio.Event(), trio.Event()
    consumer = a_class(Uploads)
    size = UNREAD_BYTES + 1
    async with served(consumer.as_asgi()) as address:
        client = await trio.open_tcp_stream("127.0.0.1", int(address.partition(":")[2]))
        head = f"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
        await client.send_all(head.encode() + b"x" * size)
        sent.set()
        with trio.fail_after(10):
            await began.wait()
            await client.aclose()
            await ended.wait()
    assert consumer.events == ["handle", "CancelledError", "finally", "disconnect"]


def test_unfinished_response_is_finished_by_a_message_of_the_layer(
    layer: InMemoryChannelLayer,
) -> None:
    class LongPoll(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.channel_layer.group_add("polls", self.channel_name)
            await self.send_headers(headers=[(b"content-type", b"text/plain")])
            await self.send_body(b"", more_body=True)

        async def chat_message(self, event: dict[str, Any]) -> None:
            await self.send_body(event["text"].encode())

    async def main() -> list[dict[str, Any]]:
        wire = Wire(body(b""))
        running = asyncio.create_task(LongPoll.as_asgi()(SCOPE, wire.receive, wire.send))
        await wire.answered.wait()
        await layer.group_send("polls", {"type": "chat.message", "text": "at last"})
        await asyncio.wait_for(running, 10)
        return wire.sent

    assert [message.get("body") for message in asyncio.run(main())] == [None, b"", b"at last"]
