"""Tests of the tasks that end with their consumer."""

import asyncio
import logging
import re
import sysconfig
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import sync_to_async
from tests.bridges.channels.serving import Wire, exchange, exchange_in_trio

from greenroom.actors import Restart
from greenroom.bridges.asyncio import TaskCancelled
from greenroom.bridges.channels._children import Child
from greenroom.bridges.channels._intake import let_others_run
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer
from greenroom.runtime import ApplicationExited

CONNECT = {"type": "websocket.connect"}
GONE = {"type": "websocket.disconnect", "code": 1000}
WEBSOCKET = {"type": "websocket", "path": "/", "asgi": {"version": "3.0"}}


class Ticking(AsyncWebsocketConsumer):
    """Starts a task in `connect`; `events` is what happened."""

    events: list[Any]

    async def connect(self) -> None:
        await self.accept()
        self.child = self.start_soon(self.tick, "tick")

    async def tick(self, text: str) -> None:
        try:
            await self.send(text)
            await self.sleep()
        finally:
            self.events.append("ended")

    async def sleep(self) -> None:
        if self.greenroom_flavour == "trio":
            await trio.sleep_forever()
        await asyncio.Event().wait()

    async def disconnect(self, code: int) -> None:
        self.events.append(code)


def a_class(base: type = Ticking, **attributes: Any) -> Any:
    return type("Ours", (base,), {"events": [], **attributes})


async def live_a_life(consumer: Any) -> list[dict[str, Any]]:
    """Connect, wait for the first tick, and leave."""
    wire = Wire(CONNECT)
    running = asyncio.create_task(consumer.as_asgi()(WEBSOCKET, wire.receive, wire.send))
    while len(wire.sent) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    wire.inbox.put_nowait(GONE)
    await asyncio.wait_for(running, 10)
    return wire.sent


def test_task_ends_after_disconnect() -> None:
    consumer = a_class()
    sent = asyncio.run(live_a_life(consumer))
    assert [message.get("text") for message in sent] == [None, "tick"]
    assert consumer.events == [1000, "ended"]


async def test_task_of_a_consumer_on_trio_is_a_trio_task() -> None:
    consumer = a_class(greenroom_flavour="trio")
    ticked = trio.Event()
    inbox = [CONNECT]

    async def receive() -> dict[str, Any]:
        if not inbox:
            await ticked.wait()
            return GONE
        return inbox.pop()

    async def send(message: dict[str, Any]) -> None:
        if message.get("text") == "tick":
            ticked.set()

    with trio.fail_after(10):
        await consumer.as_asgi()(WEBSOCKET, receive, send)
    assert consumer.events == [1000, "ended"]


class Failing(Ticking):
    async def sleep(self) -> None:
        raise LookupError("no tick")


@pytest.mark.parametrize("flavour", ["asyncio", "trio"])
async def test_crash_of_a_task_is_a_crash_of_its_consumer(flavour: str) -> None:
    consumer = a_class(Failing, greenroom_flavour=flavour)
    with pytest.raises(LookupError, match="no tick") as failure:
        await exchange_in_trio(consumer.as_asgi(), WEBSOCKET, CONNECT)
    assert consumer.events == ["ended", 1011]
    assert failure.value.__notes__ == ["in Ours, websocket /, in its task Ticking.tick"]


def test_task_waits_with_its_crash_for_the_handler_that_runs() -> None:
    class Busy(Failing):
        async def connect(self) -> None:
            await super().connect()
            for _ in range(5):
                await asyncio.sleep(0)
            self.events.append("connected")

    consumer = a_class(Busy)
    with pytest.raises(LookupError):
        exchange(consumer.as_asgi(), WEBSOCKET, CONNECT, {"type": "websocket.receive", "text": ""})
    assert consumer.events == ["ended", "connected", 1011]


def test_task_may_stop_its_consumer() -> None:
    class Stops(Ticking):
        async def sleep(self) -> None:
            raise StopConsumer

    consumer = a_class(Stops)
    exchange(consumer.as_asgi(), WEBSOCKET, CONNECT)
    assert consumer.events == ["ended"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (asyncio.CancelledError, TaskCancelled),
        (SystemExit, ApplicationExited),
        (GeneratorExit, RuntimeError),
    ],
)
def test_task_cannot_end_by_what_would_pass_unseen(error: Any, raised: Any) -> None:
    class Cancelled(Ticking):
        async def sleep(self) -> None:
            raise error

    consumer = a_class(Cancelled)
    with pytest.raises(raised):
        exchange(consumer.as_asgi(), WEBSOCKET, CONNECT)
    assert consumer.events == ["ended", 1011]


@pytest.mark.parametrize("flavour", ["asyncio", "trio"])
async def test_task_that_is_cancelled_by_its_consumer_is_no_crash(flavour: str) -> None:
    class Cancels(Ticking):
        sent = 0

        async def send(self, *args: Any, **kwargs: Any) -> None:
            await super().send(*args, **kwargs)
            self.sent += 1

        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            while not self.sent:
                await let_others_run()
            self.child.cancel()

    consumer = a_class(Cancels, greenroom_flavour=flavour)
    said = {"type": "websocket.receive", "text": "stop"}
    await exchange_in_trio(consumer.as_asgi(), WEBSOCKET, CONNECT, said, GONE)
    assert sorted(map(str, consumer.events)) == ["1000", "ended"]


def test_second_crash_is_logged_and_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    class Twice(Failing):
        async def connect(self) -> None:
            await super().connect()
            self.start_soon(self.tick, "tock")
            for _ in range(5):
                await asyncio.sleep(0)

    with pytest.raises(LookupError):
        exchange(a_class(Twice).as_asgi(), WEBSOCKET, CONNECT)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no tick"


def test_crash_while_the_consumer_ends_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Ticking):
        async def tick(self, text: str) -> None:
            await self.send(text)
            try:
                await asyncio.Event().wait()
            finally:
                raise LookupError("too late")

    asyncio.run(live_a_life(a_class(Late)))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "a task failed while its consumer was ending" in record.message


def test_restarted_consumer_has_tasks_of_its_own() -> None:
    class Again(AsyncConsumer):
        restart = Restart.TRANSIENT
        begun = 0

        async def go(self, message: dict[str, Any]) -> None:
            self.start_soon(self.work)

        async def work(self) -> None:
            type(self).begun += 1
            if self.begun == 1:
                raise LookupError("the first one fails")
            try:
                await self.send({"type": "working"})
                await asyncio.Event().wait()
            finally:
                await self.send({"type": "ended"})

        def restarted(self, cause: Any, previous: Any) -> Any:
            assert isinstance(cause.error, LookupError)
            self.start_soon(self.work)

        async def stop(self, message: dict[str, Any]) -> None:
            raise StopConsumer

    async def main() -> list[dict[str, Any]]:
        wire = Wire({"type": "go"})
        running = asyncio.create_task(Again.as_asgi()({"type": "chat"}, wire.receive, wire.send))
        await wire.answered.wait()
        wire.inbox.put_nowait({"type": "stop"})
        await asyncio.wait_for(running, 10)
        return wire.sent

    assert asyncio.run(main()) == [{"type": "working"}, {"type": "ended"}]


def test_task_cannot_be_started_where_nobody_serves_the_consumer() -> None:
    consumer = a_class()()
    with pytest.raises(RuntimeError, match="Ours is not being served"):
        consumer.start_soon(consumer.tick)

    class Stays(Ticking):
        async def tick(self, text: str) -> None:
            await self.send(text)
            try:
                await asyncio.Event().wait()
            finally:
                try:
                    self.start_soon(self.sleep)
                except RuntimeError as error:
                    self.events.append(str(error))

    stays = a_class(Stays)
    asyncio.run(live_a_life(stays))
    assert stays.events == [1000, "Ticking.sleep can't be started: the consumer has ended"]


def test_sync_consumer_says_that_it_has_no_such_tasks() -> None:
    class Sync(SyncConsumer):
        def go(self, message: dict[str, Any]) -> None:
            self.start_soon(asyncio.sleep, 1)

    with pytest.raises(TypeError, match="sleep can't be started: Sync is a sync consumer"):
        exchange(Sync.as_asgi(), {"type": "chat"}, {"type": "go"})


def test_plain_task_ends_with_its_consumer_on_a_loop_that_is_not_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Plain(Ticking):
        async def connect(self) -> None:
            await self.accept()
            self.task = asyncio.create_task(self.tick("tick"))

    consumer = a_class(Plain)
    asyncio.run(live_a_life(consumer))
    assert consumer.events == [1000, "ended"]
    assert "is cancelled, since the scope in whose code it was started has ended" in caplog.text


def test_plain_task_that_disconnect_has_cancelled_is_not_worth_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Tidy(Ticking):
        async def connect(self) -> None:
            await self.accept()
            self.task = asyncio.create_task(self.tick("tick"))

        async def disconnect(self, code: int) -> None:
            self.task.cancel()

    consumer = a_class(Tidy)
    asyncio.run(live_a_life(consumer))
    assert consumer.events == ["ended"]
    assert not caplog.records


LIBRARY = """
import asyncio
async def read_for_all(ended):
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("library")
"""


def test_task_that_a_library_has_started_for_itself_outlives_the_consumer() -> None:
    library: dict[str, Any] = {}
    path = f"{sysconfig.get_path('purelib')}/redis_like.py"
    exec(compile(LIBRARY, path, "exec"), library)

    class First(Ticking):
        reader: Any

        async def connect(self) -> None:
            await self.accept()
            type(self).reader = asyncio.create_task(library["read_for_all"](self.events))
            await self.send("tick")

    consumer = a_class(First)

    async def main() -> None:
        await live_a_life(consumer)
        assert consumer.events == [1000]
        assert not consumer.reader.done()

    asyncio.run(main())


def test_task_factory_of_somebody_else_is_kept() -> None:
    made: list[str] = []

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **kwargs)

    class Plain(Ticking):
        async def connect(self) -> None:
            await self.accept()
            self.task = asyncio.create_task(self.tick("tick"))

    consumer = a_class(Plain)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await live_a_life(consumer)

    asyncio.run(main())
    assert "Ticking.tick" in made
    assert consumer.events == [1000, "ended"]


class Fetches:
    async def __call__(self, word: str, more: str = "") -> None:
        """Do nothing."""


def starting(start: Callable[[Any], object]) -> list[Any]:
    """Give what `start(consumer)` has returned in its `connect`, or what it has raised."""
    results: list[Any] = []

    class Starts(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            try:
                results.append(start(self))
            except (RuntimeError, TypeError) as error:
                results.append(str(error))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            results.append(len(self._children or ()))

        async def fetch(self, word: str, more: str = "") -> None:
            """Do nothing."""

    exchange(Starts.as_asgi(), WEBSOCKET, CONNECT, GONE)
    return results


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda self: self.start_soon(self.fetch("a")), r"write start_soon\(\S*fetch, \.\.\.\)"),
        (lambda self: self.start_soon(None), "takes an async function and its arguments, not None"),
        (lambda self: self.start_soon("fetch"), "and its arguments, not 'fetch'"),
        (lambda self: self.start_soon(len, "abc"), r"len has returned 3; .*\(sync_to_async\(len\)"),
        (lambda self: self.start_soon(self.fetch), "missing 1 required positional argument"),
    ],
)  # fmt: skip
def test_what_start_soon_cannot_start_is_told_where_it_is_called(
    start: Callable[[Any], object], words: str
) -> None:
    error, running = starting(start)
    assert re.search(words, error)
    assert running == 0


@pytest.mark.parametrize(
    "start",
    [
        lambda self: self.start_soon(self.fetch, "a", "b"),
        lambda self: self.start_soon(partial(self.fetch, "a", more="b")),
        lambda self: self.start_soon(Fetches(), "a"),
        lambda self: self.start_soon(partial(Fetches(), "a")),
        lambda self: self.start_soon(lambda: self.fetch("a")),
        lambda self: self.start_soon(sync_to_async(len), "abc"),
    ],
)
def test_whatever_returns_something_to_await_is_started(start: Callable[[Any], object]) -> None:
    child, _running = starting(start)
    assert isinstance(child, Child)


def test_task_that_is_cancelled_before_its_first_step_leaves_nothing() -> None:
    child, running = starting(
        lambda self: (made := self.start_soon(self.fetch, "a")).cancel() or made
    )
    assert isinstance(child, Child)
    assert running == 0


def test_coroutine_that_a_sync_consumer_is_given_is_closed() -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match=r"write start_soon\("):
        SyncConsumer().start_soon(fetch())  # type: ignore[arg-type]
