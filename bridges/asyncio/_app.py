"""Awaiting an ASGI application in the flavour it speaks, from the flavour that runs.

| running      | it speaks trio       | it speaks asyncio | it speaks both |
| ------------ | -------------------- | ----------------- | -------------- |
| trio         | await                | hosted loop, task | await          |
| hosted loop  | trio task            | await             | await          |
| another loop | guest run, trio task | await             | await          |
| a guest run  | await                | its loop, task    | await          |
"""

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any

import trio

from ...runtime import App, Receive, Scope, Send
from ...runtime._errors import ApplicationExited
from ...runtime.flavours import flavour_of, speaks
from ...runtime.restarting import carry_mark
from ...runtime.scopes import ScopeActor
from ._crossings import wait_future
from ._guest import visit_trio
from ._lasting import lasting_hosted_loop
from ._loop import HostedLoop, current_hosted_loop
from ._outer import OuterLoop
from ._receiver import Receiver
from ._scope import HostedScope
from ._tasks import note_owners, run_owner


def call_app(app: App, scope: Scope, receive: Receive, send: Send) -> Awaitable[object]:
    """Await `app(scope, receive, send)`, whatever it speaks and whatever runs here.

    A plain function, since routers stand many levels deep and each level that waits is
    memory for every open connection. An asyncio application under trio runs in a copy of
    the caller's context, as one task that owns every task it creates: those are cancelled
    and awaited at its end. Where the trio program hosts no loop, one is opened, and stays
    until the program ends. A trio application on a loop of another server runs in a trio
    run that is that loop's guest, for as long as one of its scopes needs it.

    Raises:
        NoHostedLoop: the application speaks the other flavour, and nothing leads there: trio
            cannot host a loop, or is the guest of another loop of this thread.
        TaskCancelled: the application cancelled its own asyncio task.
    """
    flavour = flavour_of(app)
    if trio.lowlevel.in_trio_task():
        if flavour == "asyncio":
            return _call_in_asyncio(app, scope, receive, send)
    elif flavour == "trio":
        return _call_in_trio(app, scope, receive, send)
    return app(scope, receive, send)


async def _call_in_asyncio(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await trio.lowlevel.checkpoint_if_cancelled()
    loop = current_hosted_loop()
    if loop is None:
        loop = await lasting_hosted_loop()
    await wait_future(_start_in_asyncio(loop, app, scope, receive, send))


def _start_in_asyncio(
    loop: HostedLoop | OuterLoop, app: App, scope: Scope, receive: Receive, send: Send
) -> "asyncio.Future[object]":
    if isinstance(loop, OuterLoop):
        note_owners(loop.loop)
    hosted: HostedScope | None = None
    source = scope_actor_of(receive)
    if source is not None:
        hosted = HostedScope(source, loop.loop)
        receive = hosted.receive
    elif not _speaks_both(receive):
        receive = partial(loop.run_trio, receive)
    source = scope_actor_of(send)
    if source is not None:
        if hosted is None or hosted.source is not source:
            hosted = HostedScope(source, loop.loop)
        send = hosted.send
    elif not _speaks_both(send):
        send = partial(loop.run_trio, send)
    return loop.create_task(run_owner(app, scope, receive, send))


async def _call_in_trio(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    loop = asyncio.get_running_loop()
    if isinstance(loop, HostedLoop):
        await _cross_to_trio(app, scope, receive, send, loop)
        return
    try:
        await visit_trio(partial(_cross_to_trio, app, scope, receive, send))
    except SystemExit as error:
        # asyncio would end its loop, and the server with it.
        raise ApplicationExited(error.code) from error


async def _cross_to_trio(
    app: App, scope: Scope, receive: Receive, send: Send, loop: HostedLoop | OuterLoop
) -> None:
    send = _send_in_trio(loop, send)
    direct = _direct_receive(receive)
    if direct is not None:
        await loop.run_trio(app, scope, direct, send)
        return
    receiver = Receiver(loop, receive)
    try:
        await loop.run_trio(app, scope, receiver.receive, send)
    finally:
        await receiver.aclose()


def scope_actor_of(method: Any) -> ScopeActor | None:
    """Give the actor if `method` is its own `receive` or `send`, None if it is wrapped."""
    owner = getattr(method, "__self__", None)
    if isinstance(owner, ScopeActor) and method in (owner.receive, owner.send):
        return owner
    return None


def _speaks_both(method: Any) -> bool:
    """Tell whether a `receive` or `send` has said that it needs no crossing."""
    return getattr(method, "greenroom_flavour", None) == "both"


def _direct_receive(receive: Receive) -> Receive | None:
    """Give what trio code may await in place of `receive`, None if it has to cross over."""
    owner = getattr(receive, "__self__", None)
    if isinstance(owner, HostedScope) and receive == owner.receive:
        return owner.source.receive
    return receive if _speaks_both(receive) or scope_actor_of(receive) is not None else None


def _send_in_trio(loop: HostedLoop | OuterLoop, send: Send) -> Send:
    owner = getattr(send, "__self__", None)
    if isinstance(owner, HostedScope) and send == owner.send:
        return owner.source.send
    if _speaks_both(send) or scope_actor_of(send) is not None:
        return send
    return partial(loop.run_asyncio, send)


def hosted(app: App) -> App:
    """Make of any application one that the runtime may await in trio.

    One that speaks trio or both is given back as it is.
    """
    if flavour_of(app) != "asyncio":
        return app

    @speaks("trio")
    async def hosted_app(scope: Scope, receive: Receive, send: Send) -> None:
        await _call_in_asyncio(app, scope, receive, send)

    return carry_mark(app, hosted_app)


def anywhere(app: App) -> App:
    """Make of any application one that every server may await, under trio or asyncio.

    One that speaks both is given back as it is. uvicorn and its like know nothing of what an
    application speaks; routers of Greenroom do, and call each route in its own way.
    """
    if flavour_of(app) == "both":
        return app

    @speaks("both")
    async def app_for_both(scope: Scope, receive: Receive, send: Send) -> None:
        await call_app(app, scope, receive, send)

    return carry_mark(app, app_for_both)
