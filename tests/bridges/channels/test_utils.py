"""Tests of the small helpers: database calls, middleware, and what packages import."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest
import trio
from tests.bridges.channels.serving import exchange, exchange_in_trio, query
from tests.django_project.models import Log

from greenroom.bridges.asyncio import call_app
from greenroom.bridges.channels.db import aclose_old_connections, database_sync_to_async
from greenroom.bridges.channels.middleware import BaseMiddleware
from greenroom.bridges.channels.utils import await_many_dispatch, name_that_thing

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour")


@database_sync_to_async
def write(kind: str) -> int:
    colour.set("red")
    Log.objects.create(type=kind)
    return threading.get_ident()


def test_database_function_is_awaited_on_asyncio(database: None) -> None:
    async def main() -> int:
        thread: int = await write("a")
        assert colour.get() == "red"
        await aclose_old_connections()
        return thread

    assert asyncio.run(main()) != threading.get_ident()
    assert Log.objects.get().type == "a"


async def test_database_function_is_awaited_in_trio(database: None) -> None:
    assert await write("a") != threading.get_ident()
    assert colour.get() == "red"
    assert await query(Log.objects.count) == 1


def test_database_function_cannot_be_a_coroutine_function() -> None:
    async def function() -> None: ...

    with pytest.raises(TypeError, match="can only be applied to sync functions"):
        database_sync_to_async(function)


async def tell_scope(scope: Any, receive: Any, send: Any) -> None:
    scope["mine"] = True
    await send(dict(scope))


def test_middleware_passes_a_copy_of_the_scope_on() -> None:
    scope = {"type": "test"}
    assert exchange(BaseMiddleware(tell_scope), scope) == [{"type": "test", "mine": True}]
    assert scope == {"type": "test"}


async def test_middleware_of_a_user_is_awaited_under_asyncio_unless_it_says_trio() -> None:
    flavours: list[bool] = []

    class Users(BaseMiddleware):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            flavours.append(trio.lowlevel.in_trio_task())
            return await super().__call__(scope, receive, send)

    class Trios(Users):
        greenroom_flavour = "trio"

    for middleware in (Users(tell_scope), Trios(tell_scope)):

        async def app(scope: Any, receive: Any, send: Any, middleware: Any = middleware) -> None:
            await call_app(middleware, scope, receive, send)

        assert (await exchange_in_trio(app, {"type": "test"}))[0]["mine"]
    assert flavours == [False, True]


def test_many_callables_are_awaited_and_their_results_dispatched() -> None:
    got: list[int] = []

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def numbers() -> int:
            await asyncio.sleep(0)
            return 1

        def from_queue() -> Any:
            return asyncio.ensure_future(queue.get())  # an awaitable that is no coroutine

        async def dispatch(number: int) -> None:
            got.append(number)
            if number == 2:
                raise StopAsyncIteration
            if len(got) == 3:
                queue.put_nowait(2)

        await await_many_dispatch([numbers, from_queue], dispatch)

    with pytest.raises(StopAsyncIteration):
        asyncio.run(main())
    assert got[:3] == [1, 1, 1]
    assert got[-1] == 2


def test_things_have_names() -> None:
    assert name_that_thing(trio.Event) == "trio.Event"
    assert name_that_thing(BaseMiddleware(tell_scope)) == (
        "greenroom.bridges.channels.middleware.BaseMiddleware"
    )
