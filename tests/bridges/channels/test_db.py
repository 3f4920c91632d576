"""Tests of `database_sync_to_async`, in each world: trio, the hosted loop, asyncio by itself."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar
from unittest import mock

import channels.db
import pytest
import trio
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from django.db import close_old_connections as djangos
from django.db import connection, connections, transaction
from tests.bridges.channels.serving import exchange, exchange_in_trio, query
from tests.django_project.models import Log

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels import db
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.db import (
    DatabaseSyncToAsync,
    aclose_old_connections,
    close_old_connections,
    database_sync_to_async,
)
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.threads import ThreadPool, run_sync

T = TypeVar("T")

TEST = {"type": "test", "path": "/"}


def in_trio(fn: Callable[[], Awaitable[T]]) -> T:
    return trio.run(fn)


def in_hosted(fn: Callable[[], Awaitable[T]]) -> T:
    async def main() -> Any:
        async with open_hosted_loop() as loop:
            return await loop.run_asyncio(fn)

    return trio.run(main)  # type: ignore[no-any-return]


def on_asyncio(fn: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await fn()

    return asyncio.run(main())


in_each_world = pytest.mark.parametrize("run", [in_trio, in_hosted, on_asyncio])


class Shop:
    """Something with methods to decorate."""

    stock = 3

    @database_sync_to_async
    def left(self, sold: int, *, spoilt: int = 0) -> int:
        """Count."""
        return self.stock - sold - spoilt


@database_sync_to_async
def whose() -> threading.Thread:
    return threading.current_thread()


@in_each_world
def test_it_decorates_functions_and_methods_and_wraps_callables(run: Any) -> None:
    async def main() -> None:
        assert await Shop().left(1, spoilt=1) == 1
        assert await database_sync_to_async(Shop().stock.__add__)(1) == 4
        assert await whose() is not threading.current_thread()
        with pytest.raises(LookupError, match="gone"):
            await database_sync_to_async(raises)()

    def raises() -> None:
        raise LookupError("gone")

    run(main)
    assert Shop.left.__name__ == "left"
    assert Shop.left.__doc__ == "Count."


@pytest.mark.parametrize("module", [db, channels.db])
def test_what_it_is_and_what_it_refuses_is_as_in_channels(module: Any) -> None:
    assert module.database_sync_to_async is module.DatabaseSyncToAsync
    assert issubclass(module.DatabaseSyncToAsync, SyncToAsync)
    assert module.close_old_connections is djangos

    async def coroutine_function() -> None: ...

    class Called:
        async def __call__(self) -> None: ...

    for wrong in (coroutine_function, Called(), 5, None):
        with pytest.raises(TypeError, match="can only be applied to sync functions"):
            module.database_sync_to_async(wrong)
    with pytest.raises(TypeError, match="executor must not be set when thread_sensitive is True"):
        module.database_sync_to_async(int, executor=ThreadPoolExecutor(1))
    with pytest.raises(TypeError):
        module.database_sync_to_async(thread_sensitive=False)
    assert asyncio.iscoroutinefunction(module.database_sync_to_async(int))


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@in_each_world
def test_context_goes_along_and_comes_back(run: Any) -> None:
    def change() -> str:
        before = variable.get()
        variable.set("from the thread")
        return before

    async def main() -> None:
        variable.set("from the task")
        assert await database_sync_to_async(change)() == "from the task"
        assert variable.get() == "from the thread"

    run(main)


@in_each_world
def test_context_of_its_own_is_used_and_not_merged(run: Any) -> None:
    own = contextvars.Context()

    def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    async def main() -> None:
        variable.set("of the task")
        assert await DatabaseSyncToAsync(change, context=own)() == "nothing"
        assert variable.get() == "of the task"

    run(main)
    assert own[variable] == "changed"


@in_each_world
def test_executor_is_used_where_the_thread_does_not_matter(run: Any) -> None:
    names: list[str] = []

    def name() -> str:
        names.append(threading.current_thread().name)
        return names[-1]

    with ThreadPoolExecutor(1, "mine") as executor:

        async def main() -> None:
            call = database_sync_to_async(name, thread_sensitive=False, executor=executor)
            assert (await call()).startswith("mine")
            assert not (await database_sync_to_async(name, thread_sensitive=False)()).startswith(
                "mine"
            )

        run(main)


@in_each_world
def test_old_connections_are_closed_around_each_call(database: None, run: Any) -> None:
    connected: list[bool] = []

    def count() -> int:
        connected.append(connection.connection is not None)
        return Log.objects.count()

    def close() -> None:
        connections.close_all()

    async def main() -> None:
        for _ in range(2):  # the project's CONN_MAX_AGE is 0
            assert await database_sync_to_async(count)() == 0
        await aclose_old_connections()
        await sync_to_async(close)() if run is not in_trio else None

    run(main)
    assert connected == [False, False]


def test_who_replaces_close_old_connections_is_asked() -> None:
    async def main() -> None:
        with mock.patch("greenroom.bridges.channels.db.close_old_connections") as close:
            await database_sync_to_async(int)()
            assert close.call_count == 2
            await aclose_old_connections()
            assert close.call_count == 3
            close_old_connections()
            assert close.call_count == 3

    asyncio.run(main())


@in_each_world
def test_async_to_sync_in_the_function_leads_back(run: Any) -> None:
    async def ask() -> threading.Thread:
        return threading.current_thread()

    def function() -> threading.Thread:
        return async_to_sync(ask)()

    async def main() -> None:
        async with open_hosted_loop() if run is in_trio else Nothing():
            home = await database_sync_to_async(function)()
        assert home is threading.current_thread()

    run(main)


class Nothing:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class Asks(AsyncConsumer):
    """Tells in which threads its database calls are made, and what they see."""

    seen: ClassVar[list[tuple[threading.Thread, int]]]

    async def look(self, message: dict[str, Any]) -> None:
        def look() -> tuple[threading.Thread, int]:
            return threading.current_thread(), Log.objects.count()

        self.seen.append(await database_sync_to_async(look)())
        self.seen.append((self.seen[-1][0], await Log.objects.acount()))

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


def test_calls_are_made_by_the_thread_that_waits_for_all_as_in_a_test_of_djangos(
    database: None,
) -> None:
    class Here(Asks):
        seen: ClassVar[list[tuple[threading.Thread, int]]] = []

    messages = [{"type": "look"}, {"type": "stop"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None: ...

    async def test_case() -> None:
        await Here.as_asgi()(TEST, receive, send)

    with transaction.atomic():
        Log.objects.create(type="only in this transaction")
        async_to_sync(test_case)()
        transaction.set_rollback(True)
    here = threading.current_thread()
    assert Here.seen == [(here, 1), (here, 1)]


class Polls(AsyncConsumer):
    """Has a task that outlives the handler that starts it, and every following one."""

    started: bool
    counts: "list[int]"

    async def begin(self, message: dict[str, Any]) -> None:
        self.counts = []
        self.counted = asyncio.Event()
        self.task = asyncio.create_task(self.poll())

    async def poll(self) -> None:
        while True:
            self.counts.append(await Log.objects.acount())
            self.counted.set()
            await asyncio.sleep(0)

    async def write(self, message: dict[str, Any]) -> None:
        await Log.objects.acreate(type="written")
        for _ in range(3):
            self.counted.clear()
            await self.counted.wait()

    async def stop(self, message: dict[str, Any]) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled()
        await self.send({"counts": self.counts})
        raise StopConsumer


POLLED = [{"type": kind} for kind in ("begin", "write", "write", "write", "stop")]


def test_task_of_a_consumer_reaches_the_database_after_its_handler(database: None) -> None:
    (message,) = exchange(Polls.as_asgi(), TEST, *POLLED)
    assert message["counts"][-1] == 3


async def test_task_of_a_consumer_does_so_in_a_trio_program(database: None) -> None:
    (message,) = await exchange_in_trio(Polls.as_asgi(), TEST, *POLLED)
    assert message["counts"][-1] == 3


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small pool, as that of the process."""
    pool = ThreadPool(2, spare=4, name="small")
    monkeypatch.setattr("greenroom.bridges.threads._default._pool", pool)
    yield pool
    pool.close()


class Quiet(AsyncConsumer):
    """Does what async consumers do, but for the database."""

    async def say(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        await self.send({"said": message["n"]})

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class TrioQuiet(Quiet):
    greenroom_flavour = "trio"

    async def say(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        await self.send({"said": message["n"]})


SAID: list[dict[str, Any]] = [*({"type": "say", "n": n} for n in range(5)), {"type": "stop"}]


def test_consumer_that_does_not_touch_the_database_takes_no_thread(pool: ThreadPool) -> None:
    before = threading.active_count()
    assert len(exchange(Quiet.as_asgi(), TEST, *SAID)) == 5
    assert pool.threads == 0
    assert threading.active_count() == before


@pytest.mark.parametrize("consumer", [Quiet, TrioQuiet])
async def test_consumer_in_a_trio_program_takes_no_thread_either(
    pool: ThreadPool, consumer: Any
) -> None:
    before = threading.active_count()
    assert len(await exchange_in_trio(consumer.as_asgi(), TEST, *SAID)) == 5
    assert pool.threads == 0
    assert threading.active_count() == before


async def test_only_the_handler_that_touches_the_database_takes_one(pool: ThreadPool) -> None:
    jobs: list[object] = []
    enqueue = pool.enqueue

    def count(job: Any) -> None:
        jobs.append(job)
        enqueue(job)

    pool.enqueue = count  # type: ignore[method-assign]

    class Once(Quiet):
        async def touch(self, message: dict[str, Any]) -> None:
            await database_sync_to_async(int)()
            await database_sync_to_async(int)()

    await exchange_in_trio(Once.as_asgi(), TEST, *SAID[:3], {"type": "touch"}, *SAID[3:])
    assert len(jobs) == 1
    assert pool.threads == 1


def test_functions_that_ask_each_other_from_asyncio_are_answered(pool: ThreadPool) -> None:
    def ask(more: int) -> int:
        async def answer() -> int:
            other = await run_sync(int, 7)
            return other + (await in_another(more - 1) if more else 0)

        return async_to_sync(answer)()

    async def in_another(more: int) -> int:
        # In a consumer's context of its own, and so in a thread of its own.
        messages: list[int] = []

        class Asked(AsyncConsumer):
            async def look(self, message: dict[str, Any]) -> None:
                messages.append(await database_sync_to_async(ask)(more))
                raise StopConsumer

        async def receive() -> Any:
            return {"type": "look"}

        async def send(message: Any) -> None: ...

        context = contextvars.Context()
        await asyncio.create_task(Asked()(TEST, receive, send), context=context)
        return messages[0]

    assert asyncio.run(asyncio.wait_for(in_another(3), 20)) == 4 * 7


class Keeps(SyncConsumer):
    """Keeps something in its thread."""

    pinned = True
    kept = threading.local()

    def keep(self, message: dict[str, Any]) -> None:
        self.kept.value = message["value"]

    def tell(self, message: dict[str, Any]) -> None:
        self.send({"kept": getattr(self.kept, "value", None)})

    def count(self, message: dict[str, Any]) -> None:
        self.send({"count": Log.objects.count(), "connected": connection.connection is not None})

    def open(self, message: dict[str, Any]) -> None:
        transaction.atomic().__enter__()
        Log.objects.create(type="lost")

    def fail(self, message: dict[str, Any]) -> None:
        raise LookupError

    def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class AsyncKeeps(AsyncConsumer):
    """The same, by database calls of async handlers."""

    pinned = True

    async def keep(self, message: dict[str, Any]) -> None:
        await database_sync_to_async(setattr)(Keeps.kept, "value", message["value"])

    async def tell(self, message: dict[str, Any]) -> None:
        kept = await database_sync_to_async(lambda: getattr(Keeps.kept, "value", None))()
        await self.send({"kept": kept})

    async def count(self, message: dict[str, Any]) -> None:
        await self.send({"count": await database_sync_to_async(Log.objects.count)()})

    async def open(self, message: dict[str, Any]) -> None:
        def write() -> None:
            transaction.atomic().__enter__()
            Log.objects.create(type="lost")

        await database_sync_to_async(write)()

    async def fail(self, message: dict[str, Any]) -> None:
        raise LookupError

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class TrioKeeps(AsyncKeeps):
    greenroom_flavour = "trio"


KEPT: list[dict[str, Any]] = [
    {"type": "keep", "value": 5},
    {"type": "tell"},
    {"type": "tell"},
    {"type": "stop"},
]


@pytest.mark.parametrize("consumer", [Keeps, AsyncKeeps, TrioKeeps])
async def test_pinned_consumer_has_one_thread_for_life(pool: ThreadPool, consumer: Any) -> None:
    app = consumer.as_asgi()
    for _ in range(3):
        assert await exchange_in_trio(app, TEST, *KEPT) == [{"kept": 5}, {"kept": 5}]
        assert pool.pinned == 0


@pytest.mark.parametrize("consumer", [Keeps, AsyncKeeps])
def test_pinned_consumer_on_asyncio_has_it_too(pool: ThreadPool, consumer: Any) -> None:
    assert exchange(consumer.as_asgi(), TEST, *KEPT) == [{"kept": 5}, {"kept": 5}]
    assert pool.pinned == 0


@pytest.mark.parametrize("consumer", [Keeps, AsyncKeeps, TrioKeeps])
async def test_crash_or_cancellation_of_a_pinned_consumer_gives_the_thread_back(
    pool: ThreadPool, consumer: Any
) -> None:
    with pytest.raises((LookupError, ExceptionGroup)):
        await exchange_in_trio(consumer.as_asgi(), TEST, KEPT[0], {"type": "fail"})
    assert pool.pinned == 0
    told = trio.Event()

    async def receive() -> Any:
        if not told.is_set():
            return {"type": "tell"}
        return await trio.sleep_forever()

    async def send(message: Any) -> None:
        told.set()

    with trio.fail_after(10):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            nursery.start_soon(consumer.as_asgi(), TEST, receive, send)
            await told.wait()
            assert pool.pinned == 1
            nursery.cancel_scope.cancel()
    assert pool.pinned == 0
    assert await run_sync(int) == 0


@pytest.mark.parametrize("consumer", [Keeps, AsyncKeeps, TrioKeeps])
async def test_pinned_consumers_handlers_are_guarded_one_by_one(
    pool: ThreadPool, database: None, consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent = await exchange_in_trio(
        consumer.as_asgi(), TEST, {"type": "open"}, {"type": "count"}, {"type": "stop"}
    )
    assert sent[0]["count"] == 0
    (record,) = caplog.records
    assert "was left open by" in record.getMessage()
    assert await query(Log.objects.count) == 0


class Calls(AsyncConsumer):
    """A transaction over several calls, in one handler; `leave` forgets to end it."""

    async def call(self, message: dict[str, Any]) -> None:
        whole = transaction.atomic()
        await database_sync_to_async(whole.__enter__)()
        await database_sync_to_async(Log.objects.create)(type="kept")
        await database_sync_to_async(whole.__exit__)(None, None, None)

    async def leave(self, message: dict[str, Any]) -> None:
        await database_sync_to_async(transaction.set_autocommit)(False)
        await database_sync_to_async(Log.objects.create)(type="lost")

    async def leave_in_sql(self, message: dict[str, Any]) -> None:
        await database_sync_to_async(self.begin)()
        await database_sync_to_async(Log.objects.create)(type="lost")

    def begin(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


@pytest.mark.parametrize("leave", ["leave", "leave.in.sql"])
def test_transaction_goes_on_over_the_calls_of_a_handler_and_no_further(
    leave: str, database: None, caplog: pytest.LogCaptureFixture
) -> None:
    exchange(Calls.as_asgi(), TEST, *({"type": kind} for kind in ("call", leave, "call", "stop")))
    assert [log.type for log in Log.objects.all()] == ["kept", "kept"]
    (record,) = caplog.records
    assert f"was left open by Calls, test /, handling {leave!r}" in record.getMessage()


async def test_consumer_for_which_there_is_no_thread_to_pin_fails_and_says_why(
    pool: ThreadPool,
) -> None:
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        told = trio.Event()

        async def receive() -> Any:
            return await trio.sleep_forever() if told.is_set() else {"type": "tell"}

        async def send(message: Any) -> None:
            told.set()

        nursery.start_soon(Keeps.as_asgi(), TEST, receive, send)
        await told.wait()
        told = trio.Event()
        with pytest.RaisesGroup(
            pytest.RaisesExc(Exception, match="of the 2 threads of the pool"),
            flatten_subgroups=True,
            allow_unwrapped=True,
        ):
            await Keeps.as_asgi()(TEST, receive, send)
        assert await run_sync(int) == 0  # and the rest goes on
        nursery.cancel_scope.cancel()


def test_handler_may_be_called_pinned() -> None:
    class Pins(AsyncConsumer):
        async def pinned(self, message: dict[str, Any]) -> None:  # type: ignore[override]
            await self.send({"was": "pinned"})

    with pytest.raises(ValueError, match="No handler"):
        exchange(Quiet.as_asgi(), TEST, {"type": "pinned"})
    assert exchange(Pins.as_asgi(), TEST, {"type": "pinned"}, {"type": "websocket.disconnect"}) == [
        {"was": "pinned"}
    ]
