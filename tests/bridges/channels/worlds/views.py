"""Django's part of the project: views of both kinds, and `group_send` from everywhere."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from tests.bridges.channels.worlds.consumers import released

from greenroom.bridges.channels.layers import get_channel_layer


def where(request: HttpRequest) -> HttpResponse:
    """Tell the kind of thread, and whether its database works."""
    with connection.cursor() as cursor:
        cursor.execute("select 7")
        (seven,) = cursor.fetchone()
    kind = threading.current_thread().name.partition("-")[0]
    return HttpResponse(f"{request.method} {len(request.body)} bytes, {kind}, {seven}")


async def async_where(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    users = await User.objects.filter(username="nobody").acount()
    return HttpResponse(f"{request.method} {len(request.body)} bytes, {users} users")


def stream(request: HttpRequest) -> HttpResponseBase:
    def parts() -> Iterator[str]:
        yield from ("one ", "two ", "three")

    return StreamingHttpResponse(parts())


def log_in(request: HttpRequest) -> HttpResponse:
    user, _ = User.objects.get_or_create(username="ana")
    login(request, user)
    return HttpResponse("welcome")


def said(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.session.get("said")))


def release(request: HttpRequest, name: str) -> HttpResponse:
    future = released.pop(name)
    future.get_loop().call_soon_threadsafe(future.set_result, None)
    return HttpResponse("released")


def members(request: HttpRequest, group: str) -> HttpResponse:
    layer: Any = get_channel_layer()
    return HttpResponse(str(len(layer.groups.get(group, ()))))


def send(group: str, text: str) -> None:
    async_to_sync(get_channel_layer().group_send)(group, {"type": "chat.message", "text": text})


async def asend(group: str, text: str) -> None:
    await get_channel_layer().group_send(group, {"type": "chat.message", "text": text})


def in_thread(fn: Callable[..., Any], *args: Any) -> None:
    thread = threading.Thread(target=fn, args=args)
    thread.start()
    thread.join()


def from_view(request: HttpRequest, group: str) -> HttpResponse:
    send(group, "a sync view")
    return HttpResponse("sent")


async def from_async_view(request: HttpRequest, group: str) -> HttpResponse:
    await asend(group, "an async view")
    return HttpResponse("sent")


async def from_sync_to_async(request: HttpRequest, group: str) -> HttpResponse:
    await sync_to_async(send)(group, "sync_to_async in an async view")
    return HttpResponse("sent")


def from_thread(request: HttpRequest, group: str) -> HttpResponse:
    in_thread(send, group, "a plain thread")
    return HttpResponse("sent")


def from_loop(request: HttpRequest, group: str) -> HttpResponse:
    async def main() -> None:
        await asend(group, "a loop in a thread")

    in_thread(asyncio.run, main())
    return HttpResponse("sent")


def from_sync_under_loop(request: HttpRequest, group: str) -> HttpResponse:
    async def main() -> None:
        await sync_to_async(send)(group, "sync_to_async of a loop in a thread")

    in_thread(asyncio.run, main())
    return HttpResponse("sent")


def from_command(request: HttpRequest, group: str) -> HttpResponse:
    call_command("announce", group, "a management command")
    return HttpResponse("sent")


def from_fork(request: HttpRequest, group: str) -> HttpResponse:
    """Send from a forked child, which has a layer in memory of its own, and tell how it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(5)  # it must not hang
            send(group, "a forked child")
            async_to_sync(asend)(group, "a forked child")
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return HttpResponse(f"the child ended with {os.waitstatus_to_exitcode(status)}")


SENDERS = (
    from_view,
    from_async_view,
    from_sync_to_async,
    from_thread,
    from_loop,
    from_sync_under_loop,
    from_command,
    from_fork,
)

urlpatterns = [
    path("where/", where),
    path("async-where/", async_where),
    path("stream/", stream),
    path("login/", log_in),
    path("said/", said),
    path("release/<name>/", release),
    path("members/<group>/", members),
    *(path(f"send/<group>/{view.__name__}/", view) for view in SENDERS),
]
