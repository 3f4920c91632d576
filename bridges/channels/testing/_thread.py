"""A thread for each request to an application under test, such as Django's own handler.

Django's `get_asgi_application` has asgiref run what is synchronous in one request in one
thread, made for that. No loan of a test's connections would reach that thread, and a
connection that outlives its request (`CONN_MAX_AGE`) would be left open there, so that the
test's database could not be deleted. So the request brings a thread along that borrows, and
that is tidied up at its end. Consumers, and Greenroom's handler, have threads of their own.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from ....runtime import App, Receive, Scope, Send
from ....runtime.flavours import flavour_of, speaks
from ....runtime.restarting import carry_mark
from ...django.database import database_guard
from ...threads import Lease, ThreadPool
from ...threads._asgiref import OfferedExecutor


@asynccontextmanager
async def thread_of_its_own(scope: Scope) -> AsyncIterator[None]:
    """If `scope` is a request: give its thread-sensitive calls a thread, while the block runs."""
    if scope.get("type") != "http":  # a test may leave it out
        yield
        return
    pool = ThreadPool(1, name="greenroom-request")  # so that it waits for nobody else's
    try:
        async with Lease(pool, around=database_guard) as lease:
            with _offered(lease):
                yield
    finally:
        pool.close()


@contextmanager
def _offered(lease: Lease) -> Iterator[None]:
    """In trio: offer the thread of `lease` to what is called on the hosted loop."""
    if not trio.lowlevel.in_trio_task():  # it has done so by itself
        yield
        return
    executor = OfferedExecutor(lease)
    try:
        yield
    finally:
        executor.withdraw()


def with_threads_of_their_own(app: App) -> App:
    """Wrap `app`, so that each request has a thread of its own."""

    @speaks(flavour_of(app))
    async def with_thread(scope: Scope, receive: Receive, send: Send) -> object:
        async with thread_of_its_own(scope):
            return await app(scope, receive, send)

    return carry_mark(app, with_thread)
