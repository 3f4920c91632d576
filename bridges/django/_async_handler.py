"""Django's asynchronous chain, and content that is produced asynchronously: both for asyncio.

Django's own ASGI handler does this well but for four habits, mended here: it collects a
synchronous stream in memory, whole, before it sends the first byte; it makes a thread for
each request, with a database connection that no later request uses; and of a request that
is cancelled it does not close the body, and lets the view run on.

Imports the bridge to threads, for those.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import IO, Any, Final, TypeAlias, cast, final

from asgiref.sync import sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from ...runtime import Receive, Scope, describe
from ..asyncio._tasks import AnyTask, end_tasks
from ..threads import Lease, ThreadPool, default_pool
from ._messages import ClientLeft, read_body, telling
from .database import database_guard

END: Final = object()

MOST_REQUESTS: Final = 1000  # answered at once; each keeps a thread, nearly always idle

# Django's own names for what `runtime` calls Receive and Send; they promise to change no message.
DjangoReceive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
DjangoSend: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]


@final
class AsyncHandler(ASGIHandler):
    """An ASGI application, for asyncio, that runs Django's asynchronous chain.

    A request takes a thread at its first blocking call, which Django makes for each, and
    keeps it to its end: what is begun in a transaction, or read from a cursor, has to go
    on in the same thread. So these threads are not those of synchronous views, which
    would have to wait for whoever streams events for hours.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPool(default_pool().size, spare=MOST_REQUESTS, name="greenroom-async")

    async def __call__(self, scope: Scope, receive: DjangoReceive, send: DjangoSend) -> None:
        """Answer one request."""
        reading = _Reading(receive)
        tasks = _Tasks()
        _tasks.set(tasks)
        try:
            guard = partial(database_guard, partial(describe, scope))
            async with Lease(self._threads, around=guard):
                try:
                    await self.handle(scope, reading, send)
                finally:
                    await tasks.end()
        finally:
            if reading.body is not None:
                reading.body.close()

    async def listen_for_disconnect(self, receive: Any) -> None:
        """Raise `RequestAborted` when the client has left; one of Django's two tasks."""
        _note_task()
        await super().listen_for_disconnect(receive)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Call middleware and view; the other of the two."""
        _note_task()
        return await super().run_get_response(request)

    async def read_body(self, receive: Any) -> IO[bytes]:
        """Read a request's whole body; `receive` keeps it, to be closed however it ends."""
        receive.body = await read_body(receive)
        return cast("IO[bytes]", receive.body)

    async def send_response(self, response: HttpResponseBase, send: DjangoSend) -> None:
        """Send a response; a synchronous stream one part at a time, as the client reads."""
        if isinstance(response, StreamingHttpResponse) and not response.is_async:
            response.streaming_content = _one_by_one(iter(response))
        with suppress(ClientLeft):
            await super().send_response(response, telling(send))


@final
class _Tasks:
    """The tasks that Django has made for one request, which it forgets when it is cancelled.

    Django 6 makes only one, in a group, and calls the view in the task that called it.
    """

    def __init__(self) -> None:
        self._own = asyncio.current_task()
        self._started: set[AnyTask] = set()
        self._over = False

    def note(self, task: AnyTask) -> None:
        if self._over:  # it takes its first step only now
            raise asyncio.CancelledError
        if task is not self._own:
            self._started.add(task)

    async def end(self) -> None:
        self._over = True
        await end_tasks(self._started)
        for task in self._started:
            if not task.cancelled():
                task.exception()  # Django has seen it, or wants to know no more


_tasks: ContextVar[_Tasks | None] = ContextVar("greenroom_tasks_of_django", default=None)


def _note_task() -> None:
    task, tasks = asyncio.current_task(), _tasks.get()
    if tasks is not None and task is not None:
        tasks.note(task)


@final
class _Reading:
    """A request's `receive`, and the body that was read from it."""

    def __init__(self, receive: DjangoReceive) -> None:
        self._receive = receive
        self.body: IO[bytes] | None = None

    async def __call__(self) -> Mapping[str, Any]:
        return await self._receive()


async def _one_by_one(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    take: Any = sync_to_async(next)
    while (part := await take(parts, END)) is not END:
        yield part


@final
class AsyncContent:
    """An ASGI application, for asyncio, that sends one response whose content is asynchronous.

    Its content ends early, by cancellation, when the client leaves.
    """

    def __init__(self, response: StreamingHttpResponse, handler: ASGIHandler) -> None:
        self._response = response
        self._handler = handler

    async def __call__(self, _scope: Scope, receive: Receive, send: DjangoSend) -> None:
        """Send the response, or as much of it as the client waits for."""
        handler = self._handler
        sending = asyncio.ensure_future(handler.send_response(self._response, telling(send)))
        leaving = asyncio.ensure_future(handler.listen_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            ends = await asyncio.gather(sending, leaving, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, ClientLeft | RequestAborted):
                raise end
