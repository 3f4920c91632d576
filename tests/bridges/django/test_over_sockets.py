"""Django's pages on Greenroom's server: what only a socket can show."""

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.utils import translation
from tests.bridges.django.exchange import Pages

from greenroom.bridges.asyncio import serve
from greenroom.bridges.django.asgi import get_asgi_application
from greenroom.runtime import open_tcp

Talk = Callable[[trio.SocketStream], Any]


def serve_and_talk(pages: Pages, talk: Talk) -> None:
    """Serve a project, and `await talk(...)` over a connection to it."""

    async def main() -> None:
        listeners = open_tcp("127.0.0.1", 0)
        address = listeners[0].getsockname()
        async with trio.open_nursery() as nursery:
            await nursery.start(start, listeners)
            with trio.fail_after(20):
                async with await trio.open_tcp_stream(*address) as stream:
                    await talk(stream)
            nursery.cancel_scope.cancel()

    async def start(
        listeners: Any, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await serve(get_asgi_application(), listeners=listeners, task_status=task_status)

    with override_settings(ROOT_URLCONF=pages, MIDDLEWARE=[]):
        trio.run(main)


async def response_to(stream: trio.SocketStream, request: bytes) -> bytes:
    """Send one request that ends its connection, and read the whole answer."""
    await stream.send_all(request)
    answer = b""
    async for part in stream:
        answer += part
    return answer


def wait_in_thread(event: threading.Event) -> Any:
    return trio.to_thread.run_sync(event.wait, 20)


def test_a_chunked_body_reaches_the_view_whole() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        answer = await response_to(
            stream,
            b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
        )
        assert answer.endswith(b"\r\n\r\n7 abcdefg")

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(b"7 " + request.read())

    serve_and_talk(Pages(path("", view)), talk)


def test_pipelined_requests_are_answered_in_order_with_a_context_each() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        before = translation.get_language()
        translation.activate("fr")
        return HttpResponse(f"{request.GET['n']}:{before};")

    async def talk(stream: trio.SocketStream) -> None:
        requests = [f"GET /?n={n} HTTP/1.1\r\nHost: localhost\r\n" for n in range(3)]
        requests[-1] += "Connection: close\r\n"
        answer = await response_to(stream, "".join(f"{each}\r\n" for each in requests).encode())
        places = [answer.index(f"{n}:en-us;".encode()) for n in range(3)]
        assert places == sorted(places)

    serve_and_talk(Pages(path("", view)), talk)


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_stream_waits_for_a_client_that_does_not_read_and_ends_when_it_leaves(
    flavour: str,
) -> None:
    made: list[int] = []
    closed = threading.Event()

    def content() -> Iterator[bytes]:
        try:
            while True:
                made.append(len(made))
                yield b"x" * 65536
        finally:
            closed.set()

    def view(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(content())

    async def async_view(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(content())

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stream.receive_some()
        # The kernel's buffers hold some 10 MB; what is made beyond that would pile up here.
        host, port = stream.socket.getpeername()
        other = await trio.open_tcp_stream(host, port)
        for _ in range(300):
            await other.send_all(b"GET /other/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await other.receive_some()).endswith(b"other")
        assert len(made) < 400
        await other.aclose()
        await stream.aclose()
        assert await wait_in_thread(closed)
        assert len(made) < 400

    def other(request: HttpRequest) -> HttpResponse:
        return HttpResponse("other")

    page = view if flavour == "sync" else async_view
    serve_and_talk(Pages(path("", page), path("other/", other)), talk)


def test_an_async_view_is_cancelled_when_its_client_leaves() -> None:
    started = threading.Event()
    cancelled = threading.Event()

    async def view(request: HttpRequest) -> HttpResponse:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return HttpResponse()

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await wait_in_thread(started)
        await stream.aclose()
        assert await wait_in_thread(cancelled)

    serve_and_talk(Pages(path("", view)), talk)


def test_a_view_whose_client_left_meanwhile_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    started = threading.Event()
    left = threading.Event()

    def view(request: HttpRequest) -> HttpResponse:
        started.set()
        left.wait(20)
        return HttpResponse("x")

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await wait_in_thread(started)
        await stream.aclose()
        left.set()

    serve_and_talk(Pages(path("", view)), talk)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_many_slow_async_views_wait_at_once_and_many_sync_views_in_ten_threads() -> None:
    names: set[str] = set()
    waiting = 0
    all_there = asyncio.Event()

    def view(request: HttpRequest) -> HttpResponse:
        names.add(threading.current_thread().name)
        return HttpResponse("sync")

    async def async_view(request: HttpRequest) -> HttpResponse:
        nonlocal waiting
        waiting += 1
        if waiting == 30:
            all_there.set()
        await all_there.wait()
        return HttpResponse("async")

    async def talk(stream: trio.SocketStream) -> None:
        host, port = stream.socket.getpeername()

        def get(target: str) -> None:
            connection = http.client.HTTPConnection(host, port, timeout=20)
            connection.request("GET", target)
            got.append(connection.getresponse().read())
            connection.close()

        got: list[bytes] = []
        limiter = trio.CapacityLimiter(60)
        async with trio.open_nursery() as nursery:
            for target in ["/", "/async/"] * 30:
                nursery.start_soon(partial(trio.to_thread.run_sync, get, target, limiter=limiter))
        assert sorted(got) == [b"async"] * 30 + [b"sync"] * 30

    serve_and_talk(Pages(path("", view), path("async/", async_view)), talk)
    assert len(names) <= 10
