"""Django's synchronous chain as an ASGI application: one request, one leased thread.

Signals, middleware, view, template, database and the end of the response all run in one
thread, start to finish; with Django's own ASGI handler each of them that is synchronous
is a trip to another thread and back. What waits for the client is left outside: the
request's body is read before a thread is leased, and a finished response is sent after
the thread is free again. Only a response that streams keeps its thread while it is sent.

Imports the bridges to threads and to asyncio: a view needs the one, and the content of a
`StreamingHttpResponse` may need the other.
"""

import asyncio
from functools import partial
from typing import IO, Any, cast, final

import trio
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import FileResponse, StreamingHttpResponse
from django.urls import set_script_prefix

from ...runtime import App, Message, Receive, Scope, Send, describe
from ..asyncio import call_app
from ..threads import call_home, run_sync
from ._async_handler import AsyncContent
from ._messages import ClientLeft, read_body, response_start, telling
from .database import database_guard


class SyncChain(ASGIHandler):
    """The middleware and the views, called synchronously as under WSGI, with ASGI's requests."""

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002 -- never
        """Build the chain for synchronous calls, though the class above asks for the other."""
        super().load_middleware(is_async=False)


@final
class SyncHandler:
    """An ASGI application that answers each request within one leased thread.

    May be awaited under trio and under asyncio. A view or a middleware that is async is
    run by way of `async_to_sync`, which keeps the thread waiting: right, but costly.
    """

    greenroom_flavour = "both"

    def __init__(self, chain: ASGIHandler) -> None:
        self._chain = chain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one whose client left before its body was there is dropped."""
        try:
            body = await read_body(receive)
        except RequestAborted:
            return
        client = _Client(receive, send)
        guard = partial(database_guard, partial(describe, scope))
        try:
            reply = await run_sync(self._respond, scope, body, client, around=guard)
        finally:
            client.forget()
            body.close()
        if isinstance(reply, StreamingHttpResponse):
            try:
                content = cast("App", AsyncContent(reply, self._chain))
                await call_app(content, scope, receive, send)
            finally:
                await run_sync(reply.close, around=guard)
        else:
            for message in reply:
                await send(message)

    def _respond(
        self, scope: Scope, body: IO[bytes], client: "_Client"
    ) -> tuple[Message, ...] | StreamingHttpResponse:
        """Run Django, in the leased thread, and give what is still to be sent.

        That is two messages, or none if the content was streamed from here, or the whole
        response if its content is asynchronous.
        """
        chain = self._chain
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=type(chain), scope=scope)
        request, refusal = chain.create_request(scope, body)
        response: Any = refusal if request is None else chain.get_response(request)
        response._handler_class = type(chain)  # the sender of `request_finished`
        if response.streaming and response.is_async:
            return cast("StreamingHttpResponse", response)
        try:
            start = response_start(response)
            if not response.streaming:
                return start, {"type": "http.response.body", "body": response.content}
            if isinstance(response, FileResponse):
                response.block_size = chain.chunk_size
            self._stream(response, start, client)
            return ()
        finally:
            response.close()

    def _stream(self, response: StreamingHttpResponse, start: Message, client: "_Client") -> None:
        """Send the content as it comes, at the pace at which the client reads."""
        try:
            call_home(client.send, start)
            for part in response:
                for chunk, _ in self._chain.chunk_bytes(part):
                    message = {"type": "http.response.body", "body": chunk, "more_body": True}
                    call_home(client.send, message)
            call_home(client.send, {"type": "http.response.body"})
        except ClientLeft:
            pass


@final
class _Client:
    """Where a stream is sent to.

    Greenroom's server tells by an `OSError` of `send` that the client has left, as ASGI 2.4
    says. Servers of asyncio that ignore what is sent then are asked by way of `receive`.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = telling(send)
        self._leaving: asyncio.Future[Message] | None = None

    async def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            ClientLeft: nobody is there to read it.
        """
        if self._leaving is not None:
            if self._leaving.done():
                raise ClientLeft
        elif not trio.lowlevel.in_trio_task():
            self._leaving = asyncio.ensure_future(self._receive())
        await self._send(message)

    def forget(self) -> None:
        """Stop asking whether the client has left."""
        if self._leaving is not None:
            self._leaving.cancel()
